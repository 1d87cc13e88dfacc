"""Does the suggested support hold the returns, and is it the one of the formula?"""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs import make_vector
from envs.value_range import collect_episodes, random_actions, suggest_support

WORLDS = Path(__file__).with_name("worlds.py")


@pytest.mark.parametrize(
    ("episodes", "gamma", "wanted"),
    [
        # always 1, for 200 steps: (1 - 0.99**200) / 0.01 = 86.602; a tenth is 8.66; -8.66 .. 95.26 outward
        ([[1.0] * 20], 0.99, (-8.7, 96.0)),
        # 0.99**2000 is 2e-9: as for ever, -100
        ([[-1.0] * 200], 0.99, (-110.0, 10.0)),
        # (1 - 0.9**10) / 0.1 = 6.5132; a tenth is 0.65132; -0.651 .. 7.164 outward
        ([[1.0]], 0.9, (-0.66, 7.2)),
        # 2 m = 0.5 < the return of the last step, 1; width 1
        ([[0.0, 0.0, 0.0, 1.0]], 0.5, (-0.1, 1.1)),
        # G = 2 + 0.5 * (-1) = 1.5 and -1, 2 m = 1; -1 .. 1.5, width 2.5, -1.25 .. 1.75 outward
        ([[2.0, -1.0]], 0.5, (-1.3, 1.8)),
        # G: 2, -3; m the same; width 5
        ([[2.0], [-3.0]], 0.0, (-3.5, 2.5)),
        # 0 belongs to it: up to 2 m = 10 (less 1e-5), not 5 .. 10
        ([[5.0, 5.0]], 0.5, (-1.0, 11.0)),
        # 0.00123 * 6.5132 = 0.0080113, a tenth of it below, 0.0088124 above, outward
        ([[0.00123]], 0.9, (-0.00081, 0.0089)),
        ([[1234.0]], 0.0, (-130.0, 1400.0)),
        ([[0.0, 0.0], [0.0]], 0.9, (-1.0, 1.0)),
        ([[], [1.0]], 0.0, (-0.1, 1.1)),
    ],
)
def test_support_by_hand(episodes, gamma, wanted):
    assert suggest_support(episodes, gamma) == wanted


NUMBERS = st.floats(-10_000.0, 10_000.0, width=32)
REWARDS = st.lists(st.lists(NUMBERS, min_size=1), min_size=1, max_size=5)


@given(REWARDS, st.floats(0.0, 0.999))
def test_support_holds_every_return_with_room(episodes, gamma):
    low, high = suggest_support(episodes, gamma)
    returns = [0.0]
    for rewards in episodes:
        for start in range(len(rewards)):
            returns.append(sum(gamma**k * reward for k, reward in enumerate(rewards[start:])))
    width = max(returns) - min(returns)
    assert low < 0 < high
    # floating point: sums of up to 1e4 in another order
    assert low <= min(returns) - 0.0999 * width + 1e-9
    assert high >= max(returns) + 0.0999 * width - 1e-9


@pytest.mark.parametrize("gamma", [-0.1, 1.0])
def test_gamma_is_checked(gamma):
    with pytest.raises(ValueError, match=f"gamma is {gamma}, wanted 0 <= gamma < 1"):
        suggest_support([[1.0]], gamma)


@pytest.mark.parametrize("episodes", [[], [[]]])
def test_no_rewards(episodes):
    with pytest.raises(ValueError, match="no rewards"):
        suggest_support(episodes, 0.9)


def test_collected_episodes_are_the_true_ones():
    # episode e of the counter pays 100 e + t and lasts 3 + e % 3 steps
    venv = make_vector(f"{WORLDS}:Counter", num_envs=2)
    episodes = collect_episodes(venv, 25, np.random.default_rng(0))
    # 13 vector steps each: 3 + 4 + 5 and one step of an unfinished episode
    finished = [[100.0 * e + t for t in range(1, 4 + e % 3)] for e in range(3)]
    assert episodes == [finished[0]] * 2 + [finished[1]] * 2 + [finished[2]] * 2 + [[301.0]] * 2


def test_nothing_is_left_over_when_the_last_step_ends_the_episodes():
    venv = make_vector(f"{WORLDS}:Counter")
    assert collect_episodes(venv, 3, np.random.default_rng(0)) == [[1.0, 2.0, 3.0]]


def test_collecting_needs_a_step():
    with pytest.raises(ValueError, match="steps is 0, wanted at least 1"):
        collect_episodes(make_vector("catch"), 0, np.random.default_rng(0))


def test_random_actions_are_legal_and_uniform():
    venv, rng = make_vector(f"{WORLDS}:Masked", num_envs=30), np.random.default_rng(0)
    venv.reset()  # action 0 is illegal
    counts = np.bincount(np.concatenate([random_actions(venv, rng) for _ in range(100)]), minlength=3)
    assert counts[0] == 0
    # five standard deviations of a fair coin thrown 3000 times
    assert abs(counts[1] - 1500) < 5 * np.sqrt(3000 / 4)
