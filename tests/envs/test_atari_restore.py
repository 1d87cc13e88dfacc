"""Does a vector of Atari games go on from its state exactly as if nothing had happened?"""

import io

import numpy as np
import pytest
import torch

from envs import make_vector

NUM_ENVS, STEPS, REST = 4, 165, 20
NONE = np.zeros(NUM_ENVS, bool)


def through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def make(name, **overrides):
    kwargs = {"repeat_action_probability": 0.25, "noop_max": 6}
    options = {"num_envs": NUM_ENVS, "seed": 11, "protocol": "dqn2015", "kwargs": kwargs}
    return make_vector(f"ALE/{name}-v5", **{**options, **overrides})


def restarts(index):
    """Episodes that are given up, so that they are of different lengths."""
    return np.array([index % 61 == 60, index % 97 == 96, False, False])


def play(vector, steps, moments=()):
    """What came in each step, and at which state the vector was in each moment (step, side of reset_done)."""
    trace, states = {}, {}
    for index in steps:
        step = vector.step(np.random.default_rng(index).integers(vector.num_actions, size=NUM_ENVS))
        if (index, "before") in moments:
            states[index, "before"] = vector.state_dict()
        done = step.done | restarts(index)
        trace[index] = [*step, done, vector.reset_done(done)]
        if (index, "after") in moments:
            states[index, "after"] = vector.state_dict()
    return trace, states


def assert_same(trace, wanted):
    assert len(trace) == REST
    for index, arrays in trace.items():
        for got, array in zip(arrays, wanted[index], strict=True):
            np.testing.assert_array_equal(got, array)


@pytest.mark.parametrize("name", ["Pong", "Breakout"])
def test_interrupted_equals_straight(name):
    straight = make(name)
    straight.reset()
    everywhere = [(index, when) for index in range(STEPS - REST) for when in ("before", "after")]
    wanted, states = play(straight, range(STEPS), everywhere)
    ends = [index for index, arrays in wanted.items() if (arrays[2] | arrays[3]).any()]
    moments = [tuple(everywhere[place]) for place in np.random.default_rng(3).integers(len(everywhere), size=3)]
    if name == "Breakout":
        assert len(ends) > 1
        assert sum(arrays[4].sum() for arrays in wanted.values()) > 8  # lives
        moments.append((ends[0], "before"))
    resumed = make(name)
    for index, when in moments:
        assert resumed.load_state_dict(through_a_file(states[index, when])) == []
        next_obs, *_, done, obs = wanted[index]
        if when == "before":
            np.testing.assert_array_equal(resumed.reset_done(NONE), next_obs)
            np.testing.assert_array_equal(resumed.reset_done(done), obs)
        np.testing.assert_array_equal(resumed.reset_done(NONE), obs)
        if (index, "after") in states:
            assert resumed.state_dict() == states[index, "after"]
        trace, _ = play(resumed, range(index + 1, index + 1 + REST))
        assert_same(trace, wanted)


def test_an_ended_episode_is_only_looked_at():
    vector, resumed = (make("Breakout", num_envs=1, max_steps=3) for _ in range(2))
    vector.reset()
    for _ in range(3):
        step = vector.step(np.array([1]))
    state = vector.state_dict()
    state["actions"] = [[]]  # not replayed
    assert resumed.load_state_dict(state) == []
    np.testing.assert_array_equal(resumed.reset_done(np.array([False])), step.next_obs)
    with pytest.raises(RuntimeError, match="are over"):
        resumed.step(np.array([1]))
    np.testing.assert_array_equal(resumed.reset_done(np.array([True])), vector.reset_done(np.array([True])))


def test_only_the_games_that_differ_begin_anew():
    vector = make("Breakout")
    vector.reset()
    for _ in range(6):
        step = vector.step(np.array([1, 2, 3, 0]))
    state = vector.state_dict()
    obs = np.frombuffer(state["obs"], np.uint8).copy()
    obs[84 * 84 * 4 * 2] += 1  # the first pixel of environment 2
    resumed = make("Breakout")
    assert resumed.load_state_dict({**state, "obs": obs.tobytes()}) == [2]
    obs = resumed.reset_done(NONE)
    np.testing.assert_array_equal(obs[[0, 1, 3]], step.next_obs[[0, 1, 3]])
    assert not obs[2, :3].any()
    assert resumed.state_dict()["episode_index"] == [0, 0, 1, 0]
    assert [len(actions) for actions in resumed.state_dict()["actions"]] == [6, 6, 0, 6]


def test_an_ended_episode_stays_to_be_looked_at_beside_one_that_differs():
    vector, resumed = (make("Breakout", num_envs=2, max_steps=3) for _ in range(2))
    vector.reset()
    for first in (True, False, False):
        step = vector.step(np.array([1, 1]))
        vector.reset_done(np.array([False, first]))
    assert step.done.tolist() == [True, False]
    state = vector.state_dict()
    state["obs"] = state["obs"][: 84 * 84 * 4] + bytes(84 * 84 * 4)
    assert resumed.load_state_dict(state) == [1]
    np.testing.assert_array_equal(resumed.reset_done(np.array([False, False]))[0], step.next_obs[0])


def test_a_replay_that_ends_too_early_differs():
    # without FIRE the picture does not change: only the end in between tells
    vector = make("Breakout", num_envs=1, protocol="machado", kwargs={})
    vector.reset()
    for _ in range(13):  # ends and begins anew twice, the last time three steps before
        vector.step(np.array([0]))
    resumed = make("Breakout", num_envs=1, protocol="machado", kwargs={"max_frames": 16})
    assert resumed.load_state_dict(vector.state_dict()) == [0]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"seed": 12}, "state has seed 11 and 4 environments, this vector seed 12 and 4"),
        ({"num_envs": 2}, "state has seed 11 and 4 environments, this vector seed 11 and 2"),
        ({"kwargs": {"size": 42}}, r"state holds 112896 bytes of observations, wanted uint8 \(4, 4, 42, 42\)"),
    ],
)
def test_a_state_of_another_vector_is_refused(overrides, message):
    state = {
        "seed": 11,
        "episode_index": [0] * NUM_ENVS,
        "actions": [[]] * NUM_ENVS,
        "done": NONE.tolist(),
        "obs": bytes(NUM_ENVS * 4 * 84 * 84),
    }
    with pytest.raises(ValueError, match=message):
        make("Pong", **overrides).load_state_dict(state)
