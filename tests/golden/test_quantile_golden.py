"""Quantile heads against float64 loops.

Dimensions: B batch, A actions, N quantiles, K target atoms, F features.
"""

import math

import numpy as np
import pytest
import torch

from value_heads import Atoms, make_head
from value_heads.quantile import QuantileValues, midpoints


def loop_quantile_loss(quantiles, taus, values, probs, kappa):
    """Dabney et al. 2018a eqs. 9 and 10, with the division by kappa of Dabney et al. 2018b eq. 3."""
    total = 0.0
    for quantile, tau in zip(quantiles, taus, strict=True):
        for value, prob in zip(values, probs, strict=True):
            error = value - quantile
            if kappa == 0:
                size = abs(error)
            elif abs(error) <= kappa:
                size = 0.5 * error**2 / kappa
            else:
                size = abs(error) - 0.5 * kappa
            total += prob * abs(tau - (1.0 if error < 0 else 0.0)) * size
    return total


@pytest.mark.parametrize("per_row", [False, True])
@pytest.mark.parametrize("kappa", [0.0, 0.3, 1.0, 2.5])
def test_loss_against_a_loop(kappa, per_row):
    rng = np.random.default_rng(0)
    quantiles, values = rng.standard_normal((12, 7)) * 2, rng.standard_normal((12, 5)) * 2
    probs = rng.dirichlet(np.ones(5), 12)  # weighted target atoms, as of a mixture
    taus = rng.uniform(size=(12, 7)) if per_row else np.tile((np.arange(7) + 0.5) / 7, (12, 1))
    given = torch.tensor(taus if per_row else taus[0]).float()
    prediction = QuantileValues(torch.tensor(quantiles).float(), given, kappa)
    loss = prediction.loss(Atoms(torch.tensor(values).float(), torch.tensor(probs).float()))
    expected = [loop_quantile_loss(*row, kappa) for row in zip(quantiles, taus, values, probs, strict=True)]
    np.testing.assert_allclose(loss, expected, rtol=5e-6)  # 35 positive float32 terms, each with a few roundings


def test_error_against_a_loop():
    """BTR's priority: distances of every target atom from every quantile, whatever taus and kappa are."""
    rng = np.random.default_rng(2)
    quantiles, values = rng.standard_normal((12, 7)) * 2, rng.standard_normal((12, 5)) * 2
    probs = rng.dirichlet(np.ones(5), 12)
    prediction = QuantileValues(torch.tensor(quantiles).float(), midpoints(7), 1.0)
    expected = [
        sum(p * abs(y - q) for q in row for y, p in zip(ys, ps, strict=True))
        for row, ys, ps in zip(quantiles, values, probs, strict=True)
    ]
    error = prediction.error(Atoms(torch.tensor(values).float(), torch.tensor(probs).float()))
    np.testing.assert_allclose(error, expected, rtol=5e-6)  # 35 positive float32 terms


def test_loss_by_hand():
    """Quantiles (0, 2) at tau (.25, .75), target 1 with mass 1, kappa 1: |u| = 1 both, L = 1/2.

    The lower is too low: weight .25; the upper is too high: weight |.75 - 1| = .25.
    """
    prediction = QuantileValues(torch.tensor([[0.0, 2.0]]), torch.tensor([0.25, 0.75]), 1.0)
    assert prediction.loss(Atoms.at(torch.tensor([1.0]))).item() == pytest.approx(0.25)
    # Far below both, the target pulls the upper quantile less than the lower: weights .75 and .25 times |u| - 1/2.
    assert prediction.loss(Atoms.at(torch.tensor([-10.0]))).item() == pytest.approx(0.75 * 9.5 + 0.25 * 11.5)
    assert prediction.loss(Atoms.at(torch.tensor([10.0]))).item() == pytest.approx(0.25 * 9.5 + 0.75 * 7.5)


def test_gradient_is_that_of_quantile_regression():
    """With kappa 0, d/d theta_i = P(y < theta_i) - tau_i: zero exactly at the quantile."""
    rng = np.random.default_rng(1)
    values = rng.standard_normal((1, 40))
    quantiles = torch.tensor([[-1.0, 0.1, 1.3]], requires_grad=True)
    taus = torch.tensor([0.1, 0.5, 0.9])
    QuantileValues(quantiles, taus, 0.0).loss(
        Atoms(torch.tensor(values).float(), torch.full((1, 40), 1 / 40))
    ).backward()
    below = [(values < q).mean() for q in quantiles.tolist()[0]]
    np.testing.assert_allclose(quantiles.grad[0], np.array(below) - taus.numpy(), atol=1e-6)  # 40 terms of 1/40


