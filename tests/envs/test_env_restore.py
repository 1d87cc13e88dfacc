"""Does a vector go on from its state exactly as if nothing had happened?"""

import io
from pathlib import Path

import numpy as np
import pytest
import torch

from envs import make_vector
from envs.value_range import random_actions

WORLDS = Path(__file__).with_name("worlds.py")
CASES = {
    "CartPole": ("CartPole-v1", {}),
    "Catch": ("catch", {}),
    "Noisy": (f"{WORLDS}:Noisy", {}),
    "Noisy, cut and stacked": (f"{WORLDS}:Noisy", {"max_steps": 7, "frame_stack": 3}),
    "Masked": (f"{WORLDS}:Masked", {}),
    "Masked, cut": (f"{WORLDS}:Masked", {"max_steps": 2}),
}
NUM_ENVS, STEPS = 3, 60


def through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def make(case, **overrides):
    env_id, options = CASES[case]
    return make_vector(env_id, **{"num_envs": NUM_ENVS, "seed": 11, **options, **overrides})


def play(venv, rng, first_step, interrupt=None):
    """All that came from `first_step` on; stops with the state at `interrupt` (step, side of reset_done)."""
    none = np.zeros(NUM_ENVS, bool)
    trace = []
    for index in range(first_step, STEPS):
        trace += [venv.reset_done(none), venv.action_mask]
        step = venv.step(random_actions(venv, rng))
        done = step.done
        trace += [*step[:4], venv.action_mask]
        if interrupt == (index, "before"):
            return trace, venv.state_dict(), done
        venv.reset_done(done)
        if interrupt == (index, "after"):
            return trace, venv.state_dict(), done
    return trace, None, None


def assert_same(trace, wanted):
    for one, two in zip(trace, wanted, strict=True):
        np.testing.assert_array_equal(one, two)


def moments(case):
    """A few random steps, and the first one that ends an episode."""
    venv, rng = make(case), np.random.default_rng(1)
    venv.reset()
    trace, _, _ = play(venv, rng, 0)
    ends = [index for index in range(STEPS) if (trace[7 * index + 4] | trace[7 * index + 5]).any()]
    return [*np.random.default_rng(2).integers(STEPS, size=4).tolist(), ends[0], ends[-1]]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("case", CASES)
def test_interrupted_equals_straight(case, when):
    straight = make(case)
    straight.reset()
    wanted, _, _ = play(straight, np.random.default_rng(1), 0)
    for moment in moments(case):
        venv, rng = make(case), np.random.default_rng(1)
        venv.reset()
        trace, state, done = play(venv, rng, 0, (moment, when))
        resumed = make(case)
        assert resumed.load_state_dict(through_a_file(state)) == []
        if when == "before":
            np.testing.assert_array_equal(resumed.reset_done(np.zeros(NUM_ENVS, bool)), trace[-5])
            np.testing.assert_array_equal(resumed.action_mask, trace[-1])
            resumed.reset_done(done)
        rest, _, _ = play(resumed, rng, moment + 1)
        assert_same(trace + rest, wanted)
        assert resumed.state_dict() == straight.state_dict()


def test_a_used_vector_can_be_brought_back():
    venv, rng = make("Noisy"), np.random.default_rng(0)
    venv.reset()
    _, state, _ = play(venv, rng, 0, (20, "after"))
    generator_state = rng.bit_generator.state
    wanted, _, _ = play(venv, rng, 21)
    rng.bit_generator.state = generator_state
    assert venv.load_state_dict(state) == []
    again, _, _ = play(venv, rng, 21)
    assert_same(again, wanted)


@pytest.mark.parametrize("name", ["Unseeded", "Remembering"])
def test_an_environment_that_is_not_deterministic_is_found(name):
    def fresh():
        options = {"end_probability": 0.0}
        return make_vector(f"{WORLDS}:{name}", num_envs=2, max_steps=10, kwargs=options)

    venv = fresh()
    venv.reset()
    for _ in range(5):
        venv.step(np.array([1, 2]))
    venv.reset_done(np.array([True, True]))
    venv.step(np.array([1, 2]))
    resumed = fresh()
    assert resumed.load_state_dict(through_a_file(venv.state_dict())) == [0, 1]
    # both are at the start of the next episode: ten whole steps are left
    assert [env["episode_index"] for env in resumed.state_dict()["envs"]] == [2, 2]
    truncated = [resumed.step(np.array([0, 0])).truncated.tolist() for _ in range(10)]
    assert truncated == [[False, False]] * 9 + [[True, True]]


def test_only_the_environments_that_differ_are_named():
    venv = make("Noisy", kwargs={"end_probability": 0.0})
    venv.reset()
    action = random_actions(venv, np.random.default_rng(0))
    step = venv.step(action)
    state = venv.state_dict()
    state["envs"][1]["actions"] = [(int(action[1]) + 1) % 3]
    resumed = make("Noisy", kwargs={"end_probability": 0.0})
    assert resumed.load_state_dict(state) == [1]
    obs = resumed.reset_done(np.zeros(NUM_ENVS, bool))
    np.testing.assert_array_equal(obs[[0, 2]], step.next_obs[[0, 2]])


SHORTER = [{"max_steps": 3}, {"max_steps": 5}, {"kwargs": {"end_probability": 1.0}}]


@pytest.mark.parametrize("overrides", SHORTER)
def test_a_replay_that_ends_too_early_differs(overrides):
    venv = make("Noisy", kwargs={"end_probability": 0.0})
    venv.reset()
    for _ in range(5):
        venv.step(np.ones(NUM_ENVS, int))
    resumed = make("Noisy", **{"kwargs": {"end_probability": 0.0}, **overrides})
    assert resumed.load_state_dict(venv.state_dict()) == [0, 1, 2]
    resumed.step(np.ones(NUM_ENVS, int))


def test_a_replay_with_another_mask_differs():
    venv = make("Masked")
    venv.reset()
    state = venv.state_dict()
    state["envs"][2]["action_mask"] = [True, True, True]
    assert make("Masked").load_state_dict(state) == [2]


def test_an_ended_episode_needs_no_replay():
    venv = make_vector(f"{WORLDS}:Unseeded", num_envs=1, max_steps=2)
    venv.reset()
    step = None
    while step is None or not (step.done).any():
        step = venv.step(np.array([0]))
    resumed = make_vector(f"{WORLDS}:Unseeded", num_envs=1, max_steps=2)
    assert resumed.load_state_dict(venv.state_dict()) == []
    np.testing.assert_array_equal(resumed.reset_done(np.array([False])), step.next_obs)
    with pytest.raises(RuntimeError, match="are over"):
        resumed.step(np.array([0]))
    resumed.reset_done(np.array([True]))
    assert resumed.state_dict()["envs"][0]["episode_index"] == 1


def test_masks_are_known_after_loading():
    venv = make("Masked")
    venv.reset()
    resumed = make("Masked")
    assert resumed.load_state_dict(venv.state_dict()) == []
    assert resumed.has_action_mask
    np.testing.assert_array_equal(resumed.action_mask, venv.action_mask)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"seed": 12}, "state has seed 11 and 3 environments, this vector seed 12 and 3"),
        ({"num_envs": 2}, "state has seed 11 and 3 environments, this vector seed 11 and 2"),
        (
            {"frame_stack": 2},
            r"state holds float32 observations \(4,\), this environment gives float32 \(2, 4\)",
        ),
    ],
)
def test_a_state_of_another_vector_is_refused(overrides, message):
    venv = make("Noisy")
    venv.reset()
    with pytest.raises(ValueError, match=message):
        make("Noisy", **overrides).load_state_dict(venv.state_dict())
