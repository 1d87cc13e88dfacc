"""Margins and temperatures: one function is the margin of CosFace, that of LDR, and without one the cross-entropy.

A margin sharpens what is learned, and the link takes that back exactly. With p = softmax(l) the loss of a label y is

    softplus(c + logsumexp_{k != y} l_k - l_y) = logsumexp(l_y, l_k + c for k != y) - l_y

and its expectation over labels of mass q is smallest where q_y ~ p_y (a - (a - 1) p_y), a = e^c. That closed form is
ours; the sources read off softmax(l), which has the right argmax and the wrong mean.

Dimensions: B batch, m bins.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from value_heads.base import Draws
from value_heads.losses.base import ClassificationLoss


def margin_cross_entropy(logits: Tensor, target: Tensor, margin: float | Tensor) -> Tensor:
    """sum_y q_y softplus(c_y + logsumexp_{k != y} l_k - l_y): logits and q [..., m] -> [...].

    With c = 0 it is the cross-entropy. The sum that leaves one out is log(1 - p_y) + logsumexp(l) for all but the
    likeliest bin, for which 1 - p_y cancels: that one is summed without it. [..., m] numbers are all that it takes.

    Args:
        margin: c, in units of logits: a number, or a tensor that broadcasts to [..., m].
    """
    log_probs = logits.log_softmax(-1)
    best = log_probs.argmax(-1, keepdim=True)
    is_best = torch.arange(logits.shape[-1], device=logits.device) == best
    others = log_probs.masked_fill(is_best, -math.inf).logsumexp(-1, keepdim=True)
    rest = torch.where(is_best, others, torch.log1p(-log_probs.exp().masked_fill(is_best, 0.0)))
    return (target * functional.softplus(margin + rest - log_probs)).sum(-1)


def without_margin(probs: Tensor, margin: float) -> Tensor:
    """q ~ p (a - (a - 1) p), a = e^c: the masses of which softmax(l) = p minimises `margin_cross_entropy`. [..., m]"""
    weight = probs * (1 - probs * -math.expm1(-margin))
    return weight / weight.sum(-1, keepdim=True)


def with_margin(probs: Tensor, margin: float) -> Tensor:
    """The p with without_margin(p) = probs. [..., m]

    With b = 1 - e^-c all bins but the likeliest have the smaller root of p - b p^2 = S q. The likeliest may have the
    other; its p, which gives S, is found by bisection on the sum of all.
    """
    b = -math.expm1(-margin)
    top, best = probs.max(-1, keepdim=True)
    is_best = torch.arange(probs.shape[-1], device=probs.device) == best
    low, high = torch.zeros_like(top), torch.ones_like(top)

    def given(p_best: Tensor) -> Tensor:
        scaled = p_best * (1 - b * p_best) / top * probs
        return torch.where(is_best, p_best, 2 * scaled / (1 + (1 - 4 * b * scaled).clamp(min=0).sqrt()))

    for _ in range(60):
        middle = (low + high) / 2
        below = given(middle).sum(-1, keepdim=True) < 1
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return given((low + high) / 2)


class MarginCE(ClassificationLoss):
    """E_y softplus(margin + logsumexp_{k != y} l_k - l_y) over y ~ p: cross-entropy with a margin, and 0 is without.

    The additive margin of CosFace and that of LDR (`ldr_kl` with temperature 1), here on plain logits; the link takes
    the sharpening of the margin back.

    Args:
        margin: how far the logit of the label has to be above the others, in nats.

    Source: Wang et al. 2018, "CosFace"; Zhu, Ying & Yang 2023 (LDR). For soft labels, and with its link, ours.
    """

    paper = "2018, 1801.09414"

    def __init__(self, *, margin: float = 0.5):
        super().__init__()
        if margin < 0:
            raise ValueError(f"margin must not be negative, got {margin}")
        self.margin = margin

    def probs(self, logits: Tensor) -> Tensor:
        return without_margin(logits.softmax(-1), self.margin)

    def logits(self, probs: Tensor) -> Tensor:
        return with_margin(probs, self.margin).log()

    def forward(self, logits: Tensor, target: Tensor, *, draws: Draws | None = None) -> Tensor:
        return margin_cross_entropy(logits, target, self.margin)


class LDRKL(MarginCE):
    """Label-distributionally robust loss: T logsumexp_k((l_k + margin [k != y] - l_y) / T), expected over y ~ p.

    It is max_r sum_k r_k (l_k + margin [k != y] - l_y) - T KL(r | uniform) up to the constant T log m, which is left
    out: so temperature 1 is `margin_ce`. Its link is softmax(l / T), with the margin taken back; softmax(l) would be
    wrong for T != 1. T to 0 is the hinge of Crammer & Singer. The normalisation of logits in the authors' code is
    left out, as it makes logits depend on what is added to all of them.

    Args:
        temperature: T, lambda in the paper. A small one makes logits count for more.
        margin: in units of logits, c in the paper, where it is 0.1.

    Source: Zhu, Ying & Yang 2023, "Label Distributionally Robust Losses for Multi-class Classification".
    """

    paper = "2023, 2112.14869"

    def __init__(self, *, temperature: float = 2.0, margin: float = 0.1):
        super().__init__(margin=margin)
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, got {temperature}")
        self.temperature = temperature

    def probs(self, logits: Tensor) -> Tensor:
        return without_margin((logits / self.temperature).softmax(-1), self.margin / self.temperature)

    def logits(self, probs: Tensor) -> Tensor:
        return self.temperature * with_margin(probs, self.margin / self.temperature).log()

    def forward(self, logits: Tensor, target: Tensor, *, draws: Draws | None = None) -> Tensor:
        scaled = margin_cross_entropy(logits / self.temperature, target, self.margin / self.temperature)
        return self.temperature * scaled


class ALDRKL(ClassificationLoss):
    """`ldr_kl` without margin, whose temperature each sample finds for itself: soft where its prediction is unsure.

    L = max_T T (logsumexp(l / T) - log m) - <p, l> - alpha log m / (2 T0) (T - T0)^2 + T0 log m. The constant at the
    end makes alpha to infinity the `ldr_kl` of temperature T0. The best T solves

        T = T0 (1 - KL(softmax(l / T) | uniform) / (alpha log m)),  so T0 (1 - 1 / alpha) <= T <= T0,

    and is found by 15 steps of that iteration, from T0. It does not depend on the target, so softmax(l / T(l)) is the
    link. There is no margin: with one, T would depend on the label. The authors keep T per sample in memory and make
    one step a visit; to solve for it is ours.

    Args:
        temperature: T0.
        alpha: above 1; how dear it is to leave T0.

    Source: Zhu, Ying & Yang 2023, of which it is the adaptive variant (ALDR-KL).
    """

    paper = "2023, 2112.14869"
    cost = "O(m), 15 softmaxes"
    steps = 15

    def __init__(self, *, temperature: float = 1.0, alpha: float = 2.0):
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, got {temperature}")
        if not alpha > 1:
            raise ValueError(f"alpha must be above 1, below which the temperature can become 0, got {alpha}")
        self.temperature, self.alpha = temperature, alpha

    def own_temperature(self, logits: Tensor) -> Tensor:
        """T of each row, [..., 1], with its gradient: a last step of Newton carries it, and closes what is left."""
        found = torch.full_like(logits[..., :1], self.temperature)
        with torch.no_grad():
            for _ in range(self.steps):
                found = self.fitting((logits / found).log_softmax(-1))
            scaled = logits / found
            probs = scaled.softmax(-1)
            variance = (probs * (scaled - (probs * scaled).sum(-1, keepdim=True)) ** 2).sum(-1, keepdim=True)
            slope = self.temperature * variance / (found * self.alpha * math.log(logits.shape[-1]))
        return found + (self.fitting((logits / found).log_softmax(-1)) - found) / (1 - slope).clamp(min=0.1)

    def fitting(self, log_probs: Tensor) -> Tensor:
        """The T at which log-probabilities [..., m] are those of the best T, [..., 1]."""
        entropy = -(log_probs.exp() * log_probs).sum(-1, keepdim=True)
        share = 1 - entropy / math.log(log_probs.shape[-1])  # KL / log m
        return self.temperature * (1 - share / self.alpha)

    def probs(self, logits: Tensor) -> Tensor:
        return (logits / self.own_temperature(logits)).softmax(-1)

    def logits(self, probs: Tensor) -> Tensor:
        return self.fitting(probs.log()) * probs.log()

    def forward(self, logits: Tensor, target: Tensor, *, draws: Draws | None = None) -> Tensor:
        t, t0, log_m = self.own_temperature(logits).detach(), self.temperature, math.log(logits.shape[-1])
        robust = t * ((logits / t).logsumexp(-1, keepdim=True) - log_m) - self.alpha * log_m / (2 * t0) * (t - t0) ** 2
        return robust.squeeze(-1) - (target * logits).sum(-1) + t0 * log_m
