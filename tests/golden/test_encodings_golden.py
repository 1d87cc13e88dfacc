"""Encodings against hand tables, float64 loops and scipy.

Dimensions: B batch, K atoms, m bins.
"""

import math

import numpy as np
import pytest
import scipy.stats
import torch

from value_heads.base import Atoms, Support
from value_heads.encodings import HLGauss, OneHot, TwoHot

# float32 has 6e-8 relative: a return near 10 is known to 5e-7, which is 1.2e-6 of a bin 0.4 wide, and a probability
# of 51 bins inherits that. 1e-5 leaves room for the second rounding in the quotient.
PROBABILITY_TOLERANCE = 1e-5


def encode(encoding, values):
    return encoding(Atoms.at(torch.as_tensor(values, dtype=torch.float32))).numpy()


def loop_edges(v_min, v_max, num_bins, padding):
    width = (v_max - v_min) / (num_bins - 2 * padding)
    return [v_min - padding * width + i * width for i in range(num_bins + 1)]


def loop_two_hot(y, centers):
    y = min(max(y, centers[0]), centers[-1])
    probs = [0.0] * len(centers)
    for i in range(len(centers) - 1):
        if centers[i] <= y <= centers[i + 1]:
            probs[i] = (centers[i + 1] - y) / (centers[i + 1] - centers[i])
            probs[i + 1] = (y - centers[i]) / (centers[i + 1] - centers[i])
            return probs
    raise AssertionError("not between two centers")


def loop_one_hot(y, edges):
    y = min(max(y, edges[0]), edges[-1])
    probs = [0.0] * (len(edges) - 1)
    for i in range(len(edges) - 1):
        if y <= edges[i + 1]:  # first bin whose upper edge is not below: a tie belongs to the lower bin
            probs[i] = 1.0
            return probs
    raise AssertionError("beyond the last edge")


def loop_hl_gauss(y, v_min, v_max, edges, sigma):
    y = min(max(y, v_min), v_max)
    cdf = [0.5 * (1 + math.erf((e - y) / (sigma * math.sqrt(2)))) for e in edges]
    return [(cdf[i + 1] - cdf[i]) / (cdf[-1] - cdf[0]) for i in range(len(edges) - 1)]


# Farebrother et al. 2024, eq. 3.2 with the two weights in the order that keeps the mean; bins at -2, -1, 0, 1, 2.
TWO_HOT_TABLE = [
    (0.3, (0, 0, 0.7, 0.3, 0)),
    (-0.25, (0, 0.25, 0.75, 0, 0)),
    (-2.0, (1, 0, 0, 0, 0)),
    (1.0, (0, 0, 0, 1, 0)),  # exactly on a center: floor/ceil implementations lose all mass here
    (2.0, (0, 0, 0, 0, 1)),
    (7.5, (0, 0, 0, 0, 1)),
    (-2.0001, (1, 0, 0, 0, 0)),
]

# Ruoss et al. 2024 (searchless chess): np.searchsorted(edges[1:-1], y, side="left"); edges at 0, 1, 2, 3, 4.
ONE_HOT_TABLE = [
    (0.0, 0),
    (0.5, 0),
    (1.0, 0),  # on an edge: the lower bin
    (1.0001, 1),
    (2.0, 1),
    (3.0, 2),
    (3.5, 3),
    (4.0, 3),
    (9.0, 3),
    (-9.0, 0),
]

# Five unit bins with centers -2 .. 2 and sigma 0.75 at y = 0.3: differences of the normal distribution function at
# (-2.5, -1.5, -0.5, 0.5, 1.5, 2.5) divided by their sum 0.9982. From tables of the normal distribution, 4 digits.
HL_GAUSS_TABLE = (0.0081, 0.1351, 0.4629, 0.3407, 0.0532)


@pytest.mark.parametrize(("y", "expected"), TWO_HOT_TABLE)
def test_two_hot_by_hand(y, expected):
    probs = encode(TwoHot(Support(-2, 2), 5), [y])[0]
    np.testing.assert_allclose(probs, expected, atol=2e-7)  # centers are small integers: two roundings of float32


@pytest.mark.parametrize(("y", "index"), ONE_HOT_TABLE)
def test_one_hot_by_hand(y, index):
    np.testing.assert_array_equal(encode(OneHot(Support(0, 4), 4), [y])[0], np.eye(4)[index])


@pytest.mark.parametrize(("placement", "support"), [("edges", (-2.5, 2.5)), ("centered", (-2, 2))])
def test_hl_gauss_by_hand(placement, support):
    encoding = HLGauss(Support(*support), 5, sigma_ratio=0.75, bin_placement=placement)
    probs = encode(encoding, [0.3])[0]
    np.testing.assert_allclose(probs, HL_GAUSS_TABLE, atol=5e-5)  # the table has four digits
    assert float(encoding.mean(torch.tensor(probs))) == pytest.approx(0.2958, abs=5e-5)


def test_two_hot_centers_reach_the_ends_of_the_range_and_hl_gauss_edges_do():
    """Two supports that are easily confused: [-10, 10] with 51 bins has gaps of 0.4 in C51, 0.39216 in HL-Gauss."""
    two_hot, hl_gauss = TwoHot(Support(-10, 10), 51), HLGauss(Support(-10, 10), 51)
    np.testing.assert_allclose(two_hot.centers, np.linspace(-10, 10, 51), atol=1e-6)  # float32 at 10: 5e-7
    np.testing.assert_allclose(hl_gauss.edges, np.linspace(-10, 10, 52), atol=1e-6)
    assert float(hl_gauss.centers[-1]) == pytest.approx(9.80392, abs=5e-6)
    assert hl_gauss.sigma == pytest.approx(0.29412, abs=5e-6)


