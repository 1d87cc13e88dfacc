"""Losses of bin heads and of regression against hand tables and float64 loops.

Dimensions: B batch, m bins.
"""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from value_heads import Atoms, make_head
from value_heads.base import Support
from value_heads.encodings import HLGauss, TwoHot
from value_heads.losses import CrossEntropy, OrdinalBinaryCrossEntropy

# Losses here are below 30 and sums of at most 51 float32 terms: 51 * 6e-8 * 30 at the very worst, 1e-5 in practice.
TOLERANCE = 2e-5

LOGITS = (0.2, -0.4, 1.0, 0.5, -1.3)
TWO_HOT = (0, 0, 0.7, 0.3, 0)
# A five-bin example worked out by hand with exp(.2, -.4, 1, .5, -1.3) = (1.2214, .6703, 2.7183, 1.6487, .2725), whose
# sum is 6.5312; bins at -2 .. 2, return 0.3.
SOFTMAX = (0.1870, 0.1026, 0.4162, 0.2524, 0.0417)
MEAN = -0.1408
CROSS_ENTROPY = 1.0266  # log 6.5312 - (.7 * 1 + .3 * .5)
GRADIENT = (0.1870, 0.1026, -0.2838, -0.0476, 0.0417)
HL_GAUSS_CROSS_ENTROPY = 1.36497  # with the HL-Gauss target of sigma 0.75 bins


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def loop_cross_entropy(logits, target):
    normaliser = math.log(sum(math.exp(f) for f in logits))
    return -sum(t * (f - normaliser) for f, t in zip(logits, target, strict=True))


def loop_ordinal(logits, target):
    """One classifier per inner edge k, asked whether the return is in a bin above it."""
    total = 0.0
    for k, f in enumerate(logits):
        above = sum(target[k + 1 :])
        total -= above * math.log(sigmoid(f)) + (1 - above) * math.log(1 - sigmoid(f))
    return total


def test_the_five_bin_example():
    logits = torch.tensor(LOGITS, requires_grad=True)
    criterion, encoding = CrossEntropy(), TwoHot(Support(-2, 2), 5)
    target = encoding(Atoms.at(torch.tensor(0.3)))
    np.testing.assert_allclose(target, TWO_HOT, atol=1e-7)
    loss = criterion(logits, target)
    loss.backward()
    # The table has four digits.
    np.testing.assert_allclose(criterion.probs(logits.detach()), SOFTMAX, atol=6e-5)
    assert encoding.mean(criterion.probs(logits)).item() == pytest.approx(MEAN, abs=6e-5)
    assert loss.item() == pytest.approx(CROSS_ENTROPY, abs=6e-5)
    np.testing.assert_allclose(logits.grad, GRADIENT, atol=6e-5)

    hl_gauss = HLGauss(Support(-2.5, 2.5), 5)(Atoms.at(torch.tensor(0.3)))
    assert criterion(logits, hl_gauss).item() == pytest.approx(HL_GAUSS_CROSS_ENTROPY, abs=6e-6)


def test_the_ordinal_loss_by_hand():
    """Three bins, logits 0 and log 3, target (.5, .25, .25): above = .5, .25; sigmoids .5, .75."""
    criterion = OrdinalBinaryCrossEntropy()
    logits, target = torch.tensor([0.0, math.log(3)]), torch.tensor([0.5, 0.25, 0.25])
    expected = math.log(2) - 0.25 * math.log(0.75) - 0.75 * math.log(0.25)
    assert float(criterion(logits, target)) == pytest.approx(expected, abs=1e-6)
    # sigmoids .5, .75 disagree about the order: P(bin 0) = 1 - .5, P(bin 1) = .5 - .75, P(bin 2) = .75
    np.testing.assert_allclose(criterion.probs(logits), [0.5, -0.25, 0.75], atol=1e-7)


@pytest.mark.parametrize("num_bins", [2, 5, 51])
def test_cross_entropy_and_ordinal_against_loops(num_bins):
    rng = np.random.default_rng(0)
    target = rng.dirichlet(np.full(num_bins, 0.5), 32)
    for criterion, loop in ((CrossEntropy(), loop_cross_entropy), (OrdinalBinaryCrossEntropy(), loop_ordinal)):
        logits = np.float32(3 * rng.standard_normal((32, criterion.num_logits(num_bins)))).astype(float)
        loss = criterion(torch.tensor(logits).float(), torch.tensor(target).float())
        expected = [loop(f, t) for f, t in zip(logits, target, strict=True)]
        np.testing.assert_allclose(loss, expected, rtol=TOLERANCE, atol=TOLERANCE)


def test_gradients_are_prediction_less_target():
    rng = np.random.default_rng(1)
    target = rng.dirichlet(np.ones(21), 16)
    above = np.array([[sum(t[k + 1 :]) for k in range(20)] for t in target])
    logits = torch.tensor(2 * rng.standard_normal((16, 21)), dtype=torch.float32, requires_grad=True)
    CrossEntropy()(logits, torch.tensor(target).float()).sum().backward()
    exponentials = np.exp(logits.detach().double().numpy())
    softmax = exponentials / exponentials.sum(1, keepdims=True)
    np.testing.assert_allclose(logits.grad, softmax - target, atol=1e-6)  # numbers below 1 in float32

    logits = torch.tensor(2 * rng.standard_normal((16, 20)), dtype=torch.float32, requires_grad=True)
    OrdinalBinaryCrossEntropy()(logits, torch.tensor(target).float()).sum().backward()
    expected = 1 / (1 + np.exp(-logits.detach().double().numpy())) - above
    np.testing.assert_allclose(logits.grad, expected, atol=2e-6)  # `above` is a sum of up to 20 float32


