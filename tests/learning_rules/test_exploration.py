"""Exploration: schedules, and that what is drawn is legal and as likely as it should be. N environments, A actions."""

import numpy as np
import pytest
from scipy import stats

from agents.exploration import (
    EXPLORATIONS,
    ApeX,
    Boltzmann,
    Bootstrapped,
    EpsilonGreedy,
    Greedy,
    linear_schedule,
    random_actions,
)


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
    by_member = np.stack([best(np.full(64, m % 4), 4) for m in range(7)])
    straight.choose(straight.values_of(by_member), 0, None)
    straight.forget(np.arange(64) % 3 == 0)
    resumed.load_state_dict(straight.state_dict())
    for step in (10, 5_000, 20_000):
        first, second = (e.choose(e.values_of(by_member), step, None) for e in (straight, resumed))
        assert (first == second).all()
        for exploration in (straight, resumed):
            exploration.forget(np.arange(64) % 2 == 0)


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


def members_followed(exploration, num_members):
    """Which member of an ensemble each environment follows: member m likes action m alone."""
    by_member = np.stack([best(np.full(exploration.num_envs, m), num_members) for m in range(num_members)])
    return exploration.choose(exploration.values_of(by_member), 0, None)


def test_everything_else_acts_by_the_mean_of_members():
    by_member = np.random.default_rng(0).normal(size=(5, 4, 3)).astype(np.float32)
    for name in EXPLORATIONS.keys() - {"bootstrapped"}:
        np.testing.assert_array_equal(EXPLORATIONS[name](4, 0).values_of(by_member), by_member.mean(0))


def test_one_member_is_followed_until_the_episode_ends():
    exploration, rng = Bootstrapped(500, 8), np.random.default_rng(0)
    followed = members_followed(exploration, 10)
    for _ in range(20):
        assert (members_followed(exploration, 10) == followed).all()
        done = rng.random(500) < 0.2
        exploration.forget(done)
        now = members_followed(exploration, 10)
        assert (now == followed)[~done].all()
        assert 0 < (now == followed)[done].mean() < 0.35, "a tenth of those drawn anew are the same again"
        followed = now


def test_every_member_is_equally_likely_and_no_episode_tells_of_another():
    exploration = Bootstrapped(20_000, 9)
    first = members_followed(exploration, 7)
    exploration.forget(np.ones(20_000, bool))
    second = members_followed(exploration, 7)
    # The seed is fixed; a member drawn a tenth too often would give p < 1e-5.
    assert stats.chisquare(counts(first, 7)).pvalue > 0.01
    assert stats.chisquare(counts(7 * first + second, 49)).pvalue > 0.01


def test_with_an_epsilon_it_is_epsilon_greedy_about_its_member():
    # 0.3 * 9 / 10 of 50,000 differ from their member's choice: 13,500 with a deviation of 99; four of them.
    exploration = Bootstrapped(50_000, 10, epsilon_start=0.3, epsilon_end=0.3)
    member = np.floor(exploration.place * 10)
    assert abs((members_followed(exploration, 10) != member).sum() - 13_500) < 4 * 99
    assert Bootstrapped(1, 0).metrics(0) == {"charts/epsilon": 0.0}
