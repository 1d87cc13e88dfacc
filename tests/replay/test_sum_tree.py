"""Is the tree a function of its leaves, and does it find each in proportion to its weight, never one that has none?

The oracle keeps a list and adds exact fractions.
"""

import math
from fractions import Fraction
from itertools import accumulate

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from agents.replay.sum_tree import FAN_OUT, SumTree, row_sum

CAPACITIES = [1, 2, 31, 32, 33, 1024, 1025, 2500]
every_capacity = pytest.mark.parametrize("capacity", CAPACITIES)


def doubles(values):
    return torch.tensor(values, dtype=torch.float64)


def filled(weights):
    tree = SumTree(len(weights))
    tree.set_all(doubles(weights))
    return tree


def assert_same_bits(tree, other):
    for level, expected in zip(tree.levels, other.levels, strict=True):
        assert torch.equal(level, expected)


def test_a_sum_does_not_depend_on_what_is_summed_beside_it():
    values = torch.rand(300, FAN_OUT, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = [list(accumulate(row.tolist()))[-1] for row in values]
    assert row_sum(values).tolist() == expected
    for k in (1, 2, 7, 299):
        assert row_sum(values[:k]).tolist() == expected[:k]
        assert row_sum(values[torch.arange(k)]).tolist() == expected[:k]
    assert expected != [math.fsum(row.tolist()) for row in values], "numbers whose order matters"


@st.composite
def histories(draw):
    """A capacity, and sets of leaves with repetitions to weights that are sums of exact binary fractions."""
    capacity = draw(st.sampled_from(CAPACITIES))
    leaves = st.integers(0, capacity - 1)
    weights = st.integers(0, 2**20).map(lambda k: k / 1024)
    size = draw(st.sampled_from([3, 60]))  # paths, and everything where that is less work
    return capacity, draw(st.lists(st.lists(st.tuples(leaves, weights), min_size=1, max_size=size), max_size=6))


@given(histories())
@settings(max_examples=150, deadline=None)
def test_leaves_and_sums_against_a_list(history):
    capacity, sets = history
    tree, oracle = SumTree(capacity), [0.0] * capacity
    for pairs in sets:
        for leaf, _ in pairs:
            oracle[leaf] = 0.0
        for leaf, weight in pairs:  # the largest of those that one call names
            oracle[leaf] = max(oracle[leaf], weight)
        leaf, weight = zip(*pairs, strict=True)
        tree.set(torch.tensor(leaf), doubles(weight))
        assert tree.weights.tolist() == oracle
        assert Fraction(float(tree.total())) == sum(map(Fraction, oracle)), "these sums are exact in float64"
    assert_same_bits(tree, filled(oracle))


@given(st.sampled_from(CAPACITIES), st.data())
@settings(max_examples=150, deadline=None)
def test_find_is_the_inverse_of_the_running_sum(capacity, data):
    some = data.draw(st.lists(st.tuples(st.integers(0, capacity - 1), st.integers(1, 9)), min_size=1, max_size=20))
    weights = [0] * capacity
    for leaf, weight in some:
        weights[leaf] = weight
    tree, upto = filled(weights), list(accumulate(weights))
    halves = range(2 * upto[-1])  # each boundary, where the next leaf begins, and between them
    expected = [next(i for i, total in enumerate(upto) if total > half / 2) for half in halves]
    assert tree.find(doubles([half / 2 for half in halves])).tolist() == expected


HOSTILE = [-math.inf, -1.0, -5e-324, -0.0, 0.0, 5e-324, math.inf, math.nan]
WEIGHTS = {
    "ordinary": lambda rng, k: rng.random(k),
    "tiny beside huge": lambda rng, k: 10.0 ** rng.integers(-300, 300, k),
    "subnormal": lambda rng, k: np.full(k, 5e-324),
    "thirds": lambda rng, k: np.full(k, 1 / 3),
}


@every_capacity
@pytest.mark.parametrize("weights", WEIGHTS)
def test_a_leaf_without_weight_is_never_found(capacity, weights):
    rng = np.random.default_rng(capacity)
    for trial in range(10):
        num_positive = 1 if trial < 4 else int(rng.integers(1, capacity + 1))
        positive = rng.choice(capacity, num_positive, replace=False)
        positive = {0: [0], 1: [capacity - 1]}.get(trial, positive)
        leaf_weights = np.zeros(capacity)
        leaf_weights[positive] = WEIGHTS[weights](rng, len(positive))
        tree = filled(leaf_weights.tolist())
        total = float(tree.total())
        # Where rounding could lead astray: the total and what is next to it, and each running sum likewise.
        forth, back = np.cumsum(leaf_weights), np.cumsum(leaf_weights[::-1])
        some = rng.choice(capacity, min(capacity, 100), replace=False)
        sums = np.concatenate([[total, 2 * total, forth[-1], back[-1]], forth[some], back[some]])
        at = np.concatenate([HOSTILE, sums, np.nextafter(sums, -np.inf), np.nextafter(sums, np.inf)])
        found = tree.find(torch.from_numpy(at))
        assert (tree.weights[found] > 0).all()
        last = np.flatnonzero(leaf_weights)[-1]
        assert tree.find(doubles([math.inf, 2 * total + 1])).tolist() == [last, last]
        assert tree.find(doubles([-math.inf, -1.0])).tolist() == [np.flatnonzero(leaf_weights)[0]] * 2


def test_only_the_paths_of_changed_leaves_are_summed():
    tree = SumTree(6 * FAN_OUT**2)
    tree.set(torch.tensor([0, 5000]), doubles([1.0, 2.0]))
    tree.levels[2][0, 0] = 100.0  # the parent of leaf 0 is made wrong, and stays so as long as nobody asks
    tree.set(torch.tensor([2000, 3000]), doubles([4.0, 8.0]))
    assert tree.levels[2][0, 0] == 100
    tree.set(torch.tensor([1]), doubles([16.0]))
    assert tree.total() == 1 + 2 + 4 + 8 + 16


def test_a_million_updates_leave_no_trace():
    """Sums do not drift, and leaves are found as often as they weigh."""
    capacity, batch, g = 20_000, 500, torch.Generator().manual_seed(1)
    tree = SumTree(capacity)
    for _ in range(1_000_000 // batch):
        leaf = torch.randint(capacity, (batch,), generator=g)
        # Ten decades, so that what is added and taken away in a running total would be lost in it.
        tree.set(leaf, 10 ** (10 * torch.rand(batch, dtype=torch.float64, generator=g) - 5))
        assert batch * FAN_OUT < capacity, "only paths are summed"
    exact = math.fsum(tree.weights.tolist())
    # On each of the 3 levels above a leaf 31 additions round by half an ulp at most, and nothing else does.
    assert abs(float(tree.total()) - exact) <= 3 * 31 * 2**-53 * exact
    assert_same_bits(tree, filled(tree.weights.tolist()))
    tree.set(torch.arange(0, capacity, 7), torch.zeros(len(range(0, capacity, 7)), dtype=torch.float64))
    # Weights of one decade now, which a chi-square can tell apart: 400,000 draws are 20 for each leaf.
    tree.set(torch.arange(capacity), (tree.weights > 0) * (1 + tree.weights.log10().clamp(min=0)))
    probability = tree.weights.numpy() / math.fsum(tree.weights.tolist())
    found = tree.find(torch.rand(400_000, dtype=torch.float64, generator=g) * tree.total())
    counts = np.bincount(found.numpy(), minlength=capacity)
    some = probability > 0
    assert counts[~some].sum() == 0
    # The seed is fixed, so this passes or fails for good.
    assert stats.chisquare(counts[some], probability[some] * counts.sum()).pvalue > 0.01
