"""Are observations, actions, rewards, limits and stacks turned into what the contract promises?"""

from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from envs import GymnasiumVector, make_env, make_vector

WORLDS = Path(__file__).with_name("worlds.py")


def world(name, **options):
    return make_vector(f"{WORLDS}:{name}", **options)


def scripted(**kwargs):
    return make_vector(f"{WORLDS}:Scripted", num_envs=2, kwargs=kwargs)


@pytest.mark.parametrize(
    ("dtype", "wanted"),
    [
        ("float16", "float32"),
        ("float64", "float32"),
        ("uint8", "uint8"),
        ("int64", "float32"),
        ("uint16", "float32"),
        ("bool", "float32"),
    ],
)
@pytest.mark.parametrize("shape", [(2,), (), (2, 3, 4)])
def test_observations_become_float32_or_uint8(dtype, wanted, shape):
    venv = world("Numbered", kwargs={"dtype": dtype, "shape": shape})
    assert venv.reset().dtype == venv.observation_space.dtype == wanted
    assert venv.observation_space.shape == shape
    assert venv.observation_space.high.max() == (1 if dtype == "bool" else 100)
    next_obs = venv.step(np.array([0])).next_obs
    assert next_obs.dtype == wanted
    np.testing.assert_array_equal(next_obs, np.ones((1, *shape)))


def test_bounds_beyond_float32_become_infinite():
    venv = scripted(space=Box(-1e300, 1e300, (2,), np.float64))
    assert np.isinf(venv.observation_space.high).all()


def test_actions_are_counted_from_the_start_of_the_space():
    env = make_env(f"{WORLDS}:Scripted", kwargs={"action_space": Discrete(3, start=-1)})
    venv = GymnasiumVector([env])
    assert venv.num_actions == 3
    venv.reset()
    for action in range(3):
        venv.step(np.array([action]))
    assert env.actions == [-1, 0, 1]
    assert all(type(action) is int for action in env.actions)


@pytest.mark.parametrize("reward", [2, 2.0, True, np.float64(2), np.array(2), np.array(2.0, np.float32)])
def test_rewards_may_be_any_number(reward):
    venv = scripted(reward=reward)
    venv.reset()
    step = venv.step(np.array([0, 0]))
    assert step.reward.dtype == np.float32
    np.testing.assert_array_equal(step.reward, [float(reward)] * 2)


def test_max_steps_truncates():
    venv = world("Numbered", max_steps=4)
    venv.reset()
    for _ in range(2):
        cuts = [venv.step(np.array([0])) for _ in range(4)]
        assert [bool(step.truncated[0]) for step in cuts] == [False, False, False, True]
        assert not any(step.terminated[0] for step in cuts)
        venv.reset_done(np.array([True]))


@pytest.mark.parametrize("max_steps", [10, 11])
def test_an_end_in_the_last_step_is_no_truncation(max_steps):
    venv = world("Numbered", max_steps=max_steps)
    venv.reset()
    steps = [venv.step(np.array([0])) for _ in range(10)]
    assert steps[-1].terminated[0]
    assert not any(step.truncated[0] for step in steps)


def test_time_limit_of_the_registered_environment_stays():
    venv = make_vector("MountainCar-v0", max_steps=1000)
    venv.reset()
    truncated = [bool(venv.step(np.array([0])).truncated[0]) for _ in range(200)]
    assert truncated == [False] * 199 + [True]


@pytest.mark.parametrize("frame_stack", [1, 2, 4])
def test_frame_stack_against_a_list_of_frames(frame_stack):
    plain, stacked = world("Noisy", num_envs=2), world("Noisy", num_envs=2, frame_stack=frame_stack)
    assert (plain.frame_stack, stacked.frame_stack) == (None, frame_stack)
    assert stacked.observation_space.shape == (frame_stack, 4)
    rng = np.random.default_rng(0)
    histories = [[frame] * frame_stack for frame in plain.reset()]
    np.testing.assert_array_equal(stacked.reset(), histories)
    for _ in range(100):
        action = rng.integers(3, size=2)
        step = plain.step(action)
        histories = [[*old, new][-frame_stack:] for old, new in zip(histories, step.next_obs, strict=True)]
        np.testing.assert_array_equal(stacked.step(action).next_obs, histories)
        done = step.done
        for index, frame in enumerate(plain.reset_done(done)):
            if done[index]:
                histories[index] = [frame] * frame_stack
        np.testing.assert_array_equal(stacked.reset_done(done), histories)


def test_frames_of_a_reused_buffer_stay_what_they_were():
    reused, copied = (
        world("Counter", num_envs=2, frame_stack=3, kwargs={"reuse_buffer": flag}) for flag in (True, False)
    )
    np.testing.assert_array_equal(reused.reset(), copied.reset())
    for action in range(7):
        actions = np.array([action, 6 - action])
        step, wanted = reused.step(actions), copied.step(actions)
        np.testing.assert_array_equal(step.next_obs, wanted.next_obs)
        done = wanted.done
        np.testing.assert_array_equal(reused.reset_done(done), copied.reset_done(done))


def test_stacks_of_a_gymnasium_wrapper_are_left_alone():
    env = gymnasium.wrappers.FrameStackObservation(make_env("catch"), 3)
    venv = GymnasiumVector([env])
    assert venv.frame_stack is None
    assert venv.observation_space.shape == venv.reset().shape[1:] == (3, 10, 5)
