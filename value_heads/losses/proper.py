"""Proper scores of a softmax: cross-entropy, and squared distances of masses and of distribution functions.

Dimensions: B batch, m bins.
"""

from torch import Tensor

from value_heads.base import Draws
from value_heads.losses.base import SoftmaxLoss


class CrossEntropy(SoftmaxLoss):
    """-sum_i p_i log softmax(l)_i; its gradient in the logits is softmax(l) - p.

    Source: Farebrother et al. 2024, eq. 3.1 (with the sign of a cross-entropy).
    """

    paper = "2024, 2403.03950"

    def forward(self, logits: Tensor, target: Tensor, *, draws: Draws | None = None) -> Tensor:
        return -(target * logits.log_softmax(-1)).sum(-1)


class Brier(SoftmaxLoss):
    """sum_i (softmax(l)_i - p_i)^2, between 0 and 2.

    Proper, but a bin of small mass has a small gradient, so that the tails of a distribution are learned slowly.
    Source: Brier 1950, "Verification of Forecasts Expressed in Terms of Probability".
    """

    paper = "1950"

    def forward(self, logits: Tensor, target: Tensor, *, draws: Draws | None = None) -> Tensor:
        return brier(logits.softmax(-1), target)


class Cramer(SoftmaxLoss):
    """sum_k (F_hat_k - F_k)^2 over the inner edges of the bins: the Cramer distance in units of one bin.

    F_hat and F are the distribution functions of softmax(l) and of the target. It knows that bins are ordered: a near
    miss costs less than a far one. Its minimum over random targets is their mean distribution function. On evenly
    spaced bins, times the width of a bin, it is the energy form of the CRPS: E|X - Y| - E|X - X'|/2 - E|Y - Y'|/2.
    A softmax that is sure of the wrong bin has almost no gradient, hence `cross_entropy_cramer`.
    Source: optimal transport between label sets, OTSeq2Set (Cao & Zhang 2022), of which this is the form for one
    ordered target; Bellemare et al. 2017, "The Cramer Distance as a Solution to Biased Wasserstein Gradients".
    """

    paper = "2022, 2210.14523"

    def forward(self, logits: Tensor, target: Tensor, *, draws: Draws | None = None) -> Tensor:
        return cramer(logits.softmax(-1), target)


class CrossEntropyCramer(SoftmaxLoss):
    """Cross-entropy + cramer_weight * Cramer distance: the second knows the order, the first always has a gradient.

    The source adds 8 times an optimal-transport cost to a likelihood; its cost is that of `wasserstein`, which learns
    the median and takes the sum with it. The square instead is ours.

    Args:
        cramer_weight: of the Cramer distance.

    Source: OTSeq2Set (Cao & Zhang 2022).
    """

    paper = "2022, 2210.14523"

    def __init__(self, *, cramer_weight: float = 1.0):
        super().__init__()
        if cramer_weight < 0:
            raise ValueError(f"cramer_weight must not be negative, got {cramer_weight}")
        self.cramer_weight = cramer_weight

    def forward(self, logits: Tensor, target: Tensor, *, draws: Draws | None = None) -> Tensor:
        log_probs = logits.log_softmax(-1)
        return -(target * log_probs).sum(-1) + self.cramer_weight * cramer(log_probs.exp(), target)


class Wasserstein(SoftmaxLoss):
    """sum_k |F_hat_k - F_k| over the inner edges: the 1-Wasserstein distance in units of one bin.

    It learns the *median*: over random targets each F_hat_k goes to the median of F_k, and that of values 0 and 1 is
    the likelier of them. It is here for comparison.
    Source: OTSeq2Set (Cao & Zhang 2022), with the transport in closed form, as bins are ordered.
    """

    paper = "2022, 2210.14523"
    learns = "median"

    def forward(self, logits: Tensor, target: Tensor, *, draws: Draws | None = None) -> Tensor:
        return cdf_difference(logits.softmax(-1), target).abs().sum(-1)


def brier(predicted: Tensor, target: Tensor) -> Tensor:
    """sum_i (p_hat_i - p_i)^2 of probabilities [..., m]: [...]."""
    return ((predicted - target) ** 2).sum(-1)


def cramer(predicted: Tensor, target: Tensor) -> Tensor:
    """sum_k (F_hat_k - F_k)^2 of probabilities [..., m]: [...]."""
    return (cdf_difference(predicted, target) ** 2).sum(-1)


def cdf_difference(predicted: Tensor, target: Tensor) -> Tensor:
    """F_hat - F at the inner edges, [..., m - 1]; summed as a difference, whose parts of 1 cancel before rounding."""
    return (predicted - target).cumsum(-1)[..., :-1]
