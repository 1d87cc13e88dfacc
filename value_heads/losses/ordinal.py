"""One binary classifier per inner edge of the bins: is the return above it?

Classifier k = 1 .. m - 1 is asked t_k = P(Z > bin k) = sum_{j > k} p_j. The masses of bins are differences of
neighbouring answers: they sum to 1, and are negative where classifiers disagree about the order, which leaves the mean
calibrated.

Dimensions: B batch, m bins.
"""

import torch
from torch import Tensor
from torch.nn import functional

from value_heads.base import Draws
from value_heads.losses.base import ClassificationLoss


def above(target: Tensor) -> Tensor:
    """t_k = sum_{j > k} p_j of probabilities [..., m]: [..., m - 1]."""
    return target.flip(-1).cumsum(-1).flip(-1)[..., 1:].clamp(max=1.0)


class OrdinalBinaryCrossEntropy(ClassificationLoss):
    """One binary classifier per inner edge: sum_k BCE(sigmoid(l_k), t_k) with t_k = P(Z > bin k) = sum_{j>k} p_j.

    m - 1 logits. The bins' probabilities are differences of neighbouring sigmoids: they sum to 1, and may be
    negative where the classifiers disagree about the order, which leaves the mean calibrated.
    Source: ordinal regression by binary decompositions (Frank & Hall 2001); as a value loss, ours.
    """

    paper = "2001"

    def num_logits(self, num_bins: int) -> int:
        return num_bins - 1

    def probs(self, logits: Tensor) -> Tensor:
        return -torch.diff(functional.pad(functional.pad(logits.sigmoid(), (1, 0), value=1.0), (0, 1)))

    def logits(self, probs: Tensor) -> Tensor:
        below = probs.cumsum(-1)[..., :-1]
        return probs.flip(-1).cumsum(-1).flip(-1)[..., 1:].log() - below.log()

    def forward(self, logits: Tensor, target: Tensor, *, draws: Draws | None = None) -> Tensor:
        return functional.binary_cross_entropy_with_logits(logits, above(target), reduction="none").sum(-1)


class ClassBalancedBCE(OrdinalBinaryCrossEntropy):
    """Ordinal BCE in which the rarer answer of each classifier weighs more, and neighbours are to err alike.

    sum_k [w_k t_k softplus(-f_k) + (1 - t_k) softplus(f_k)] + c sum_k ((u_k - t_k) - (u_{k+1} - t_{k+1}))^2

    with w_k = (share of 0) / (share of 1) of classifier k, within [1 / max_weight, max_weight], and u = sigmoid(l).
    A weight on the positives shifts the odds by w, so the classifier's logit is l_k = f_k - log w_k: the network gives
    l, of which sigmoid is the calibrated link whatever the weights are, and the gradient of the first sum in l is
    (u - t) w / (w u + 1 - u). Shares are those of the *others* in the batch, so that a weight knows nothing of the
    label that it is for: then the mean is learned for any weights, and there is no state. In the second sum neighbours
    are correlated in their errors, not in their answers, whose difference is the mass of a bin: to pull that to 0
    would be biased. Both are ours, as is the whole: the equations and weights of the source were not found, only its
    three parts (class weights, a label-correlation matrix, a contrastive term, which is an auxiliary and not here).

    Args:
        max_weight: at least 1.
        correlation: c.

    Source: the parts of a hybrid loss for multi-label classification of Arabic emotions (2410.03979).
    """

    paper = "2024, 2410.03979"
    couples_batch = True

    def __init__(self, *, max_weight: float = 10.0, correlation: float = 0.1):
        super().__init__()
        if max_weight < 1:
            raise ValueError(f"max_weight must be at least 1, got {max_weight}")
        if correlation < 0:
            raise ValueError(f"correlation must not be negative, got {correlation}")
        self.max_weight, self.correlation = max_weight, correlation

    def weights(self, answers: Tensor) -> Tensor:
        """w [B, m - 1] of answers t [B, m - 1]: odds of 0 among the other rows, 1 where there are none."""
        positive = answers.sum(0, keepdim=True) - answers
        negative = (1 - answers).sum(0, keepdim=True) - (1 - answers)
        tiny = 1e-3  # of a row
        return ((negative + tiny) / (positive + tiny)).clamp(1 / self.max_weight, self.max_weight)

    def forward(self, logits: Tensor, target: Tensor, *, draws: Draws | None = None) -> Tensor:
        answers = above(target)
        weight = self.weights(answers).detach()
        entropy = functional.binary_cross_entropy_with_logits(
            logits + weight.log(), answers, reduction="none", pos_weight=weight
        )
        error = torch.diff(logits.sigmoid() - answers)
        return entropy.sum(-1) + self.correlation * (error**2).sum(-1)