def test_minimising_the_loss_finds_the_quantiles():
    """An oracle from outside: numpy's quantiles of an exponential sample of 999 values."""
    values = np.random.default_rng(2).exponential(size=999)
    quantiles = torch.zeros(1, 5, requires_grad=True)
    optimizer = torch.optim.Adam([quantiles], lr=0.05)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / 401)
    target = Atoms(torch.tensor(values).float().unsqueeze(0), torch.full((1, 999), 1 / 999))
    for _ in range(400):
        optimizer.zero_grad()
        QuantileValues(quantiles, midpoints(5), 0.0).loss(target).backward()
        optimizer.step()
        schedule.step()
    expected = np.quantile(values, [0.1, 0.3, 0.5, 0.7, 0.9])
    # Near its minimum the loss is flat between two neighbours of the sample, 0.01 apart at the 90 % quantile.
    np.testing.assert_allclose(quantiles.detach()[0], expected, atol=0.03)


def test_midpoints():
    np.testing.assert_allclose(midpoints(4), [0.125, 0.375, 0.625, 0.875])


def test_quantile_head_gives_each_output_its_midpoint():
    head = make_head("quantile", in_features=3, num_actions=2, support=(0, 1), num_quantiles=8)
    np.testing.assert_allclose(head(torch.zeros(5, 3)).taus, (np.arange(8) + 0.5) / 8, atol=1e-7)


def numpy_iqn(head, features, taus):
    """Dabney et al. 2018b, eq. 4, in float64: i runs from 0, and the embedding multiplies the features."""
    weights = {k: v.double().numpy() for k, v in head.state_dict().items()}
    num_actions = weights["output.last.bias"].shape[0]
    result = np.empty((len(features), num_actions, taus.shape[1]))
    for b in range(len(features)):
        for n in range(taus.shape[1]):
            cosines = np.array([math.cos(math.pi * i * taus[b, n]) for i in range(head.embedding.in_features)])
            phi = np.maximum(weights["embedding.weight"] @ cosines + weights["embedding.bias"], 0)
            result[b, :, n] = weights["output.last.weight"] @ (features[b] * phi) + weights["output.last.bias"]
    return result


@pytest.mark.parametrize("drawn", [True, False])
def test_iqn_against_numpy(drawn):
    torch.manual_seed(0)
    head = make_head("iqn", in_features=6, num_actions=3, support=(0, 1), num_taus=5, num_acting_taus=4, num_cosines=64)
    features = torch.randn(7, 6)
    draws = head.draw(7, torch.Generator().manual_seed(1), bootstrap=False) if drawn else None
    taus = draws["taus"].double().numpy() if drawn else np.tile((np.arange(4) + 0.5) / 4, (7, 1))
    with torch.no_grad():
        values = head(features, draws)
    expected = numpy_iqn(head, features.double().numpy(), taus)
    # cos(63 pi tau): the argument is known to 1e-5 in float32, 64 of them with weights of 1/8 and signs that cancel.
    np.testing.assert_allclose(values.outputs, expected, atol=2e-5)
    np.testing.assert_allclose(values.mean(), expected.mean(-1), atol=2e-5)
    np.testing.assert_allclose(values.taus.double(), taus, atol=1e-7)


def test_iqn_draws_its_numbers_from_the_given_generator():
    head = make_head("iqn", in_features=6, num_actions=3, support=(0, 1), num_taus=5, num_target_taus=9)
    draw = lambda seed, **kw: head.draw(200, torch.Generator().manual_seed(seed), **kw)["taus"]  # noqa: E731
    assert draw(0, bootstrap=False).shape == (200, 5)
    taus = draw(0, bootstrap=True)
    assert taus.shape == (200, 9)
    assert torch.equal(taus, draw(0, bootstrap=True))
    assert not torch.equal(taus, draw(1, bootstrap=True))
    assert taus.min() >= 0
    assert taus.max() < 1
    # The mean of 1800 uniform numbers has a standard error of 0.289 / sqrt(1800) = 0.0068; five of them.
    assert float(taus.mean()) == pytest.approx(0.5, abs=0.034)


def test_the_spread_is_the_distance_of_the_outer_quantiles():
    quantiles = torch.arange(101.0).repeat(2, 1) * torch.tensor([[1.0], [3.0]])
    spread = QuantileValues(quantiles, midpoints(101), 1.0).diagnostics(Atoms.at(torch.zeros(2)))["spread"]
    assert float(spread) == pytest.approx((90 + 270) / 2, rel=1e-6)