@pytest.mark.parametrize(("support", "num_bins"), [((-10, 10), 51), ((-2, 30), 33), ((0, 1), 2), ((-300.5, 17), 201)])
def test_two_hot_against_a_loop(support, num_bins):
    rng = np.random.default_rng(0)
    centers = [support[0] + i * (support[1] - support[0]) / (num_bins - 1) for i in range(num_bins)]
    span = support[1] - support[0]
    values = np.concatenate([rng.uniform(support[0] - span / 4, support[1] + span / 4, 200), centers])
    expected = [loop_two_hot(float(np.float32(y)), centers) for y in values]
    # -300.5 in float32 is known to 1.5e-5, and its bins are 1.6 wide: the tolerance holds for it too.
    np.testing.assert_allclose(
        encode(TwoHot(Support(*support), num_bins), values), expected, atol=2 * PROBABILITY_TOLERANCE
    )


@pytest.mark.parametrize(("support", "num_bins"), [((-10, 10), 51), ((-2, 30), 33), ((0, 1), 2)])
def test_one_hot_against_a_loop(support, num_bins):
    rng = np.random.default_rng(1)
    edges = loop_edges(*support, num_bins, 0)
    values = rng.uniform(support[0] - 1, support[1] + 1, 300)
    nearest_edge = np.abs(values[:, None] - np.array(edges)).min(1)
    values = values[nearest_edge > 1e-5]  # float32 cannot say on which side of an edge the others are
    assert len(values) > 290
    expected = [loop_one_hot(float(y), edges) for y in values]
    np.testing.assert_array_equal(encode(OneHot(Support(*support), num_bins), values), expected)


@pytest.mark.parametrize("ratio", [0.05, 0.25, 0.5, 0.75, 1.0, 2.0])
@pytest.mark.parametrize("placement", ["edges", "centered", "padded"])
@pytest.mark.parametrize(("support", "num_bins"), [((-10, 10), 51), ((-2, 30), 33)])
def test_hl_gauss_against_a_loop_and_scipy(support, num_bins, placement, ratio):
    """The truncated normal of scipy, and the formula written out; values inside, outside and at the ends."""
    padding = {"edges": 0.0, "centered": 0.5, "padded": 3 * ratio}[placement]
    edges = loop_edges(*support, num_bins, padding)
    sigma = ratio * (edges[1] - edges[0])
    rng = np.random.default_rng(2)
    values = np.float32(np.concatenate([rng.uniform(*support, 60), [support[0], support[1], -1e4, 1e4]])).astype(float)
    actual = encode(HLGauss(Support(*support), num_bins, sigma_ratio=ratio, bin_placement=placement), values)

    loop = [loop_hl_gauss(y, *support, edges, sigma) for y in values]
    clamped = np.clip(values, *support)[:, None]
    truncated = scipy.stats.truncnorm((edges[0] - clamped) / sigma, (edges[-1] - clamped) / sigma, clamped, sigma)
    scipys = np.diff(truncated.cdf(np.array(edges)[None]), axis=1)

    # A distribution function moves by at most 0.4 d/sigma when its argument moves by d. Edges and values near 30 are
    # known to 2e-6 in float32, near 10 to 1e-6; sigma is 0.02 at the least.
    tolerance = PROBABILITY_TOLERANCE + 0.4 * 2 * np.spacing(np.float32(max(map(abs, edges)))) / sigma
    assert tolerance < 1e-4
    np.testing.assert_allclose(actual, loop, atol=tolerance)
    np.testing.assert_allclose(actual, scipys, atol=tolerance)


def test_hl_gauss_of_a_small_sigma_is_one_hot_not_two_hot():
    support, num_bins = Support(-10, 10), 51
    rng = np.random.default_rng(3)
    values = rng.uniform(-10, 10, 300)
    edges = np.linspace(-10, 10, num_bins + 1)
    width = edges[1] - edges[0]
    values = values[np.abs(values[:, None] - edges).min(1) > 6 * 0.05 * width]  # six sigma: 1e-9 leaks over an edge
    hl_gauss = encode(HLGauss(support, num_bins, sigma_ratio=0.05), values)
    assert len(values) > 100
    np.testing.assert_allclose(hl_gauss, encode(OneHot(support, num_bins), values), atol=1e-6)  # rounding of erf
    assert np.abs(hl_gauss - encode(TwoHot(support, num_bins), values)).max() > 0.1


@pytest.mark.parametrize("encoding_class", [OneHot, TwoHot, HLGauss])
def test_decoding_is_the_sum_of_mass_times_center(encoding_class):
    encoding = encoding_class(Support(-3, 17), 21)
    probs = np.random.default_rng(4).dirichlet(np.ones(21), 20)
    padding = 0.5 if encoding_class is TwoHot else 0.0
    edges = loop_edges(-3, 17, 21, padding)
    expected = [sum(p * (edges[i] + edges[i + 1]) / 2 for i, p in enumerate(row)) for row in probs]
    actual = encoding.mean(torch.tensor(probs, dtype=torch.float32))
    np.testing.assert_allclose(actual, expected, atol=1e-5)  # 21 products of up to 17, each with 6e-8


@pytest.mark.parametrize("encoding_class", [OneHot, TwoHot, HLGauss])
def test_returns_laid_out_in_any_order(encoding_class):
    """Transposed values, on which torch.bucketize would warn."""
    encoding, values = encoding_class(Support(-3, 17), 21), torch.linspace(-4, 18, 30).unflatten(0, (5, 6))
    atoms = Atoms(values.t(), torch.full((6, 5), 0.2))
    assert torch.equal(encoding(atoms), encoding(Atoms(values.t().contiguous(), atoms.probs)))
