"""Facts about encodings: biases, entropy, robustness, precision, and where a head starts.

Dimensions: B batch, m bins, F features.
"""

import math

import numpy as np
import pytest
import torch

from value_heads import ENCODINGS, HEADS, LOSSES, Atoms, LinearOutput, head_options, make_head
from value_heads.base import Support
from value_heads.categorical import entropy, spread_around
from value_heads.encodings import HLGauss, OneHot, TwoHot


def bias_in_float64(encoding, values):
    """mean - return; buffers are float32, so the bins are chosen to be representable exactly."""
    encoding = encoding.double()
    values = torch.as_tensor(values, dtype=torch.float64)
    return (encoding.mean(encoding.encode(values)) - values).numpy()


def unit_bins(ratio, **options):
    """Width 1 and edges at the integers -16 .. 16."""
    return HLGauss(Support(-16, 16), 32, sigma_ratio=ratio, **options)


@pytest.mark.parametrize("ratio", [0.1, 0.25, 0.5, 0.75])
def test_hl_gauss_interior_bias(ratio):
    """Rounding to bin centers under Gaussian noise: a smoothed sawtooth.

    With edges at integers, center(y) - y = sum_k sin(2 pi k y) / (pi k), and noise of standard deviation r multiplies
    the k-th harmonic by exp(-2 (pi k r)^2).
    """
    y = np.linspace(-2, 2, 401)
    harmonics = [
        np.sin(2 * np.pi * k * y) / (np.pi * k) * math.exp(-2 * (math.pi * k * ratio) ** 2) for k in range(1, 60)
    ]
    bias = bias_in_float64(unit_bins(ratio), y)
    # The ends are 14 / (0.75) > 18 sigma away; what is left is float64 times a return of 2.
    np.testing.assert_allclose(bias, sum(harmonics), atol=2e-14)


@pytest.mark.parametrize(("ratio", "expected"), [(0.25, 0.093), (0.5, 2.3e-3), (0.75, 4.8e-6)])
def test_hl_gauss_interior_bias_is_bounded_by_the_first_harmonic(ratio, expected):
    bias = np.abs(bias_in_float64(unit_bins(ratio), np.linspace(-2, 2, 4001))).max()
    formula = math.exp(-2 * (math.pi * ratio) ** 2) / math.pi
    # At ratio .25 the second harmonic is 1.2 % of the first, and moves the maximum by its square; from .5 on, nothing.
    assert bias == pytest.approx(formula, rel=1e-3)
    assert bias == pytest.approx(expected, rel=0.02)  # the table has two digits


def test_hl_gauss_interior_bias_in_float32():
    """What float32 adds on the Atari support: 51 products of up to 10 with masses known to 1e-7."""
    encoding = HLGauss(Support(-10, 10), 51)
    y = torch.linspace(-5, 5, 2001)
    bias = encoding.mean(encoding(Atoms.at(y))) - y
    assert bias.abs().max() < 4.8e-6 * encoding.width + 5e-6


# Bias in bin widths of a return k bins below v_max, sigma 0.75 bins, edges on the range: a Gaussian cut off at v_max
# and rounded to centers, with mpmath's normal distribution function at 30 digits.
EDGE_BIAS = {0.0: -0.6901466, 0.5: -0.36879, 1.0: -0.1547983, 1.5: -0.04700011, 2.0: -0.009644613}


@pytest.mark.parametrize(("bins_below", "expected"), EDGE_BIAS.items())
def test_hl_gauss_bias_at_the_ends(bins_below, expected):
    bias = bias_in_float64(unit_bins(0.75), [16 - bins_below, -16 + bins_below])
    np.testing.assert_allclose(bias, [expected, -expected], rtol=1e-6)  # the table has seven digits


