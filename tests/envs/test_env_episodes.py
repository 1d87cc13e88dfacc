"""Are returns and lengths those of the episodes?"""

import numpy as np
import pytest

from envs import Episode, EpisodeStatistics


def step(statistics, reward, done):
    return statistics.update(np.array(reward, np.float32), np.array(done))


def test_returns_and_lengths_by_hand():
    statistics = EpisodeStatistics(2)
    assert step(statistics, [1, 10], [False, False]) == []
    assert step(statistics, [2, 20], [True, False]) == [Episode(0, 3.0, 2)]
    assert step(statistics, [4, 30], [True, True]) == [Episode(0, 4.0, 1), Episode(1, 60.0, 3)]
    assert step(statistics, [5, 0.5], [False, True]) == [Episode(1, 0.5, 1)]


def test_long_sums_keep_their_precision():
    statistics = EpisodeStatistics(1)
    step(statistics, [2.0**24], [False])
    step(statistics, [1], [False])  # is lost in float32
    assert step(statistics, [1], [True])[0].episodic_return == 2**24 + 2


def test_state_goes_on_and_is_a_copy():
    statistics, resumed = EpisodeStatistics(2), EpisodeStatistics(2)
    step(statistics, [1, 2], [False, False])
    state = statistics.state_dict()
    step(statistics, [1, 2], [False, False])
    assert state == {"returns": [1.0, 2.0], "lengths": [1, 1]}
    resumed.load_state_dict(state)
    step(resumed, [1, 2], [False, False])
    assert state == {"returns": [1.0, 2.0], "lengths": [1, 1]}
    assert resumed.state_dict() == statistics.state_dict()


def test_shapes_are_checked():
    with pytest.raises(ValueError, match=r"reward \(2,\) and done \(3,\) must both be \(2,\)"):
        step(EpisodeStatistics(2), [1, 2], [True] * 3)


def test_a_state_of_another_size_is_refused():
    with pytest.raises(ValueError, match="state has 3 environments, these statistics 2"):
        EpisodeStatistics(2).load_state_dict(EpisodeStatistics(3).state_dict())
