"""Losses of extreme classification that let several bins be right at once.

Source: DEXML (Gupta et al. 2024), "Dual-Encoders for Extreme Multi-Label Classification".
Dimensions: B batch, m bins.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from value_heads.base import Draws
from value_heads.losses.base import ClassificationLoss, SoftmaxLoss


class SoftTopK(ClassificationLoss):
    """-sum_i p_i log s_i with s_i = sigmoid(alpha (l_i + t)), where t makes the s sum up to kappa.

    Each s_i can saturate alone, which a softmax cannot; with kappa = 1 it is an alternative to it, and for two bins and
    alpha = 2 the same. At the minimum s = kappa p where that is at most 1 everywhere, so s / kappa is the link. For
    kappa <= 1 it always is; above, a target with more than 1 / kappa of its mass in one bin is flattened (HL-Gauss has
    up to half of it in one bin, and up to 0.82 at the ends), so a larger kappa wants leave.

    t is found by 40 bisections, and a step of Newton carries the gradient dt/dl_j = -s'_j / sum s'.

    Args:
        kappa: how many bins are to be right, less than m. The paper's is 5.
        alpha: steepness; the paper's is 2.
    """

    paper = "2024, 2310.10636"
    cost = "O(m), 40 sigmoids"
    steps = 40

    def __init__(self, *, kappa: float = 1.0, alpha: float = 2.0):
        super().__init__()
        if not (kappa > 0 and alpha > 0):
            raise ValueError(f"kappa and alpha must be positive, got {kappa} and {alpha}")
        self.kappa, self.alpha = kappa, alpha
        if kappa > 1:
            self.learns = "mean of a flattened distribution, where a bin has more than 1 / kappa of the mass"

    def shifted(self, logits: Tensor) -> Tensor:
        """alpha (l + t): logits of s, [..., m]."""
        scaled = self.alpha * (logits - logits.detach().amax(-1, keepdim=True))
        if self.kappa >= logits.shape[-1]:
            raise ValueError(f"kappa must be less than the number of bins {logits.shape[-1]}, got {self.kappa}")
        with torch.no_grad():
            low = torch.full_like(scaled[..., :1], math.log(self.kappa / logits.shape[-1]) - 10)
            high = 15 - scaled.amin(-1, keepdim=True)
            for _ in range(self.steps):
                middle = (low + high) / 2
                below = (scaled + middle).sigmoid().sum(-1, keepdim=True) < self.kappa
                low, high = torch.where(below, middle, low), torch.where(below, high, middle)
            t = (low + high) / 2
            s = (scaled + t).sigmoid()
            slope = (s * (1 - s)).sum(-1, keepdim=True).clamp(min=1e-6)
        return scaled + t + (self.kappa - (scaled + t).sigmoid().sum(-1, keepdim=True)) / slope

    def probs(self, logits: Tensor) -> Tensor:
        s = self.shifted(logits).sigmoid()
        return s / s.sum(-1, keepdim=True)

    def logits(self, probs: Tensor) -> Tensor:
        return (self.kappa * probs).logit() / self.alpha

    def forward(self, logits: Tensor, target: Tensor, *, draws: Draws | None = None) -> Tensor:
        return (target * functional.softplus(-self.shifted(logits))).sum(-1)


class DecoupledSoftmax(SoftmaxLoss):
    """-sum_{y in P} p_y log(e^{l_y} / (e^{l_y} + sum_{k not in P} e^{l_k})) with P = {k: p_k > positive_mass}.

    Bins that are right do not compete with each other. Over random targets a bin wins that is often among the right
    ones, so what is learned leans towards the *mode*. With one positive bin it is the cross-entropy. Where all bins
    would be positive, the least likely of them is not: without a negative there would be no loss.

    Args:
        positive_mass: a bin with more than that is right. Ours, as is the weight p_y: the paper has sets of labels.
    """

    paper = "2024, 2310.10636"
    learns = "mode, more or less"

    def __init__(self, *, positive_mass: float = 1e-3):
        super().__init__()
        if not 0 <= positive_mass < 1:
            raise ValueError(f"positive_mass must be in [0, 1), got {positive_mass}")
        self.positive_mass = positive_mass

    def forward(self, logits: Tensor, target: Tensor, *, draws: Draws | None = None) -> Tensor:
        least = target.amin(-1, keepdim=True).clamp(min=self.positive_mass)
        negatives = logits.masked_fill(target > least, -math.inf).logsumexp(-1, keepdim=True)
        loss = functional.softplus(negatives - logits)
        return (target * loss.masked_fill(target <= least, 0.0)).sum(-1)
