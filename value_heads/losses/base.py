"""What every classification loss is: a loss between logits and a target over bins, and the link that belongs to it.

Dimensions: B batch, m bins, D raw outputs per action.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from value_heads.base import Draws


class ClassificationLoss(nn.Module, ABC):
    """A loss between logits and a target distribution over bins, and the link that belongs to it.

    It is a function of its arguments alone: no state, no weights, no generator. What is random comes in as `draws`.
    """

    paper: ClassVar[str] = ""  # year and arXiv number
    cost: ClassVar[str] = "O(m)"  # of a loss and its gradient, in m bins
    couples_batch: bool = False  # whether the loss of a row depends on the others of its batch
    learns: str = "mean"  # what of a random return its minimum decodes to; a head wants leave for anything but the mean
    last_layer: Callable[[int, int, int], nn.Linear] | None = None
    """Builds the last map, (in_features, num_actions, m) -> [..., actions * m], where it is not to be linear."""

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
        """[..., num_logits] and target probabilities [..., m] -> [...], without reduction.

        Without draws it is deterministic: what would be random has its mean.
        """

    def draw(self, batch_size: int, num_logits: int, generator: torch.Generator) -> Draws:
        """Random numbers for the loss of one batch: a row of each tensor belongs to a row of the batch."""
        return {}


class SoftmaxLoss(ClassificationLoss):
    """A loss whose link is the softmax."""

    def probs(self, logits: Tensor) -> Tensor:
        return logits.softmax(-1)

    def logits(self, probs: Tensor) -> Tensor:
        return probs.log()


def with_gradient(value: Tensor, gradient: Tensor, logits: Tensor) -> Tensor:
    """The numbers `value` [...], whose gradient in the logits [..., D] is said to be `gradient` [..., D]."""
    pull = (gradient.detach() * logits).sum(-1)
    return value.detach() + pull - pull.detach()
