"""Does an Atari environment survive what is done to it wrongly, and what else lives in the same process?"""

import faulthandler

import gymnasium
import numpy as np
import psutil
import pytest

from envs import episode_seed, make_vector
from envs.atari_game import AtariGame

SEED = 3
NATIVE, SINGLE = {}, {"mode": 0}  # a mode needs single games


@pytest.fixture(autouse=True)
def _never_a_hang():
    # ALE waits without end, and without looking at signals, where an error of its threads gets lost
    faulthandler.dump_traceback_later(300, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


def started(num_envs=2, **kwargs):
    vector = make_vector("ALE/Breakout-v5", num_envs=num_envs, seed=SEED, kwargs=kwargs)
    vector.reset()
    return vector


@pytest.mark.parametrize("kwargs", [NATIVE, SINGLE])
def test_a_wrong_action_changes_nothing(kwargs):
    wrong = [
        (np.array([1, 4]), ValueError, "action 4 of environment 1 is out of range, wanted 0 .. 3"),
        (np.array([-1, 1]), ValueError, "action -1 of environment 0 is out of range"),
        (np.array([1, 2**31 + 1]), ValueError, "action 2147483649 of environment 1 is out of range"),
        (np.array([2**63, 1], np.uint64), ValueError, "action 9223372036854775808 of environment 0 is out of range"),
        (np.array(1), ValueError, r"shape \(\), wanted \(2,\)"),
        (np.array([], np.int64), ValueError, r"shape \(0,\), wanted \(2,\)"),
        (np.array([1, 1, 1]), ValueError, r"shape \(3,\), wanted \(2,\)"),
        (np.array([[1, 1]]), ValueError, r"shape \(1, 2\), wanted \(2,\)"),
        (np.array([1.0, 1.0]), TypeError, "dtype float64, wanted integers"),
        (np.array([1.0, np.nan], np.float32), TypeError, "dtype float32, wanted integers"),
        (np.array([True, False]), TypeError, "dtype bool, wanted integers"),
        (np.array(["1", "1"]), TypeError, "dtype <U1, wanted integers"),
        (np.array([1, None]), TypeError, "dtype object, wanted integers"),
        (None, TypeError, "dtype object, wanted integers"),
    ]
    vector, untouched = started(**kwargs), started(**kwargs)
    for action, error, message in wrong:
        with pytest.raises(error, match=message):
            vector.step(action)
    for actions in ([1, 1], [2, 3], [3, 2]):
        for got, wanted in zip(vector.step(np.array(actions)), untouched.step(np.array(actions)), strict=True):
            np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("started_before", [True, False])
@pytest.mark.parametrize("kwargs", [NATIVE, SINGLE])
def test_what_is_closed_says_so(kwargs, started_before):
    vector = make_vector("ALE/Breakout-v5", num_envs=2, seed=SEED, kwargs=kwargs)
    if started_before:
        vector.reset()
        vector.send(np.array([1, 1]))
    vector.close()
    vector.close()
    with pytest.raises(RuntimeError, match="this environment is closed"):
        vector.reset()
    for method, arguments in (
        ("step", [np.array([1, 1])]),
        ("send", [np.array([1, 1])]),
        ("recv", []),
        ("reset_done", [np.array([True, False])]),
    ):
        with pytest.raises(RuntimeError, match="this environment is closed"):
            getattr(vector, method)(*arguments)
    vector.close()


def test_a_state_with_actions_of_another_game_is_refused():
    """ALE would wait for ever for a game that does not know them."""
    vector, other = started(), started(full_action_space=True)
    other.step(np.array([1, 17]))
    state = other.state_dict()
    with pytest.raises(ValueError, match=r"environment 1 of the state took action 17, wanted 0 \.\. 3"):
        vector.load_state_dict(state)
    vector.step(np.array([1, 1]))


def together(vectors, num_steps=20):
    """What came of each vector when they take their steps in turns."""
    traces = [[vector.reset().tobytes()] for vector in vectors]
    for index in range(num_steps):
        for vector, trace in zip(vectors, traces, strict=True):
            step = vector.step(np.array([(1, 2, 2, 3, 1)[index % 5]]))
            trace += [part.tobytes() for part in step]
            trace.append(vector.reset_done(step.done).tobytes())
    return traces


def test_games_in_one_process_do_not_know_of_each_other():
    """Modes, protocols and numbers of threads side by side are what they are alone; gymnasium notices nothing."""
    shared = gymnasium.vector.VectorEnv.metadata
    before = dict(shared)
    kinds = [
        {"kwargs": {"mode": 0}},
        {"kwargs": {"mode": 4, "difficulty": 1}},
        {"protocol": "machado"},
        {"protocol": "dqn2015", "max_steps": 13},
    ]

    def make(kind):
        return make_vector("ALE/Breakout-v5", seed=SEED, **kind)

    vectors = [make(kind) for kind in kinds]
    side_by_side = together(vectors)
    assert side_by_side[0] == side_by_side[2], "mode 0 is the game as it is"
    assert len({tuple(trace) for trace in side_by_side}) == 3
    for index, kind in enumerate(kinds):
        assert together([make(kind)]) == [side_by_side[index]]
    vectors[1].close()
    vectors[2].close()
    assert together([vectors[3]]) == [side_by_side[3]], "others were closed"
    assert gymnasium.vector.VectorEnv.metadata is shared
    assert shared == before
    other = gymnasium.make_vec("CartPole-v1", num_envs=1, vectorization_mode="sync")
    assert other.metadata["autoreset_mode"] == gymnasium.vector.AutoresetMode.NEXT_STEP


@pytest.mark.slow
def test_128_games_at_once():
    """Each is the game that it would be alone; together they need less than 512 MB (measured: 190)."""
    process = psutil.Process()
    before = process.memory_info().rss
    vector = make_vector("ALE/Pong-v5", num_envs=128, seed=SEED)
    obs = vector.reset()
    assert obs.shape == (128, 4, 84, 84)
    indices = (0, 63, 127)
    games = {index: AtariGame("ALE/Pong-v5") for index in indices}
    for index, game in games.items():
        np.testing.assert_array_equal(game.reset(seed=episode_seed(SEED, index, 0))[0], obs[index])
    for time in range(10):
        action = (np.arange(128) + time) % 6
        step = vector.step(action)
        assert [part.dtype for part in step] == [np.uint8, np.float32, bool, bool, bool]
        for index, game in games.items():
            next_obs, reward, terminated, truncated, _ = game.step(int(action[index]))
            np.testing.assert_array_equal(step.next_obs[index], next_obs)
            assert (step.reward[index], step.terminated[index], step.truncated[index]) == (
                reward,
                terminated,
                truncated,
            )
        vector.reset_done(step.done)
    assert len({one.tobytes() for one in step.next_obs}) > 1, "not one game 128 times"
    assert process.memory_info().rss - before < 512e6
    vector.close()
