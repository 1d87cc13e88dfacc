"""The Z-loss: logits are standardised, so that neither their mean nor their scale counts.

Dimensions: B batch, m bins.
"""

import torch
from torch import Tensor
from torch.nn import functional

from value_heads.base import Draws
from value_heads.losses.base import ClassificationLoss


class ZLoss(ClassificationLoss):
    """sum_i p_i softplus(a (b - z_i)) / a on standardised logits z = (l - mean l) / std l. Experimental.

    It does not change where all logits are multiplied by a positive number or moved by one, so its gradient is
    orthogonal to them and falls as they grow: steps only lengthen them, and learning slows down. At the minimum
    p_i sigmoid(a (b - z_i)) is linear in z_i; where at least half of the bins have no mass the link is therefore

        p_i ~ relu(z_i - median z) (1 + e^(a (z_i - b))).

    softmax(z) would be wrong. The link is ours, and needs many more bins than a target is wide. Numbers for a and b
    were not found in the source; these are ours, and b is out of reach for less than b^2 + 2 bins. The square of
    logsumexp(l) that language models call z-loss is something else.

    Args:
        sharpness: a.
        offset: b, in standard deviations of the logits.

    Source: de Brebisson & Vincent 2016, "The Z-loss: a shift and scale invariant classification loss belonging to the
        Spherical Family", as others report it.
    """

    paper = "2016, 1604.08859"

    def __init__(self, *, sharpness: float = 1.0, offset: float = 4.0):
        super().__init__()
        if not (sharpness > 0 and offset > 0):
            raise ValueError(f"sharpness and offset must be positive, got {sharpness} and {offset}")
        self.sharpness, self.offset = sharpness, offset

    def probs(self, logits: Tensor) -> Tensor:
        """Uniform where all logits are the same."""
        z = standardised(logits)
        median = z.sort(-1).values[..., (z.shape[-1] - 1) // 2].unsqueeze(-1)
        weight = (z - median).clamp(min=torch.finfo(z.dtype).tiny).log()
        return (weight + functional.softplus(self.sharpness * (z - self.offset))).softmax(-1)

    def logits(self, probs: Tensor) -> Tensor:
        """No inverse: the link cannot give mass to more than half of the bins. A tent of the same mean, on even bins.

        As nearly as a tent allows, whose foot is half of the bins wide; its top is found by bisection.
        """
        index = torch.arange(probs.shape[-1], dtype=probs.dtype, device=probs.device)
        mean = (probs * index).sum(-1, keepdim=True)
        low, high = torch.full_like(mean, -len(index)), torch.full_like(mean, 2.0 * len(index))
        for _ in range(60):
            top = (low + high) / 2
            below = (self.probs(-(index - top).abs()) * index).sum(-1, keepdim=True) < mean
            low, high = torch.where(below, top, low), torch.where(below, high, top)
        return standardised(-(index - (low + high) / 2).abs())

    def forward(self, logits: Tensor, target: Tensor, *, draws: Draws | None = None) -> Tensor:
        z = standardised(logits)
        return (target * functional.softplus(self.sharpness * (self.offset - z))).sum(-1) / self.sharpness


def standardised(logits: Tensor) -> Tensor:
    """(l - mean l) / std l over the last dimension, std^2 = mean (l - mean l)^2 + 1e-6."""
    centred = logits - logits.mean(-1, keepdim=True)
    return centred / ((centred**2).mean(-1, keepdim=True) + 1e-6).sqrt()
