"""Classification losses over value bins, each with its own link from logits to probabilities.

A loss is only right with its own link: the value must be the *mean* of the return, because Bellman backups are
linear, so `probs` has to be mean-calibrated at the minimum of the loss. Every entry of LOSSES is put through the
population-bias test (tests/contract/test_losses.py).

Dimensions: B batch, m bins.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from value_heads.base import Draws


class ClassificationLoss(nn.Module, ABC):
    """A loss between logits and a target distribution over bins, and the link that belongs to it."""

    def num_logits(self, num_bins: int) -> int:
        """How many raw outputs describe `num_bins` bins."""
        return num_bins

    @abstractmethod
    def probs(self, logits: Tensor) -> Tensor:
        """The link: [..., num_logits] -> [..., m]; sums to 1, mean-calibrated, signed for ordinal losses."""

    @abstractmethod
    def logits(self, probs: Tensor) -> Tensor:
        """A right inverse of `probs` for probabilities in (0, 1): where a head is told to start."""

    @abstractmethod
    def forward(self, logits: Tensor, target: Tensor, *, draws: Draws | None = None) -> Tensor:
        """[..., num_logits] and target probabilities [..., m] -> [...], without reduction."""


class CrossEntropy(ClassificationLoss):
    """-sum_i p_i log softmax(l)_i; its gradient in the logits is softmax(l) - p.

    Source: Farebrother et al. 2024, eq. 3.1 (with the sign of a cross-entropy).
    """

    def probs(self, logits: Tensor) -> Tensor:
        return logits.softmax(-1)

    def logits(self, probs: Tensor) -> Tensor:
        return probs.log()

    def forward(self, logits: Tensor, target: Tensor, *, draws: Draws | None = None) -> Tensor:
        return -(target * logits.log_softmax(-1)).sum(-1)


class OrdinalBinaryCrossEntropy(ClassificationLoss):
    """One binary classifier per inner edge: sum_k BCE(sigmoid(l_k), t_k) with t_k = P(Z > bin k) = sum_{j>k} p_j.

    m - 1 logits. The bins' probabilities are differences of neighbouring sigmoids: they sum to 1, and may be
    negative where the classifiers disagree about the order, which leaves the mean calibrated.
    Source: ordinal regression by binary decompositions (Frank & Hall 2001); as a value loss, ours.
    """

    def num_logits(self, num_bins: int) -> int:
        return num_bins - 1

    def probs(self, logits: Tensor) -> Tensor:
        return -torch.diff(functional.pad(functional.pad(logits.sigmoid(), (1, 0), value=1.0), (0, 1)))

    def logits(self, probs: Tensor) -> Tensor:
        above = probs.flip(-1).cumsum(-1).flip(-1)[..., 1:]
        below = probs.cumsum(-1)[..., :-1]
        return above.log() - below.log()

    def forward(self, logits: Tensor, target: Tensor, *, draws: Draws | None = None) -> Tensor:
        above = target.flip(-1).cumsum(-1).flip(-1)[..., 1:].clamp(max=1.0)
        return functional.binary_cross_entropy_with_logits(logits, above, reduction="none").sum(-1)


LOSSES: dict[str, type[ClassificationLoss]] = {
    "cross_entropy": CrossEntropy,
    "ordinal_bce": OrdinalBinaryCrossEntropy,
}
