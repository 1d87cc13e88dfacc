"""Is everything that breaks the contract refused, with what, got and wanted?"""

from pathlib import Path

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiBinary

from envs import GymnasiumVector, make_env, make_vector

WORLDS = Path(__file__).with_name("worlds.py")


def world(name, **options):
    return make_vector(f"{WORLDS}:{name}", **options)


def scripted(**kwargs):
    return make_vector(f"{WORLDS}:Scripted", num_envs=2, kwargs=kwargs)


@pytest.mark.parametrize(
    ("action", "error", "message"),
    [
        ([0.0, 1.0], TypeError, "dtype float64, wanted integers"),
        ([True, False], TypeError, "dtype bool, wanted integers"),
        ([0], ValueError, r"shape \(1,\), wanted \(2,\)"),
        ([[0], [0]], ValueError, r"shape \(2, 1\), wanted \(2,\)"),
        ([0, 2], ValueError, r"action 2 of environment 1 is out of range, wanted 0 .. 1"),
        ([-1, 0], ValueError, r"action -1 of environment 0 is out of range, wanted 0 .. 1"),
    ],
)
def test_actions_are_checked(action, error, message):
    venv = scripted()
    venv.reset()
    with pytest.raises(error, match=message):
        venv.step(np.array(action))


def test_stepping_an_episode_that_is_over_is_an_error():
    venv = world("Numbered", num_envs=2, max_steps=1)
    venv.reset()
    venv.step(np.array([0, 0]))
    venv.reset_done(np.array([True, False]))
    with pytest.raises(RuntimeError, match=r"environments \[1\] are over: call reset_done"):
        venv.step(np.array([0, 0]))


@pytest.mark.parametrize(
    ("method", "arguments"),
    [("send", [np.array([0, 0])]), ("reset_done", [np.array([True, True])]), ("state_dict", [])],
)
def test_nothing_goes_before_reset(method, arguments):
    with pytest.raises(RuntimeError, match=f"call reset before {method}"):
        getattr(scripted(), method)(*arguments)


@pytest.mark.parametrize(
    ("done", "error", "message"),
    [
        ([1, 0], TypeError, "dtype int64, wanted bool"),
        ([True], ValueError, r"shape \(1,\), wanted \(2,\)"),
    ],
)
def test_done_is_checked(done, error, message):
    venv = scripted()
    venv.reset()
    with pytest.raises(error, match=message):
        venv.reset_done(np.array(done))


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        ({"obs": np.zeros(3)}, ValueError, r"observation has shape \(3,\), the space says \(2,\)"),
        ({"obs": np.array([0, np.nan])}, ValueError, "observation holds NaN or infinity"),
        ({"obs": np.array([0, 1e300])}, ValueError, "observation holds NaN or infinity"),
        ({"obs": np.array(["a", "b"])}, TypeError, "observation has dtype <U1, wanted numbers"),
        ({"reward": float("nan")}, ValueError, "reward is nan, wanted a number that is finite"),
        ({"reward": float("-inf")}, ValueError, "reward is -inf, wanted a number that is finite"),
        ({"reward": 1e300}, ValueError, "finite in float32"),
        ({"reward": np.zeros(1)}, TypeError, "wanted one number"),
        ({"reward": None}, TypeError, "reward is None, wanted one number"),
        ({"info": [1]}, TypeError, "info is list, wanted dict"),
        ({"num_parts": 4}, TypeError, "step returned 4 values, wanted the 5 values"),
    ],
)
def test_faults_of_an_environment_say_where(fault, error, message):
    venv = scripted(**fault, at_step=3)
    venv.reset()
    for _ in range(2):
        venv.step(np.array([0, 0]))
    with pytest.raises(error, match=f"environment 0, episode 0, step 3: .*{message}"):
        venv.step(np.array([0, 0]))


def test_reset_of_the_old_interface_is_refused():
    venv = scripted(reset_result=np.zeros(2))
    with pytest.raises(TypeError, match=r"reset returned ndarray, wanted the 2 values \(obs, info\)"):
        venv.reset()


@pytest.mark.parametrize("obs", [[0.5, 0.5], [256, 0], [-1, 0]])
def test_values_that_do_not_fit_uint8_are_refused(obs):
    venv = scripted(obs=np.array(obs), space=Box(0, 255, (2,), np.uint8))
    venv.reset()
    with pytest.raises(ValueError, match="do not fit the space's uint8"):
        venv.step(np.array([0, 0]))


def test_integers_that_fit_uint8_are_accepted():
    venv = scripted(obs=[0, 255], space=Box(0, 255, (2,), np.uint8))
    venv.reset()
    next_obs = venv.step(np.array([0, 0])).next_obs
    assert next_obs.dtype == np.uint8
    assert next_obs.tolist() == [[0, 255]] * 2


@pytest.mark.parametrize("space", [Discrete(3), MultiBinary(3)])
def test_observation_spaces_other_than_box_are_refused(space):
    with pytest.raises(TypeError, match=r"observation space is .*only Box is supported.*FlattenObservation"):
        scripted(space=space)


def test_action_spaces_other_than_discrete_are_refused():
    with pytest.raises(TypeError, match=r"action space is Box.*only Discrete"):
        scripted(action_space=Box(0, 1, (1,)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_envs": 0}, "no environments, wanted at least one"),
        ({"seed": -1}, "seed is -1, wanted at least 0"),
        ({"max_steps": 0}, "max_steps is 0, wanted at least 1"),
        ({"frame_stack": 0}, "frame_stack is 0, wanted at least 1"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        make_vector("catch", **options)


def test_environments_must_be_of_one_kind():
    with pytest.raises(ValueError, match="environment 1 has other spaces than environment 0"):
        GymnasiumVector([make_env("catch"), make_env("chain")])
