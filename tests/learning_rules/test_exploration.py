"""Epsilon-greedy: its schedule, and that what it draws is legal and fair."""

import numpy as np
import pytest
import torch
from scipy import stats

from agents.config import ExplorationConfig
from agents.exploration import EpsilonGreedy, linear_schedule, random_actions

CONFIG = ExplorationConfig(epsilon_start=0.9, epsilon_end=0.1, epsilon_steps=200)


@pytest.mark.parametrize(("step", "epsilon"), [(0, 0.9), (50, 0.7), (100, 0.5), (200, 0.1), (201, 0.1), (10**9, 0.1)])
def test_epsilon_falls_linearly_and_stays(step, epsilon):
    # Three float64 operations on numbers around one.
    assert EpsilonGreedy(CONFIG, 0).epsilon(step) == pytest.approx(epsilon, rel=1e-14)
    assert linear_schedule(step, 0.9, 0.1, 200) == EpsilonGreedy(CONFIG, 0).epsilon(step)


def test_a_schedule_may_rise():
    assert linear_schedule(1, 0.0, 1.0, 4) == 0.25


def counts(actions, num_actions):
    return np.bincount(actions, minlength=num_actions)


def test_without_a_mask_every_action_is_equally_likely():
    actions = EpsilonGreedy(CONFIG, 1).explore(np.zeros(30_000, np.int64), 1.0, 5, None)
    assert actions.dtype == np.int64
    # The seed is fixed; one action drawn a tenth too often (6,600 of 30,000) would give p < 1e-10.
    assert stats.chisquare(counts(actions, 5)).pvalue > 0.01


def test_with_a_mask_every_legal_action_is_equally_likely_and_no_other_is_taken():
    mask = np.array([[True, True, False, True], [False, False, True, False]]).repeat(20_000, 0)
    actions = EpsilonGreedy(CONFIG, 2).explore(np.full(40_000, 2), 1.0, 4, mask)
    drawn = counts(actions[:20_000], 4)
    assert drawn[2] == 0
    assert stats.chisquare(drawn[[0, 1, 3]]).pvalue > 0.01
    assert (actions[20_000:] == 2).all()


def test_epsilon_zero_is_greedy():
    greedy = np.arange(1_000) % 3
    assert (EpsilonGreedy(CONFIG, 3).explore(greedy, 0.0, 3, None) == greedy).all()


def test_epsilon_is_the_share_that_explores_in_each_environment_alone():
    # Greedy is action 0 of 10, so 0.3 * 0.9 of 50,000 differ: 13,500 with a deviation of 99; four of them.
    actions = EpsilonGreedy(CONFIG, 4).explore(np.zeros(50_000, np.int64), 0.3, 10, None)
    assert abs((actions != 0).sum() - 13_500) < 4 * 99


def test_it_goes_on_from_its_state():
    straight, resumed = EpsilonGreedy(CONFIG, 5), EpsilonGreedy(CONFIG, 6)
    greedy = np.zeros(64, np.int64)
    straight.explore(greedy, 0.5, 4, None)
    torch.randn(3, generator=straight.generator)
    resumed.load_state_dict(straight.state_dict())
    assert torch.equal(torch.randn(3, generator=straight.generator), torch.randn(3, generator=resumed.generator))
    for epsilon in (0.5, 0.01, 1.0):
        assert (straight.explore(greedy, epsilon, 4, None) == resumed.explore(greedy, epsilon, 4, None)).all()


def test_random_actions_are_decided_by_the_generator():
    a, b = (random_actions(np.random.default_rng(7), 50, 6, None) for _ in range(2))
    assert (a == b).all()
