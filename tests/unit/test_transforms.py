"""Transforms of returns: inverses, odd, increasing, and equal to their published formulas."""

import math

import numpy as np
import pytest
import torch

from value_heads import Atoms
from value_heads.base import Support
from value_heads.encodings import TwoHot
from value_heads.transforms import HYPERBOLIC_EPS, TRANSFORMS

MAGNITUDES = np.concatenate([[0], np.logspace(-6, 6, 241)])
RETURNS = np.concatenate([-MAGNITUDES[::-1], MAGNITUDES])


def hyperbolic(x, eps=1e-3):
    """Pohlen et al. 2018, Prop. A.2 (i)."""
    return math.copysign(math.sqrt(abs(x) + 1) - 1, x) + eps * x


def hyperbolic_inverse(x, eps=1e-3):
    """Pohlen et al. 2018, Prop. A.2 (iii), literally."""
    root = (math.sqrt(1 + 4 * eps * (abs(x) + 1 + eps)) - 1) / (2 * eps)
    return math.copysign(root**2 - 1, x)


def symlog(x):
    """Hafner et al. 2023, eq. 9."""
    return math.copysign(math.log(abs(x) + 1), x)


def symexp(x):
    return math.copysign(math.exp(abs(x)) - 1, x)


def test_epsilon_is_that_of_the_publication():
    assert HYPERBOLIC_EPS == 1e-3


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize(("dtype", "relative"), [(torch.float32, 4e-6), (torch.float64, 1e-13)])
def test_inverse_undoes_forward(name, dtype, relative):
    """Relative to max(|x|, 1): near 0 both ways subtract from 1, so that an absolute error of the same size stays.

    symlog(1e6) = 13.8 is known to 5e-7 in float32 (1e-15 in float64), and the exponential makes that a relative
    error of the return; two more roundings are in the formula. The hyperbolic map is better conditioned.
    """
    transform = TRANSFORMS[name]
    x = torch.tensor(RETURNS, dtype=dtype)
    there_and_back = transform.inverse(transform.forward(x))
    assert there_and_back.dtype == dtype
    error = (there_and_back - x).abs() / x.abs().clamp(min=1)
    assert error.max() < relative
    squeezed = transform.forward(x)
    back_and_there = transform.forward(transform.inverse(squeezed))
    assert ((back_and_there - squeezed).abs() / squeezed.abs().clamp(min=1)).max() < relative


@pytest.mark.parametrize("name", TRANSFORMS)
def test_odd_and_increasing(name):
    for function in TRANSFORMS[name]:
        x = torch.linspace(-13, 13, 2001, dtype=torch.float64)
        assert torch.equal(function(-x), -function(x))
        assert (function(x).diff() > 0).all()
        assert function(torch.zeros(1)) == 0
        y = torch.tensor(RETURNS, dtype=torch.float32).clamp(-13, 13)
        assert (function(y).diff() >= 0).all()  # rounding may make neighbours equal, never turn them round


@pytest.mark.parametrize(
    ("name", "forward", "inverse"),
    [
        ("hyperbolic", hyperbolic, hyperbolic_inverse),
        ("symlog", symlog, symexp),
    ],
)
def test_published_formulas(name, forward, inverse):
    x = torch.tensor(RETURNS)
    actual = TRANSFORMS[name].forward(x)
    # The oracle itself cancels near 0 in float64: sqrt(1 + x) - 1 is known to 2e-16 absolutely.
    np.testing.assert_allclose(actual, [forward(v) for v in RETURNS], rtol=1e-13, atol=1e-15)
    # The oracle divides a difference of numbers near 1 by 2e-3, squares it and subtracts 1: 2e-13.
    np.testing.assert_allclose(
        TRANSFORMS[name].inverse(actual), [inverse(forward(v)) for v in RETURNS], rtol=1e-12, atol=1e-12
    )


def test_hyperbolic_by_hand():
    """h(3) = sqrt(4) - 1 + .003; h(-8) = -(3 - 1) - .008; h(1e6 - 1) = 999 + 999.999"""
    x = torch.tensor([3.0, -8.0, 0.0, 999999.0], dtype=torch.float64)
    expected = [1.003, -2.008, 0, 1998.999]
    np.testing.assert_allclose(TRANSFORMS["hyperbolic"].forward(x), expected, rtol=1e-14)


@pytest.mark.parametrize("decode", ["mean_of_inverse", "inverse_of_mean"])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_two_hot_is_exact_in_every_space(name, decode):
    encoding = TwoHot(Support(-300, 1000), 61, transform=name, decode=decode)
    values = torch.cat([torch.linspace(-300, 1000, 500), torch.tensor([-300.0, 0.0, 1000.0])])
    decoded = encoding.mean(encoding(Atoms.at(values)))
    # A sum of products of up to 1000 in float32 (6e-5 each); decoding in a squeezed space multiplies an error of 1e-6
    # there by the slope of the inverse, which is 1001 for symlog at the end of the range.
    np.testing.assert_allclose(decoded, values, atol=4e-3 if decode == "inverse_of_mean" else 4e-4)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("name", ["symlog", "hyperbolic"])
def test_only_the_mean_of_the_inverse_is_unbiased_for_random_returns(name, sign):
    """A return of 0 or 100 with equal chances: its value is 50. Between its images lies the return g(mean of h).

    g is convex above 0 and concave below, so the other decoding is too near to 0 (Jensen).
    """
    coin = Atoms(sign * torch.tensor([[0.0, 100.0]]), torch.tensor([[0.5, 0.5]]))
    decoded = {}
    for decode in ("mean_of_inverse", "inverse_of_mean"):
        encoding = TwoHot(Support(-200, 200), 41, transform=name, decode=decode)
        decoded[decode] = float(encoding.mean(encoding(coin)))
    forward = {"symlog": symlog, "hyperbolic": hyperbolic}[name]
    inverse = {"symlog": math.expm1, "hyperbolic": hyperbolic_inverse}[name]
    assert decoded["mean_of_inverse"] == pytest.approx(sign * 50, abs=1e-3)  # 41 products of up to 200 in float32
    assert decoded["inverse_of_mean"] == pytest.approx(sign * inverse(forward(100) / 2), rel=1e-4)
    assert abs(decoded["inverse_of_mean"]) < 50 - 15


@pytest.mark.parametrize("name", TRANSFORMS)
def test_gradient_at_zero(name):
    """1 for the identity and symlog; h'(0) = 1/2 + eps, and its inverse has the reciprocal."""
    slope = {"identity": 1.0, "symlog": 1.0, "hyperbolic": 0.501}[name]
    for function, expected in zip(TRANSFORMS[name], (slope, 1 / slope), strict=True):
        x = torch.zeros(1, requires_grad=True)
        (gradient,) = torch.autograd.grad(function(x).sum(), x)
        assert gradient.item() == pytest.approx(expected, rel=1e-6)