@pytest.mark.parametrize(("placement", "worst"), [("edges", 0.69), ("centered", 0.37), ("padded", 3.7e-3)])
def test_hl_gauss_worst_bias_of_a_bin_placement(placement, worst):
    """Over the whole range, in bin widths."""
    encoding = HLGauss(Support(-16, 16), 64, bin_placement=placement)
    bias = bias_in_float64(encoding, np.linspace(-16, 16, 8001)) / encoding.width
    assert np.abs(bias).max() == pytest.approx(worst, rel=0.01)


def test_hl_gauss_entropy_is_constant_inside():
    """1.2003 nats at ratio .75: what a perfect prediction still pays in cross-entropy."""
    encoding = HLGauss(Support(-10, 10), 51)
    nats = entropy(encoding(Atoms.at(torch.linspace(-8, 8, 500))))
    np.testing.assert_allclose(nats, 1.2003, atol=1e-4)  # the number has five digits; it ripples by 3e-5
    logits = encoding(Atoms.at(torch.zeros(1))).clamp(min=1e-30).log()
    loss = LOSSES["cross_entropy"]()(logits, encoding(Atoms.at(torch.zeros(1))))
    assert loss.item() == pytest.approx(1.2003, abs=1e-4)


def test_one_hot_is_off_by_half_a_bin_at_most():
    encoding = OneHot(Support(-10, 10), 40)
    y = torch.linspace(-10, 10, 4001)
    error = encoding.mean(encoding(Atoms.at(y))) - y
    assert error.abs().max() == pytest.approx(0.25, abs=1e-5)
    # A uniform error of +-1/2 bin has a standard deviation of width / sqrt(12); the sum over a grid of 100 per bin.
    assert error.square().mean().sqrt() == pytest.approx(0.5 / math.sqrt(12), rel=2e-3)


@pytest.mark.parametrize("transform", ["identity", "symlog", "hyperbolic"])
@pytest.mark.parametrize("name", ENCODINGS)
def test_every_target_is_finite(name, transform):
    """Without clamping HL-Gauss divides 0 by 0 from 5.42 sigma outside on, in float32."""
    encoding = ENCODINGS[name](Support(-10, 10), 51, transform=transform)
    far = torch.tensor([10.0, 10.01, 12.48, 28.7, 2e4, 1e30, 3e38, float("inf")])
    y = torch.cat([far, -far, torch.zeros(1)])
    encoded = encoding(Atoms.at(y))
    assert encoded.isfinite().all()
    np.testing.assert_allclose(encoded.sum(-1), 1, atol=1e-6)
    assert encoding.mean(encoded).abs().max() <= 10 + 1e-5
    loss = LOSSES["cross_entropy"]()(torch.zeros(51), encoded)
    np.testing.assert_allclose(loss, math.log(51), rtol=1e-6)  # a target of mass 0 would have loss 0


