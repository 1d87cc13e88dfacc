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


def symlog(x: Tensor) -> Tensor:
    """sign(x) ln(1 + |x|). Source: Hafner et al. 2023, "Mastering Diverse Domains through World Models"."""
    return torch.sign(x) * torch.log1p(x.abs())


def symexp(x: Tensor) -> Tensor:
    """sign(x) (exp(|x|) - 1), the inverse of symlog."""
    return torch.sign(x) * torch.expm1(x.abs())


def signed_hyperbolic(x: Tensor) -> Tensor:
    """h(x) = sign(x) (sqrt(|x| + 1) - 1) + eps x, eps = 1e-3. Source: Pohlen et al. 2018, Prop. A.2."""
    return torch.sign(x) * (torch.sqrt(x.abs() + 1) - 1) + HYPERBOLIC_EPS * x


def signed_parabolic(x: Tensor) -> Tensor:
    """The inverse of h.

    With s = (sqrt(1 + 4 eps (|x| + 1 + eps)) - 1) / (2 eps) it is sign(x) (s^2 - 1); both differences are
    rewritten as quotients and products, since float32 would cancel their leading digits.
    """
    c = x.abs() + 1 + HYPERBOLIC_EPS
    root = torch.sqrt(1 + 4 * HYPERBOLIC_EPS * c)
    s = 2 * c / (root + 1)
    return torch.sign(x) * (s - 1) * (s + 1)


TRANSFORMS: dict[str, Transform] = {
    "identity": Transform(identity, identity),
    "symlog": Transform(symlog, symexp),
    "hyperbolic": Transform(signed_hyperbolic, signed_parabolic),
}
