"""C51: the projection of a backed-up distribution, which here is two-hot with a distributional bootstrap.

Dimensions: B batch, m bins and atoms.
"""

import math

import numpy as np
import pytest
import torch

from value_heads import Atoms, make_head
from value_heads.base import Support
from value_heads.encodings import TwoHot

# A moved atom near 10 is known to 5e-7 in float32, of a gap of 0.4 that is 1.2e-6; the masses sum to 1, so that the
# errors of one bin do too. Twice rounded (reward + discount * z), with room: 1e-5.
TOLERANCE = 1e-5


def loop_projection(probs, reward, discount, v_min, v_max):
    """Algorithm 1 of Bellemare et al. 2017, with the case l == u that its text leaves out."""
    num_atoms = len(probs)
    gap = (v_max - v_min) / (num_atoms - 1)
    projected = [0.0] * num_atoms
    for j in range(num_atoms):
        moved = min(max(reward + discount * (v_min + j * gap), v_min), v_max)
        position = (moved - v_min) / gap
        nearest = round(position)
        if abs(position - nearest) < 1e-9:
            position = nearest
        lower, upper = math.floor(position), math.ceil(position)
        if lower == upper:
            projected[lower] += probs[j]
        else:
            projected[lower] += probs[j] * (upper - position)
            projected[upper] += probs[j] * (position - lower)
    return projected


def project(probs, reward, discount, encoding):
    atoms = Atoms(encoding.values().expand(probs.shape), torch.tensor(probs, dtype=torch.float32))
    moved = atoms.backup(torch.as_tensor(reward, dtype=torch.float32), torch.as_tensor(discount, dtype=torch.float32))
    return encoding(moved)


def random_case(seed, batch=64, num_bins=51):
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.full(num_bins, 0.3), batch)
    rewards = rng.uniform(-15, 15, batch)
    discounts = rng.choice([0.0, 0.5, 0.97, 0.99, 1.0], batch)
    rewards[:8] = np.round(rewards[:8])
    # float32 values, so that the loop and the code are given the same numbers
    return probs, np.float32(rewards).astype(float), np.float32(discounts).astype(float)


@pytest.mark.parametrize(("support", "num_bins"), [((-10, 10), 51), ((-2, 30), 21), ((0, 5), 2)])
def test_against_the_published_loop(support, num_bins):
    encoding = TwoHot(Support(*support), num_bins)
    probs, rewards, discounts = random_case(0, num_bins=num_bins)
    expected = [loop_projection(p, r, d, *support) for p, r, d in zip(probs, rewards, discounts, strict=True)]
    np.testing.assert_allclose(project(probs, rewards, discounts, encoding), expected, atol=TOLERANCE)


def test_by_hand():
    """Atoms -1, 0, 1 with mass .2, .5, .3; reward .5, discount .5: atoms move to 0, .5, 1."""
    projected = project(np.array([[0.2, 0.5, 0.3]]), [0.5], [0.5], TwoHot(Support(-1, 1), 3))
    np.testing.assert_allclose(projected[0], [0, 0.2 + 0.25, 0.25 + 0.3], atol=1e-7)


def test_the_whole_head_is_c51():
    """make_head("c51"): bootstrap atoms, backup and loss together, against loop and log-sum-exp in float64."""
    torch.manual_seed(0)
    head = make_head("c51", in_features=7, num_actions=3, support=(-10, 10))
    features, next_features = torch.randn(16, 7), 3 * torch.randn(16, 7)
    _, rewards, discounts = random_case(1, batch=16)
    with torch.no_grad():
        following = head(next_features)
        greedy = following.mean().argmax(-1)
        goal = following.select(greedy).atoms().backup(torch.tensor(rewards).float(), torch.tensor(discounts).float())
        values = head(features)
        loss = values.select(torch.arange(16) % 3).loss(goal)

    next_logits = following.outputs.double().numpy()
    next_probs = np.exp(next_logits) / np.exp(next_logits).sum(-1, keepdims=True)
    best = (next_probs @ np.linspace(-10, 10, 51)).argmax(-1)
    np.testing.assert_array_equal(best, greedy)
    logits = values.outputs.double().numpy()
    for b in range(16):
        target = loop_projection(next_probs[b, best[b]], rewards[b], discounts[b], -10, 10)
        row = logits[b, b % 3]
        expected = -sum(t * (f - math.log(sum(math.exp(g) for g in row))) for t, f in zip(target, row, strict=True))
        assert float(loss[b]) == pytest.approx(expected, abs=1e-4)  # |log p| up to 10 times TOLERANCE


def test_a_terminal_step_is_two_hot_of_the_reward():
    encoding = TwoHot(Support(-10, 10), 51)
    probs, rewards, _ = random_case(2)
    projected = project(probs, rewards, np.zeros(len(rewards)), encoding)
    torch.testing.assert_close(projected, encoding(Atoms.at(torch.tensor(rewards).float())), atol=1e-6, rtol=0)


def test_the_identity_backup_changes_nothing():
    """reward 0 and discount 1: every atom is on its center, where floor and ceil coincide."""
    probs, _, _ = random_case(3)
    projected = project(probs, np.zeros(len(probs)), np.ones(len(probs)), TwoHot(Support(-10, 10), 51))
    np.testing.assert_allclose(projected, probs, atol=1e-7)  # nothing moves: only the rounding of probs to float32


def test_the_mean_is_kept_where_nothing_is_clipped():
    encoding = TwoHot(Support(-10, 10), 51)
    rng = np.random.default_rng(4)
    probs, discounts = rng.dirichlet(np.ones(51), 200), rng.uniform(0, 0.9, 200)
    rewards = rng.uniform(-1, 1, 200) * (10 - 10 * discounts)
    expected = rewards + discounts * (probs @ np.linspace(-10, 10, 51))
    decoded = encoding.mean(project(probs, rewards, discounts, encoding))
    np.testing.assert_allclose(decoded, expected, atol=1e-5)  # a mean of numbers up to 10, in float32


def test_the_mean_moves_inwards_where_something_is_clipped():
    encoding = TwoHot(Support(-10, 10), 51)
    probs = np.full((1, 51), 1 / 51)
    clipped = np.clip(5 + np.linspace(-10, 10, 51), -10, 10).mean()
    assert float(encoding.mean(project(probs, [5.0], [1.0], encoding))) == pytest.approx(clipped, abs=1e-5)
    assert clipped < 5 - 0.5


def test_two_hot_is_the_projection_of_a_dirac():
    """On a center, a Dirac moved by a reward is encoded as the projection of a one-hot distribution."""
    encoding = TwoHot(Support(-10, 10), 51)
    rng = np.random.default_rng(5)
    at, rewards, discounts = rng.integers(0, 51, 100), rng.uniform(-12, 12, 100), rng.uniform(0, 1, 100)
    expected = encoding(Atoms.at(torch.tensor(rewards + discounts * np.linspace(-10, 10, 51)[at]).float()))
    np.testing.assert_allclose(project(np.eye(51)[at], rewards, discounts, encoding), expected, atol=TOLERANCE)
