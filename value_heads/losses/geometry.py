"""Cross-entropy on logits that are distances: to hyperbolic planes, and to anchors in a flow.

Dimensions: A actions, m bins, F features.
"""

import functools

import torch
from torch import Tensor, nn
from torch.nn import functional

from value_heads.losses.proper import CrossEntropy


class HyperbolicLayer(nn.Linear):
    """Hyperbolic multinomial regression: [..., F] -> [..., A * m], `hyperbolic_logits` + bias.

    Features and the points of the planes go into the ball from a vector u, clipped to length `radius`, as
    tanh(sqrt(c) |u|) u / (sqrt(c) |u|). Points start in the middle.
    """

    def __init__(self, in_features: int, num_actions: int, num_bins: int, *, curvature: float, radius: float):
        super().__init__(in_features, num_actions * num_bins)
        self.curvature, self.radius = curvature, radius
        self.points = nn.Parameter(torch.zeros_like(self.weight))

    def into_ball(self, u: Tensor) -> Tensor:
        length = ((u**2).sum(-1, keepdim=True) + 1e-12).sqrt()
        clipped = self.curvature**0.5 * length.clamp(max=self.radius)
        return clipped.tanh() / self.curvature**0.5 * (u / length)

    def forward(self, input: Tensor) -> Tensor:
        x, points = self.into_ball(input), self.into_ball(self.points)
        return hyperbolic_logits(x, points, self.weight, self.curvature) + self.bias


def hyperbolic_logits(x: Tensor, p: Tensor, a: Tensor, curvature: float) -> Tensor:
    """Signed distance to the plane through p_k across a_k, times its length: x [..., F], p and a [D, F] -> [..., D].

        (lambda_p |a| / sqrt(c)) asinh(2 sqrt(c) <w, a> / (|a| (1 - c |w|^2)))

    with w = -p (+) x and lambda_p = 2 / (1 - c |p|^2). The Moebius addition (+) is not carried out: with
    A = 1 - 2 c <p, x> + c |x|^2, B = 1 - c |p|^2 and D = 1 - 2 c <p, x> + c^2 |p|^2 |x|^2 it is w = (-A p + B x) / D,
    and products with p and a are all that is needed. For c to 0 the whole is 4 <x - p, a>.
    Source: Ganea et al. 2018, "Hyperbolic Neural Networks".

    Args:
        curvature: c, positive; |x| and |p| are below 1 / sqrt(c).
    """
    c = curvature
    px, xa, pa = functional.linear(x, p), functional.linear(x, a), (p * a).sum(-1)
    pp, xx, length = (p**2).sum(-1), (x**2).sum(-1, keepdim=True), ((a**2).sum(-1) + 1e-12).sqrt()
    at, bt, d = 1 - 2 * c * px + c * xx, 1 - c * pp, 1 - 2 * c * px + c**2 * pp * xx
    wa = (bt * xa - at * pa) / d
    ww = (at**2 * pp - 2 * at * bt * px + bt**2 * xx) / d**2
    argument = 2 * c**0.5 * wa / (length * (1 - c * ww))
    return 2 / bt * length / c**0.5 * argument.asinh()


class HyperbolicCE(CrossEntropy):
    """Cross-entropy on hyperbolic logits: bins are planes in a ball whose room grows towards its edge, like a tree's.

    Cross-entropy is proper whatever the layer, so the softmax is calibrated. The source is of one class, whose other
    parts (pseudo-negatives, pairwise confusion) are no loss of a value.

    Args:
        curvature: c; for c to 0 the layer is linear.
        radius: length to which features are clipped before they go into the ball.

    Source: Hyp-OC (2404.14406), "Hyp-OC: Hyperbolic One Class Classification for Face Anti-Spoofing" (0.1 and 2).
    """

    paper = "2024, 2404.14406"
    cost = "O(m F), layer"

    def __init__(self, *, curvature: float = 0.1, radius: float = 2.0):
        super().__init__()
        if not (curvature > 0 and radius > 0):
            raise ValueError(f"curvature and radius must be positive, got {curvature} and {radius}")
        self.last_layer = functools.partial(HyperbolicLayer, curvature=curvature, radius=radius)


class AnchorLayer(nn.Linear):
    """bias_k - |x - (1 - t) A_k|^2 / (2 t^2), without what all bins have in common: [..., F] -> [..., A * m].

    The posterior of anchor k, with log-prior bias_k, of a point x on straight paths from anchors to noise at time t.
    At t = 1 it is the prior, and for t to 0 the nearest anchor; in between it is a linear layer with tied biases.
    """

    def __init__(self, in_features: int, num_actions: int, num_bins: int, *, time: float):
        super().__init__(in_features, num_actions * num_bins)
        self.time = time

    def forward(self, input: Tensor) -> Tensor:
        near = (1 - self.time) * self.weight
        return functional.linear(input, near / self.time**2, self.bias - (near**2).sum(-1) / (2 * self.time**2))


class AnchorFlow(CrossEntropy):
    """Cross-entropy on the posterior of value-bin anchors at a fixed time of a latent flow, see `AnchorLayer`.

    The source follows the flow to t = 0 and takes the largest probability on the way; that is linear in probabilities,
    and learns the mode. At a fixed time the posterior is a softmax, and cross-entropy makes it calibrated: ours.

    Args:
        time: t, in (0, 1).

    Source: Latent Zoning Network (2509.15591).
    """

    paper = "2025, 2509.15591"
    cost = "O(m F), layer"

    def __init__(self, *, time: float = 0.5):
        super().__init__()
        if not 0 < time < 1:
            raise ValueError(f"time must be in (0, 1), got {time}")
        self.last_layer = functools.partial(AnchorLayer, time=time)
