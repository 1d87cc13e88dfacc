"""Predicted values minus returns, on episodes worked out by hand."""

import numpy as np
import pytest

from agents.learning.value_bias import ValueBias


def step(bias, predicted, reward, terminated, truncated=(False, False)):
    terminated, truncated = np.array(terminated), np.array(truncated)
    q_values = np.stack([np.array(predicted, float), np.array(predicted, float) - 1.0], -1)  # the greedy action counts
    bias.update(q_values, np.array(reward, float), terminated, terminated | truncated)


def test_two_environments_by_hand():
    bias = ValueBias(2, gamma=0.5)
    step(bias, [10, 20], [1, 4], [False, True])  # env 1: 20 - 4 = 16
    step(bias, [99, 7], [2, 1], [False, False])
    step(bias, [99, 99], [4, 2], [True, False])  # env 0: 10 - (1 + 1 + 1) = 7
    step(bias, [3, 99], [1, 4], [True, True])  # env 0: 3 - 1 = 2; env 1: 7 - (1 + 1 + 1) = 4
    assert bias.pop() == {"value/bias": pytest.approx((16 + 7 + 2 + 4) / 4, rel=1e-12)}
    assert bias.pop() == {}


def test_nothing_before_an_episode_ends():
    bias = ValueBias(1, 0.9)
    step(bias, [1], [1], [False], [False])
    assert bias.pop() == {}


@pytest.mark.parametrize(("length", "counted"), [(6, False), (7, True)])
def test_truncated_episodes_count_where_nothing_much_is_missing(length, counted):
    """gamma = 1/2: 2**-6 = 0.016, 2**-7 = 0.008 < 1 %."""
    bias = ValueBias(1, 0.5)
    for t in range(length):
        step(bias, [5], [1], [False], [t == length - 1])
    assert bias.pop() == ({"value/bias": 5 - (2 - 2.0 ** (1 - length))} if counted else {})
    step(bias, [3], [1], [True], [False])
    assert bias.pop() == {"value/bias": 2.0}, "the next one begins anew"


def test_a_discount_of_zero():
    bias = ValueBias(1, 0.0)
    for t in range(3):
        step(bias, [t + 1], [10], [t == 2], [False])
    assert bias.pop() == {"value/bias": 1 - 10.0}


def test_a_discarded_episode_leaves_nothing():
    bias = ValueBias(2, 0.5)
    step(bias, [10, 10], [8, 2], [False, False])
    bias.discard(0)
    step(bias, [1, 99], [2, 4], [True, True])  # 1 - 2 and 10 - (2 + 2)
    assert bias.pop() == {"value/bias": (-1 + 6) / 2}


def test_it_goes_on_from_its_state():
    straight, resumed = ValueBias(2, 0.9), ValueBias(2, 0.9)
    step(straight, [5, 6], [1, 2], [True, False])
    step(straight, [7, 8], [3, 4], [False, False])
    resumed.load_state_dict(straight.state_dict())
    for bias in (straight, resumed):
        step(bias, [9, 9], [5, 6], [True, True])
    expected = np.mean([5 - 1, 7 - (3 + 0.9 * 5), 6 - (2 + 0.9 * 4 + 0.81 * 6)])
    assert straight.pop()["value/bias"] == pytest.approx(expected, rel=1e-12)
    resumed.load_state_dict(resumed.state_dict())
    assert resumed.pop()["value/bias"] == pytest.approx(expected, rel=1e-12)


def test_a_lost_life_ends_a_value_and_begins_the_next():
    bias = ValueBias(1, 0.5)
    step(bias, [1.0], [2.0], [False], [False])
    bias.update(np.array([[8.0, 9.0]]), np.array([4.0]), np.array([True]), np.array([False]))  # a life: 2 + 0.5 * 4 = 4
    step(bias, [3.0], [1.0], [True], [False])  # the next life: 1
    assert bias.pop() == {"value/bias": ((1.0 - 4.0) + (3.0 - 1.0)) / 2}
