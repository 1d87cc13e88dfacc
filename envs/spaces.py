"""Which gymnasium spaces are supported, and how values become the arrays the agents see.

Observations: uint8 stays uint8; every other float, integer and bool becomes float32, which holds integers
exactly up to 2**24. Actions: 0 .. n - 1, whatever the `start` of the Discrete space.
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

LARGEST = float(np.finfo(np.float32).max)


def require_discrete(space: gymnasium.Space) -> spaces.Discrete:
    """The action space, if it is a Discrete one.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(space, spaces.Discrete):
        raise TypeError(f"the action space is {space}; only Discrete action spaces are supported")
    return space


def converted_space(space: gymnasium.Space, frame_stack: int | None = None) -> spaces.Box:
    """The Box of observations as the agents see them: float32 or uint8, `frame_stack` frames leading.

    Raises:
        TypeError: `space` is not a Box of numbers.
    """
    if not isinstance(space, spaces.Box) or space.dtype.kind not in "fiub":
        raise TypeError(
            f"the observation space is {space}; only Box is supported. For Discrete, MultiDiscrete, Dict and "
            "Tuple wrap the environment in gymnasium.wrappers.FlattenObservation, in a function of your own "
            "given as ./file.py:function"
        )
    dtype = np.uint8 if space.dtype == np.uint8 else np.float32
    with np.errstate(over="ignore"):  # bounds of +-1e308 rightly become infinite
        low, high = space.low.astype(dtype), space.high.astype(dtype)
    if frame_stack is not None:
        low, high = np.stack([low] * frame_stack), np.stack([high] * frame_stack)
    return spaces.Box(low, high, dtype=dtype)


def convert_obs(raw: Any, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """A copy of an observation in the shape and dtype of the converted space.

    Raises:
        TypeError: it holds no numbers.
        ValueError: wrong shape, values that do not fit uint8, NaN or infinity.
    """
    array = np.asarray(raw)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"the observation has dtype {array.dtype}, wanted numbers")
    if array.shape != shape:
        raise ValueError(f"the observation has shape {array.shape}, the space says {shape}")
    if array.dtype == dtype:
        obs = array.copy()
    else:
        with np.errstate(over="ignore", invalid="ignore"):
            obs = array.astype(dtype)
    if dtype == np.uint8:
        if array.dtype != dtype and not np.array_equal(obs, array):
            raise ValueError(f"the observation has {array.dtype} values that do not fit the space's uint8")
    elif not np.isfinite(obs).all():
        raise ValueError("the observation holds NaN or infinity in float32")
    return obs


def convert_reward(raw: Any) -> float:
    """One finite number, rounded to float32, from a Python number or a 0-d array.

    Raises:
        TypeError: it is not one number.
        ValueError: it is not finite in float32.
    """
    if type(raw) is float and abs(raw) <= LARGEST:  # as nearly all are: the rest takes several times as long
        return float(np.float32(raw))
    array = np.asarray(raw)
    if array.dtype.kind not in "fiub" or array.shape != ():
        raise TypeError(f"the reward is {raw!r}, wanted one number")
    with np.errstate(over="ignore"):
        reward = float(array.astype(np.float32))
    if not np.isfinite(reward):
        raise ValueError(f"the reward is {raw!r}, wanted a number that is finite in float32")
    return reward


def convert_action_mask(raw: Any, num_actions: int, *, episode_over: bool) -> np.ndarray:
    """Legal actions as bool [A]; all True where the episode is over and none is legal.

    Raises:
        ValueError: wrong shape, entries other than 0 and 1, or no legal action although the episode goes on.
    """
    array = np.asarray(raw)
    if array.shape != (num_actions,):
        raise ValueError(f"info['action_mask'] has shape {array.shape}, wanted ({num_actions},)")
    if not np.isin(array, (0, 1)).all():
        raise ValueError(f"info['action_mask'] is {array.tolist()}, wanted only 0 and 1")
    mask = array.astype(bool)
    if mask.any():
        return mask
    if not episode_over:
        raise ValueError("info['action_mask'] allows no action, but the episode is not over")
    # a maximum over no action at all is -inf, and -inf times a discount of 0 is NaN
    return np.ones(num_actions, dtype=bool)
