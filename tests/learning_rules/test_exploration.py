"""Exploration: schedules, and that what is drawn is legal and as likely as it should be. N environments, A actions."""

import numpy as np
import pytest
from scipy import stats

from agents.exploration import EXPLORATIONS, ApeX, Boltzmann, EpsilonGreedy, Greedy, linear_schedule, random_actions


def epsilon_greedy(seed=0):
    return EpsilonGreedy(1, seed, epsilon_start=0.9, epsilon_end=0.1, epsilon_steps=200)


def best(action, num_actions):
    """Action values [N, A] whose greedy actions are `action` [N]."""
    return np.eye(num_actions, dtype=np.float32)[action]


@pytest.mark.parametrize(("step", "epsilon"), [(0, 0.9), (50, 0.7), (100, 0.5), (200, 0.1), (201, 0.1), (10**9, 0.1)])
def test_epsilon_falls_linearly_and_stays(step, epsilon):
    # Three float64 operations on numbers around one.
    assert epsilon_greedy().epsilon(step) == pytest.approx(epsilon, rel=1e-14)
    assert linear_schedule(step, 0.9, 0.1, 200) == epsilon_greedy().epsilon(step)


@pytest.mark.parametrize(("step", "epsilon"), [(0, 0.9), (60, 0.9), (160, 0.5), (260, 0.1), (499, 0.1), (500, 0.0)])
def test_epsilon_waits_and_ends(step, epsilon):
    """0.9 until step 60, 0.1 from step 260, and nothing from step 500."""
    options = {"epsilon_start": 0.9, "epsilon_end": 0.1, "epsilon_steps": 200}
    exploration = EpsilonGreedy(1, 0, **options, epsilon_after_steps=60, epsilon_until_steps=500)
    assert exploration.epsilon(step) == pytest.approx(epsilon, rel=1e-14)
    assert exploration.metrics(step) == {"charts/epsilon": exploration.epsilon(step)}


def test_a_schedule_may_rise():
    assert linear_schedule(1, 0.0, 1.0, 4) == 0.25


def counts(actions, num_actions):
    return np.bincount(actions, minlength=num_actions)


def test_without_a_mask_every_action_is_equally_likely():
    actions = epsilon_greedy(1).explore(best(np.zeros(30_000, np.int64), 5), 1.0, None)
    assert actions.dtype == np.int64
    # The seed is fixed; one action drawn a tenth too often (6,600 of 30,000) would give p < 1e-10.
    assert stats.chisquare(counts(actions, 5)).pvalue > 0.01


def test_with_a_mask_every_legal_action_is_equally_likely_and_no_other_is_taken():
    mask = np.array([[True, True, False, True], [False, False, True, False]]).repeat(20_000, 0)
    actions = epsilon_greedy(2).explore(best(np.full(40_000, 2), 4), 1.0, mask)
    drawn = counts(actions[:20_000], 4)
    assert drawn[2] == 0
    assert stats.chisquare(drawn[[0, 1, 3]]).pvalue > 0.01
    assert (actions[20_000:] == 2).all()


def test_epsilon_zero_is_greedy():
    greedy = np.arange(1_000) % 3
    assert (epsilon_greedy(3).explore(best(greedy, 3), 0.0, None) == greedy).all()
    assert (Greedy(1_000, 3).choose(best(greedy, 3), 0, None) == greedy).all()


def test_epsilon_is_the_share_that_explores_in_each_environment_alone():
    # Greedy is action 0 of 10, so 0.3 * 0.9 of 50,000 differ: 13,500 with a deviation of 99; four of them.
    actions = epsilon_greedy(4).explore(best(np.zeros(50_000, np.int64), 10), 0.3, None)
    assert abs((actions != 0).sum() - 13_500) < 4 * 99


def test_epsilons_of_ape_x():
    """Horgan et al. 2018: from 0.4 to 0.4**8."""
    epsilons = ApeX(4, 0).epsilons
    assert epsilons == pytest.approx([0.4, 0.4 ** (1 + 7 / 3), 0.4 ** (1 + 14 / 3), 0.4**8], rel=1e-12)
    assert ApeX(1, 0).epsilons == pytest.approx([0.4])
    assert ApeX(4, 0).metrics(7) == {"charts/epsilon": epsilons.mean()}


def test_every_environment_of_ape_x_explores_with_its_own_epsilon():
    exploration, values = ApeX(3, 5, base=0.5, alpha=2.0), best(np.zeros(3, np.int64), 10)
    other = np.stack([exploration.choose(values, 0, None) != 0 for _ in range(20_000)]).sum(0)
    expected = 20_000 * 0.9 * np.array([0.5, 0.25, 0.125])
    assert (np.abs(other - expected) < 4 * np.sqrt(expected)).all()


def test_boltzmann_draws_from_the_softmax_of_legal_values():
    values = np.array([[1.0, 0.0, -np.inf, 0.5]], np.float32).repeat(40_000, 0)
    mask = np.isfinite(values)
    exploration = Boltzmann(40_000, 6, temperature_start=0.5, temperature_end=0.5)
    drawn = counts(exploration.choose(values, 0, mask), 4)
    weights = np.exp(np.array([1.0, 0.0, 0.5]) / 0.5)
    assert drawn[2] == 0
    assert stats.chisquare(drawn[[0, 1, 3]], 40_000 * weights / weights.sum()).pvalue > 0.01


def test_boltzmann_cools_down():
    exploration = Boltzmann(1, 0, temperature_start=2.0, temperature_end=1.0, temperature_steps=10)
    assert [exploration.metrics(step)["charts/temperature"] for step in (0, 5, 10, 99)] == [2.0, 1.5, 1.0, 1.0]


@pytest.mark.parametrize("name", EXPLORATIONS)
def test_it_goes_on_from_its_state(name):
    straight, resumed = EXPLORATIONS[name](64, 5), EXPLORATIONS[name](64, 6)
    values = best(np.zeros(64, np.int64), 4)
    straight.choose(values, 0, None)
    resumed.load_state_dict(straight.state_dict())
    for step in (10, 5_000, 20_000):
        assert (straight.choose(values, step, None) == resumed.choose(values, step, None)).all()


@pytest.mark.parametrize("name", EXPLORATIONS)
def test_no_exploration_takes_an_illegal_action(name):
    rng, exploration = np.random.default_rng(0), EXPLORATIONS[name](500, 7)
    mask = rng.random((500, 6)) < 0.4
    mask[~mask.any(-1), 0] = True
    values = np.where(mask, rng.normal(size=(500, 6)), -np.inf).astype(np.float32)
    action = exploration.choose(values, 0, mask)
    assert action.dtype == np.int64
    assert mask[np.arange(500), action].all()


def test_random_actions_are_decided_by_the_generator():
    a, b = (random_actions(np.random.default_rng(7), 50, 6, None) for _ in range(2))
    assert (a == b).all()
