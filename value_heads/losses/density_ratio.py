"""Learning from positives alone: the bin that a return fell into was right, of the others nothing is known.

Dimensions: B batch, m bins.
"""

import math

from torch import Tensor
from torch.nn import functional

from value_heads.base import Draws
from value_heads.losses.base import ClassificationLoss


class PositiveUnlabeled(ClassificationLoss):
    """Of row i: sum_k p_ik ((1 - pin) log mean_j s_jk - log s_ik) + pin sum_k s_ik with s = sigmoid(l). Batch-coupled.

    Without a pin the mean over a batch is sum_k pi_k log mean_j s_jk - mean_i sum_k p_ik log s_ik, pi = mean_i p_i: a
    variational bound on what a state tells of its bin. A bin competes with itself in other states and not with other
    bins, so s is learned up to a factor per bin: s_k(x) = c_k P(k | x). The pin adds c_k - log c_k for each bin, which
    keeps the factors at 1 and changes nothing else. So the link is s / sum s, and no running means of s and of the
    shares pi are needed to correct it. A pin of 1 decouples the batch.

    The log of a mean over few rows is too low on average: small batches are biased towards what is common. The mean
    knows nothing of importance weights, so replay should be uniform.

    The source weighs bins by (mean s)^gamma; that is calibrated for gamma = 0 alone, which is the loss here. It
    derives a temperature from the batch, and adds mixup. The shares pi and the pin are ours.

    Args:
        pin: in (0, 1].

    Source: PU-MLC (2306.16016), "Positive Label Is All You Need for Multi-Label Classification", after VPU.
    """

    paper = "2023, 2306.16016"
    couples_batch = True

    def __init__(self, *, pin: float = 0.5):
        super().__init__()
        if not 0 < pin <= 1:
            raise ValueError(f"pin must be in (0, 1], got {pin}")
        self.pin = pin

    def probs(self, logits: Tensor) -> Tensor:
        return functional.logsigmoid(logits).softmax(-1)

    def logits(self, probs: Tensor) -> Tensor:
        return probs.logit()

    def forward(self, logits: Tensor, target: Tensor, *, draws: Draws | None = None) -> Tensor:
        return density_ratio(functional.logsigmoid(logits), target, self.pin)


def density_ratio(log_s: Tensor, target: Tensor, pin: float) -> Tensor:
    """The loss of each row, from log s and target masses, [B, m] both: [B]."""
    log_mean = log_s.logsumexp(0) - math.log(len(log_s))
    return (target * ((1 - pin) * log_mean - log_s) + pin * log_s.exp()).sum(-1)