@pytest.mark.parametrize("transform", ["identity", "symlog", "hyperbolic"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_uniform_logits_mean_the_middle(encoding, loss, transform):
    for support, middle in (((-10, 10), 0.0), ((-2, 30), 14.0)):
        if transform != "identity" and middle:
            continue  # the middle of a squeezed range is not that of the range
        criterion = LOSSES[loss]()
        part = ENCODINGS[encoding](Support(*support), 51, transform=transform)
        decoded = part.mean(criterion.probs(torch.zeros(criterion.num_logits(51))))
        assert float(decoded) == pytest.approx(middle, abs=1e-5)  # 51 products of up to 30


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("transform", ["identity", "symlog", "hyperbolic"])
def test_targets_are_built_in_float32_under_autocast(name, transform):
    """bf16 would put errors of 0.07 into a probability."""
    encoding = ENCODINGS[name](Support(-10.1, 10.1), 51, transform=transform)
    atoms = Atoms(torch.linspace(-11, 11, 90).unflatten(0, (30, 3)), torch.rand(30, 3).softmax(-1))
    narrow = Atoms(atoms.values.bfloat16(), atoms.probs.bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        encoded, widened = encoding(atoms), encoding(narrow)
    assert encoded.dtype == widened.dtype == torch.float32
    assert torch.equal(encoded, encoding(atoms))
    assert encoding(Atoms(atoms.values.double(), atoms.probs.double())).dtype == torch.float32
    # Numbers that come in bf16 are widened before anything is computed from them, clamping included.
    assert torch.equal(widened, encoding(Atoms(narrow.values.float(), narrow.probs.float())))


@pytest.mark.parametrize("name", HEADS)
def test_outputs_and_losses_are_float32_under_autocast(name):
    torch.manual_seed(0)
    head = make_head(name, in_features=8, num_actions=3, support=(-10, 10))
    with torch.autocast("cpu", torch.bfloat16):
        values = head(torch.randn(4, 8).bfloat16())
        chosen = values.select(torch.tensor([0, 1, 2, 0]))
        loss = chosen.loss(values.select(torch.tensor([2, 1, 0, 0])).atoms())
    assert values.outputs.dtype == values.mean().dtype == loss.dtype == torch.float32
    assert values.atoms().values.dtype == values.atoms().probs.dtype == torch.float32


BIN_HEADS = ("one_hot", "two_hot", "hl_gauss", "c51", "bce", "mse_softmax")


def start(name, support, **options):
    """Q of a head whose last weights are zero: what its bias alone says."""
    head = make_head(name, in_features=8, num_actions=3, support=support, **options)
    torch.nn.init.zeros_(head.output.last.weight)
    q = head(torch.randn(5, 8)).mean()
    assert q.shape == (5, 3)
    # Equal but for vector lanes that round their sigmoids or exponentials differently.
    torch.testing.assert_close(q, q[:1, :1].expand(5, 3), atol=1e-5, rtol=0)
    return q[0, 0].item()


@pytest.mark.parametrize("support", [(-10, 10), (-2, 30), (-10, 110), (-30, 2)])
@pytest.mark.parametrize("name", BIN_HEADS)
def test_a_head_starts_at_zero(name, support):
    # Logits are rounded to float32: a mass of e^-5 and more is known to 5e-7, times returns of up to 110, averaged.
    assert start(name, support) == pytest.approx(0, abs=1e-4)
    if "loss" in head_options(name):
        for loss in LOSSES:
            if loss != "z_loss":  # which starts from a tent: half of the bins wide, it can be off near an end
                assert start(name, support, loss=loss, allow_biased=True) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("support", [(0, 100), (0, 1), (-100, 0), (5, 10), (-1, 200)])
@pytest.mark.parametrize("name", [name for name in BIN_HEADS if name != "bce"])  # its two bins are the ends
def test_where_zero_is_at_the_end_a_head_starts_near_it_and_every_bin_is_within_reach(name, support):
    """Logits may differ by 16: p_i ~ exp(-0.32 i) on 51 bins has its mean 1 / (e^0.32 - 1) = 2.65 bins from the end."""
    head = make_head(name, in_features=8, num_actions=3, support=support)
    grid = head.encoding.grid
    distance = 1 / (math.exp(16 / 50) - 1) * (grid[1] - grid[0]).item()
    expected = grid[-1].item() - distance if support[1] <= 0 else grid[0].item() + distance
    assert start(name, support) == pytest.approx(expected, rel=2e-3)  # the series ends after 51 bins, at e^-16
    probs = spread_around(0.0, grid)
    assert (probs.max() / probs.min()).log().item() == pytest.approx(16, abs=1e-6)


def test_the_start_distribution_has_the_largest_entropy():
    """Uniform where it is centred; elsewhere log p is linear in the grid, as Lagrange says."""
    np.testing.assert_allclose(spread_around(0.0, torch.linspace(-3, 3, 13)), 1 / 13, atol=1e-9)
    grid = torch.linspace(-2, 30, 33)
    probs = spread_around(0.0, grid)
    assert probs.sum().item() == pytest.approx(1, abs=1e-12)
    assert (probs @ grid.double()).item() == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(probs.log().diff().diff(), 0, atol=1e-9)
    assert (probs > 1e-8).all()


def test_the_start_is_the_same_for_every_action_and_hidden_layers_are_kept():
    head = make_head(
        "hl_gauss", in_features=8, num_actions=3, support=(-2, 30),
        output_layer=lambda f, a, d: LinearOutput(f, a, d, hidden=16),
    )  # fmt: skip
    bias = head.output.last.bias.detach().unflatten(0, (3, 51))
    assert torch.equal(bias[0], bias[1])
    assert torch.equal(bias[0], bias[2])
    x = torch.randn(5, 8)
    weights = {k: v.detach().numpy() for k, v in head.output.named_parameters()}
    inner = np.maximum(x.numpy() @ weights["hidden.weight"].T + weights["hidden.bias"], 0)
    expected = (inner @ weights["last.weight"].T + weights["last.bias"]).reshape(5, 3, 51)
    np.testing.assert_allclose(head(x).outputs.detach(), expected, atol=1e-5)  # sums of 16 float32 of order 1


def test_two_hot_is_mean_preserving_and_says_so():
    assert TwoHot(Support(-1, 3), 5).mean_preserving
    assert TwoHot(Support(-1, 3), 5, transform="symlog").mean_preserving
    assert TwoHot(Support(-1, 3), 5, decode="inverse_of_mean").mean_preserving  # the identity: both are the same
    assert not TwoHot(Support(-1, 3), 5, transform="symlog", decode="inverse_of_mean").mean_preserving
    assert not OneHot(Support(-1, 3), 5).mean_preserving
    assert not HLGauss(Support(-1, 3), 5).mean_preserving


def test_diagnostics_by_hand():
    """Bins at -1, 0, 1; prediction uniform; targets 0.5 and 3."""
    head = make_head("two_hot", in_features=2, num_actions=1, support=(-1, 1), num_bins=3)
    torch.nn.init.zeros_(head.output.last.weight)
    prediction = head(torch.zeros(2, 2)).select(torch.zeros(2, dtype=torch.int64))
    seen = prediction.diagnostics(Atoms.at(torch.tensor([0.5, 3.0])))
    seen = {k: v.item() for k, v in seen.items()}
    assert seen["cross_entropy"] == pytest.approx(math.log(3), rel=1e-6)
    assert seen["entropy"] == pytest.approx(math.log(3), rel=1e-6)
    # the targets are (0, .5, .5) with entropy log 2, and (0, 0, 1) with entropy 0
    assert seen["kl"] == pytest.approx(math.log(3) - math.log(2) / 2, rel=1e-6)
    assert seen["outer_bin_mass"] == pytest.approx(2 / 3, rel=1e-6)
    assert (seen["frac_target_low"], seen["frac_target_high"], seen["frac_target_clipped"]) == (0, 0.5, 0.5)


def test_clipped_share_weighs_atoms_by_their_mass():
    head = make_head("c51", in_features=2, num_actions=1, support=(-1, 1), num_bins=3)
    prediction = head(torch.zeros(1, 2)).select(torch.zeros(1, dtype=torch.int64))
    target = Atoms(torch.tensor([[-2.0, -1.0, 0.0, 1.5]]), torch.tensor([[0.1, 0.2, 0.4, 0.3]]))
    seen = prediction.diagnostics(target)
    assert seen["frac_target_low"].item() == pytest.approx(0.1)
    assert seen["frac_target_high"].item() == pytest.approx(0.3)
    assert seen["frac_target_clipped"].item() == pytest.approx(0.4)
    np.testing.assert_allclose(prediction.target_distribution(target).mean().item(), -0.1 - 0.2 + 0.3, atol=1e-6)


def test_two_bins_do_not_start_out_of_reach():
    """e^-4 between neighbours: 0 on [0, 100] starts at 100 / (1 + e^4) = 1.80, where a logit still learns."""
    assert start("bce", (0, 100)) == pytest.approx(100 / (1 + math.exp(4)), rel=1e-5)