def test_cross_entropy_does_not_clip_the_gradient_of_an_unlikely_bin():
    """softmax().clamp(1e-5).log() would: here the target bin has probability e^-40."""
    logits = torch.tensor([[40.0, 0.0, 0.0]], requires_grad=True)
    loss = CrossEntropy()(logits, torch.tensor([[0.0, 1.0, 0.0]]))
    loss.sum().backward()
    assert loss.item() == pytest.approx(40, abs=1e-5)
    np.testing.assert_allclose(logits.grad, [[1, -1, 0]], atol=1e-6)


@pytest.mark.parametrize("criterion", [CrossEntropy(), OrdinalBinaryCrossEntropy()])
def test_the_start_logits_of_a_loss_mean_the_given_distribution(criterion):
    probs = torch.tensor(np.random.default_rng(2).dirichlet(np.full(31, 2.0), 8))
    np.testing.assert_allclose(criterion.probs(criterion.logits(probs)), probs, atol=1e-9)  # float64 throughout


def selected(name, outputs, support=(-10, 10), **options):
    """The prediction of a head whose raw outputs are given, [B, D]."""
    head = make_head(name, in_features=outputs.shape[1], num_actions=1, support=support, **options)
    with torch.no_grad():
        head.output.last.weight.copy_(torch.eye(outputs.shape[1]))
        head.output.last.bias.zero_()
    return head(outputs).select(torch.zeros(len(outputs), dtype=torch.int64))


@pytest.mark.parametrize("kappa", [None, 0.5, 1.0, 3.0])
def test_regression_against_a_loop(kappa):
    rng = np.random.default_rng(3)
    predictions = np.float32(4 * rng.standard_normal(50)).astype(float)
    values, probs = rng.standard_normal((50, 3)) * 4, rng.dirichlet(np.ones(3), 50)
    name, options = ("mse", {}) if kappa is None else ("huber", {"kappa": kappa})
    target = Atoms(torch.tensor(values).float(), torch.tensor(probs).float())
    loss = selected(name, torch.tensor(predictions).float().unsqueeze(-1), **options).loss(target)
    for q, v, p, actual in zip(predictions, values, probs, loss.tolist(), strict=True):
        error = abs(q - sum(v * p))
        square_at = math.inf if kappa is None else kappa
        expected = error**2 / 2 if error <= square_at else kappa * (error - kappa / 2)
        if kappa is None:
            expected *= 2  # the square has no factor 1/2
        assert actual == pytest.approx(expected, rel=TOLERANCE, abs=TOLERANCE)


def test_huber_is_the_default_of_mnih():
    """Gradient clipped to [-1, 1]: half the square inside, slope 1 outside."""
    q = torch.tensor([[0.5], [-0.5], [4.0], [-4.0]], requires_grad=True)
    selected("huber", q).loss(Atoms.at(torch.zeros(4))).sum().backward()
    np.testing.assert_array_equal(q.grad.squeeze(-1), [0.5, -0.5, 1, -1])


def test_regression_in_a_transformed_space():
    """With symlog the output is compared with log(1 + y), and the mean is exp(output) - 1."""
    prediction = selected("mse", torch.tensor([[0.7], [-0.7]]), transform="symlog")
    loss = prediction.loss(Atoms.at(torch.tensor([9.0, 9.0])))
    expected = [(0.7 - math.log(10)) ** 2, (0.7 + math.log(10)) ** 2]
    np.testing.assert_allclose(loss.detach(), expected, rtol=1e-6)  # a few roundings of float32, as below
    np.testing.assert_allclose(prediction.mean().detach(), [math.e**0.7 - 1, 1 - math.e**0.7], rtol=1e-6)


def test_softmax_regression_against_a_loop():
    rng = np.random.default_rng(4)
    logits, values = np.float32(2 * rng.standard_normal((20, 51))).astype(float), 9 * rng.uniform(-1, 1, (20, 2))
    probs = rng.dirichlet(np.ones(2), 20)
    outputs = torch.tensor(logits).float().requires_grad_()
    loss = selected("mse_softmax", outputs).loss(Atoms(torch.tensor(values).float(), torch.tensor(probs).float()))
    loss.sum().backward()
    centers = np.linspace(-10, 10, 51)
    for b in range(20):
        p = np.exp(logits[b]) / np.exp(logits[b]).sum()
        q, y = sum(p * centers), sum(values[b] * probs[b])
        assert loss[b].item() == pytest.approx((q - y) ** 2, rel=TOLERANCE, abs=TOLERANCE)
        # A squared error of up to 300 has gradients of up to 40 here.
        np.testing.assert_allclose(outputs.grad[b], 2 * (q - y) * p * (centers - q), atol=1e-4)


@pytest.mark.parametrize("support", [(-10.0, 10.0), (-2.0, 30.0)])
def test_bce_is_binary_cross_entropy_on_the_scaled_return(support):
    torch.manual_seed(0)
    v_min, v_max = support
    logits = 3 * torch.randn(40, 1)
    values, probs = v_min + (v_max - v_min) * torch.rand(40, 4), torch.rand(40, 4).softmax(-1)
    prediction = selected("bce", logits, support)
    scaled = ((values * probs).sum(-1) - v_min) / (v_max - v_min)
    expected = functional.binary_cross_entropy_with_logits(logits.squeeze(-1), scaled, reduction="none")
    # returns up to 30 rounded in float32, then divided by the range
    torch.testing.assert_close(prediction.loss(Atoms(values, probs)), expected, atol=2e-6, rtol=2e-6)
    torch.testing.assert_close(prediction.mean(), v_min + (v_max - v_min) * logits.squeeze(-1).sigmoid())
