"""Bins as directions: logits are cosines between features and a prototype of each bin, trained with a random margin.

Source: ElasticFace (Boutros et al. 2022), "ElasticFace: Elastic Margin Loss for Deep Face Recognition".
Dimensions: B batch, A actions, m bins, F features.
"""

import functools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from value_heads.base import Draws
from value_heads.losses.base import ClassificationLoss
from value_heads.losses.margin import margin_cross_entropy, with_margin, without_margin


class CosineLayer(nn.Linear):
    """scale * cos(features, w_k) + bias_k: [..., F] -> [..., A * m]. The length of features does not count.

    The source has no bias; without one a head could not start at Q = 0 wherever its support lies.
    """

    def __init__(self, in_features: int, num_actions: int, num_bins: int, *, scale: float):
        super().__init__(in_features, num_actions * num_bins)
        self.scale = scale

    def forward(self, input: Tensor) -> Tensor:
        directions = functional.normalize(input, dim=-1)
        return self.scale * functional.linear(directions, functional.normalize(self.weight, dim=-1)) + self.bias


class ElasticCos(ClassificationLoss):
    """Cosine logits, and cross-entropy with a margin s * M, M ~ N(margin, margin_std^2) for each sample.

    See `margin_cross_entropy` for the loss and how its link takes the margin back, exactly for a margin that is
    not random. Logits are bounded by s, so that the likeliest of m bins has a probability of at most
    1 / (1 + (m - 1) e^(-2 s)), and by nothing that the length of features could change.

    The defaults are sizes for values, s * margin = 0.5 nats. Those for faces (scale 64, margin 0.35) have a margin of
    22 nats, of which little is left to be taken back.

    Args:
        scale: s.
        margin, margin_std: of M, in units of a cosine.
        plus: the smallest margins go to the samples whose target is nearest, ElasticFace+. It couples the batch, and
            as margins then depend on targets, the link does not take them back: it wants leave.
    """

    paper = "2022, 2109.09416"
    cost = "O(m F), layer"

    def __init__(self, *, scale: float = 16.0, margin: float = 0.03, margin_std: float = 0.0125, plus: bool = False):
        super().__init__()
        if not scale > 0:
            raise ValueError(f"scale must be positive, got {scale}")
        if not (0 <= margin < math.pi / 2 and margin_std >= 0):
            raise ValueError(f"margin must be in [0, pi / 2) and margin_std not negative, got {margin}, {margin_std}")
        self.scale, self.margin, self.margin_std, self.plus = scale, margin, margin_std, plus
        if plus:
            self.couples_batch, self.learns = True, "mean of a distribution that is sharpened where it is likely"
        self.last_layer = functools.partial(CosineLayer, scale=scale)

    def draw(self, batch_size: int, num_logits: int, generator: torch.Generator) -> Draws:
        return {"normal": torch.randn(batch_size, generator=generator, device=generator.device)}

    def margins(self, logits: Tensor, target: Tensor, draws: Draws | None) -> Tensor:
        """M of each row, [..., 1]."""
        if not draws:
            return torch.full_like(logits[..., :1], self.margin)
        normal = draws["normal"]
        if self.plus:
            nearest_first = (target * logits).sum(-1).argsort(descending=True)
            normal = normal.sort().values.gather(0, nearest_first.argsort())
        return self.margin + self.margin_std * normal.unsqueeze(-1)

    def probs(self, logits: Tensor) -> Tensor:
        return without_margin(logits.softmax(-1), self.scale * self.margin)

    def logits(self, probs: Tensor) -> Tensor:
        return centred(with_margin(probs, self.scale * self.margin).log())

    def forward(self, logits: Tensor, target: Tensor, *, draws: Draws | None = None) -> Tensor:
        return margin_cross_entropy(logits, target, self.scale * self.margins(logits, target, draws))


class ElasticArc(ElasticCos):
    """As `elastic_cos`, with a margin of the angle: the target's logit is s cos(theta + M).

    That is a margin c = s (cos theta - cos(theta + M)) that depends on the logit. With g' = sin(theta + M) / sin theta
    its minimum is at q_y ~ p_y (1 - p_y + p_y e^-c_y) / ((1 - p_y) g'_y + p_y), which is the link; ours, and exact for
    a margin that is not random. theta is the angle whose cosine is logit / s, and at most pi - M; a bias beside the
    cosine counts as part of it. The sizes for faces (scale 64, margin 0.5) collapsed in a toy regression where those
    here learned.
    """

    def angular(self, logits: Tensor, margins: Tensor) -> tuple[Tensor, Tensor]:
        """c and g' of each logit: [..., m] twice."""
        margins = margins.clamp(min=0.0)
        given = logits / self.scale
        cos = torch.maximum(given, -margins.cos()).clamp(max=1 - 1e-6)
        sin = (1 - cos**2).clamp(min=1e-6).sqrt()
        slope = torch.where(cos == given, margins.cos() + cos / sin * margins.sin(), 1.0)
        return self.scale * (cos - cos * margins.cos() + sin * margins.sin()), slope

    def probs(self, logits: Tensor) -> Tensor:
        p = logits.softmax(-1)
        c, slope = self.angular(logits, torch.full_like(logits[..., :1], self.margin))
        weight = p * (1 - p + p * (-c).exp()) / ((1 - p) * slope + p)
        return weight / weight.sum(-1, keepdim=True)

    def logits(self, probs: Tensor) -> Tensor:
        """By iteration, which converges for margins of up to about a nat."""
        logits = centred(probs.log())
        for _ in range(200):
            logits = centred(logits + probs.log() - self.probs(logits).log())
        return logits

    def forward(self, logits: Tensor, target: Tensor, *, draws: Draws | None = None) -> Tensor:
        c, _ = self.angular(logits, self.margins(logits, target, draws))
        return margin_cross_entropy(logits, target, c)


def centred(logits: Tensor) -> Tensor:
    """Logits with mean 0: of all that mean the same, those with the best chance to be cosines."""
    return logits - logits.mean(-1, keepdim=True)
