"""Invertible maps of returns that squeeze large values, all odd and strictly increasing."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

HYPERBOLIC_EPS = 1e-3


class Transform(NamedTuple):
    """`forward` maps returns to the space in which a head predicts, `inverse` maps back."""

    forward: Callable[[Tensor], Tensor]
    inverse: Callable[[Tensor], Tensor]


def identity(x: Tensor) -> Tensor:
    return x


def odd(f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """f(x) where x >= 0 and -f(-x) elsewhere; unlike sign(x) f(|x|) it keeps the gradient at 0."""
    return torch.where(x >= 0, f(x.clamp(min=0)), -f((-x).clamp(min=0)))


def symlog(x: Tensor) -> Tensor:
    """sign(x) ln(1 + |x|). Source: Hafner et al. 2023, "Mastering Diverse Domains through World Models"."""
    return odd(torch.log1p, x)


def symexp(x: Tensor) -> Tensor:
    """sign(x) (exp(|x|) - 1), the inverse of symlog."""
    return odd(torch.expm1, x)


def signed_hyperbolic(x: Tensor) -> Tensor:
    """h(x) = sign(x) (sqrt(|x| + 1) - 1) + eps x, eps = 1e-3.

    Source: Pohlen et al. 2018, Prop. A.2 (with eps = 1e-2); this eps as in R2D2 (Kapturowski et al. 2019) and MuZero.
    """
    return odd(lambda y: torch.sqrt(y + 1) - 1, x) + HYPERBOLIC_EPS * x


def signed_parabolic(x: Tensor) -> Tensor:
    """The inverse of h.

    With s = (sqrt(1 + 4 eps (|x| + 1 + eps)) - 1) / (2 eps) it is sign(x) (s^2 - 1). As eps (s^2 - 1) + s - 1 = |x|,
    that is x (s + 1) / (1 + eps (s + 1)), in which float32 has nothing to cancel.
    """

    def parabola(y: Tensor) -> Tensor:
        c = y + 1 + HYPERBOLIC_EPS
        s = 2 * c / (torch.sqrt(1 + 4 * HYPERBOLIC_EPS * c) + 1)
        return y * (s + 1) / (1 + HYPERBOLIC_EPS * (s + 1))

    return odd(parabola, x)


TRANSFORMS: dict[str, Transform] = {
    "identity": Transform(identity, identity),
    "symlog": Transform(symlog, symexp),
    "hyperbolic": Transform(signed_hyperbolic, signed_parabolic),
}
