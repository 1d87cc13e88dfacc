"""Atoms and what is done with them: backups, mixtures, soft averages.

Dimensions: B batch, A actions, K atoms, N quantiles, m bins.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from value_heads import ENCODINGS, Atoms, make_head
from value_heads.base import Support
from value_heads.encodings import HLGauss, TwoHot
from value_heads.quantile import QuantileValues, midpoints

few = settings(deadline=None, derandomize=True, max_examples=25, database=None)
seeds = st.integers(0, 2**31 - 1)
shapes = st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 6))

# Returns here are below 30 and sums have at most 24 terms of float32 (6e-8 relative).
TOLERANCE = 2e-5


def random_atoms(rng, *shape):
    values, probs = rng.uniform(-9, 9, shape), rng.dirichlet(np.ones(shape[-1]), shape[:-1])
    return Atoms(torch.tensor(values).float(), torch.tensor(probs).float()), values, probs


def floats(array):
    return torch.tensor(array).float()


def test_an_atom_at_a_value():
    atoms = Atoms.at(torch.tensor([[1.0, 2.0]]))
    assert atoms.values.shape == atoms.probs.shape == (1, 2, 1)
    assert torch.equal(atoms.mean(), torch.tensor([[1.0, 2.0]]))


def test_backup_by_hand():
    atoms = Atoms(torch.tensor([[1.0, 3.0], [1.0, 3.0]]), torch.tensor([[0.25, 0.75], [0.25, 0.75]]))
    moved = atoms.backup(torch.tensor([-1.0, 2.0]), torch.tensor([0.5, 0.0]))
    assert torch.equal(moved.values, torch.tensor([[-0.5, 0.5], [2.0, 2.0]]))
    assert torch.equal(moved.probs, atoms.probs)
    assert torch.equal(moved.mean(), torch.tensor([0.25, 2.0]))


@few
@given(seed=seeds, shape=shapes)
def test_the_mean_of_a_backup(seed, shape):
    rng = np.random.default_rng(seed)
    atoms, values, probs = random_atoms(rng, shape[0], shape[2])
    reward, discount = rng.uniform(-9, 9, shape[0]), rng.uniform(0, 1, shape[0])
    expected = reward + discount * (values * probs).sum(-1)
    np.testing.assert_allclose(atoms.backup(floats(reward), floats(discount)).mean(), expected, atol=TOLERANCE)


@few
@given(seed=seeds, shape=shapes, shifted=st.booleans())
def test_mixtures_over_actions(seed, shape, shifted):
    """Every atom of every action, with the product of both masses."""
    rng = np.random.default_rng(seed)
    num_actions, num_atoms = shape[1:]
    atoms, values, probs = random_atoms(rng, *shape)
    policy = rng.dirichlet(np.ones(num_actions), shape[0])
    offset = rng.uniform(-5, 5, shape[:2]) if shifted else np.zeros(shape[:2])
    mixture = atoms.mix(floats(policy), floats(offset) if shifted else None)
    assert mixture.values.shape == mixture.probs.shape == (shape[0], num_actions * num_atoms)
    for b in range(shape[0]):
        expected = [
            (values[b, a, k] + offset[b, a], probs[b, a, k] * policy[b, a])
            for a in range(num_actions)
            for k in range(num_atoms)
        ]
        np.testing.assert_allclose(mixture.values[b], [v for v, _ in expected], atol=TOLERANCE)
        np.testing.assert_allclose(mixture.probs[b], [p for _, p in expected], atol=1e-6)
    np.testing.assert_allclose(mixture.mean(), (policy * ((values * probs).sum(-1) + offset)).sum(-1), atol=TOLERANCE)


@few
@given(seed=seeds, shape=shapes, shifted=st.booleans())
def test_quantile_functions_are_averaged(seed, shape, shifted):
    rng = np.random.default_rng(seed)
    quantiles, policy = rng.uniform(-9, 9, shape), rng.dirichlet(np.ones(shape[1]), shape[0])
    offset = rng.uniform(-5, 5, shape[:2]) if shifted else np.zeros(shape[:2])
    prediction = QuantileValues(floats(quantiles), midpoints(shape[2]), 1.0)
    average = prediction.average(floats(policy), floats(offset) if shifted else None)
    expected = np.average(quantiles + offset[..., None], axis=1, weights=np.repeat(policy[..., None], shape[2], -1))
    np.testing.assert_allclose(average.values, expected, atol=TOLERANCE)
    np.testing.assert_allclose(average.probs, np.full((shape[0], shape[2]), 1 / shape[2]), atol=1e-7)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("bootstrap", ["mean", "distribution"])
@few
@given(seed=seeds, shifted=st.booleans())
def test_the_soft_value_of_bin_heads(encoding, bootstrap, seed, shifted):
    """sum_a pi_a (Q_a + offset_a), whatever the atoms are."""
    torch.manual_seed(seed)
    head = make_head(
        "categorical", in_features=3, num_actions=4, support=(-5, 9), encoding=encoding, bootstrap=bootstrap,
        allow_biased=True, num_bins=11,
    )  # fmt: skip
    with torch.no_grad():
        values = head(3 * torch.randn(6, 3))
    policy, offset = torch.rand(6, 4).softmax(-1), torch.randn(6, 4) if shifted else None
    average = values.average(policy, offset)
    assert average.values.shape == (6, 1 if bootstrap == "mean" else 4 * 11)
    expected = (policy * (values.mean() + (offset if shifted else 0))).sum(-1)
    torch.testing.assert_close(average.mean(), expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("transform", ["identity", "symlog", "hyperbolic"])
@few
@given(seed=seeds, num_bins=st.integers(2, 60), num_atoms=st.integers(1, 5))
def test_encodings_are_distributions_and_linear(encoding, transform, seed, num_bins, num_atoms):
    rng = np.random.default_rng(seed)
    v_min, v_max = sorted(rng.uniform(-50, 50, 2))
    v_max += 1.0
    part = ENCODINGS[encoding](Support(v_min, v_max), num_bins, transform=transform)
    values = rng.uniform(v_min - 5, v_max + 5, (4, num_atoms))
    probs = rng.dirichlet(np.ones(num_atoms), 4)
    encoded = part(Atoms(floats(values), floats(probs)))
    assert encoded.shape == (4, num_bins)
    assert (encoded >= 0).all()
    np.testing.assert_allclose(encoded.sum(-1), 1, atol=3e-6)  # up to 60 bins with 6e-8 each
    apart = sum(floats(probs[:, k, None]) * part(Atoms.at(floats(values[:, k]))) for k in range(num_atoms))
    torch.testing.assert_close(encoded, apart, atol=1e-6, rtol=0)


@few
@given(seed=seeds, num_bins=st.integers(2, 200), v_min=st.floats(-100, 100), span=st.floats(0.5, 200))
def test_two_hot_keeps_the_mean_of_the_whole_support(seed, num_bins, v_min, span):
    encoding = TwoHot(Support(v_min, v_min + span), num_bins)
    values = torch.linspace(0, 1, 101).mul(span).add(v_min)
    largest = max(abs(v_min), abs(v_min + span))
    # Centers, masses and their products are rounded in float32: a few times 6e-8 of the largest center.
    decoded = encoding.mean(encoding(Atoms.at(values)))
    torch.testing.assert_close(decoded, values, atol=1e-6 * largest + 1e-6, rtol=0)


def test_a_target_beyond_the_support_is_its_end():
    for encoding in (TwoHot(Support(-2, 7), 19), HLGauss(Support(-2, 7), 19)):
        ends = encoding(Atoms.at(torch.tensor([-2.0, 7.0])))
        for far in (1e-3, 5.0, 9e3, 1e30, float("inf")):
            assert torch.equal(encoding(Atoms.at(torch.tensor([-2 - far, 7 + far]))), ends)
