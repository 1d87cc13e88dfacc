"""One gymnasium environment whose every episode is seeded, checked and recorded, to be replayed."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium
import numpy as np

from envs.spaces import (
    convert_action_mask,
    convert_obs,
    convert_reward,
    converted_space,
    require_discrete,
)
from envs.vector import episode_seed


class SeededEnv:
    """A single environment of a vector: its episodes, its stack of frames, its actions since the last reset.

    Args:
        env: any gymnasium environment with Discrete actions and Box observations.
        env_index: its place in the vector.
        seed: the seed of the run.
        max_steps: an episode of this many steps is truncated.
        frame_stack: number of observations stacked along a new leading axis, oldest first.

    Raises:
        TypeError: a space is not supported.
        ValueError: `max_steps` or `frame_stack` is less than 1.
    """

    def __init__(
        self,
        env: gymnasium.Env,
        *,
        env_index: int,
        seed: int,
        max_steps: int | None = None,
        frame_stack: int | None = None,
    ):
        for name, value in (("max_steps", max_steps), ("frame_stack", frame_stack)):
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}, wanted at least 1, or None")
        action_space = require_discrete(env.action_space)
        self.env = env
        self.num_actions = int(action_space.n)
        self.observation_space = converted_space(env.observation_space, frame_stack)
        self._frame_shape = converted_space(env.observation_space).shape
        self._first_action = int(action_space.start)
        self._env_index = env_index
        self._seed = seed
        self._max_steps = max_steps
        self._frame_stack = frame_stack
        self._frames: deque[np.ndarray] = deque(maxlen=frame_stack or 1)
        self._episode_index = 0
        self._actions: list[int] = []
        self.done = False
        self._all_legal = np.ones(self.num_actions, dtype=bool)
        self.action_mask = self._all_legal  # [A]
        self.mask_given = False  # whether the last info had a mask

    @property
    def obs(self) -> np.ndarray:
        """The current observation, frames stacked."""
        return self._frames[-1] if self._frame_stack is None else np.stack(self._frames)

    def start(self, episode_index: int) -> None:
        """Start the episode with this index, from its own seed."""
        self._episode_index = episode_index
        self._actions = []
        self.done = False
        result = self.env.reset(seed=episode_seed(self._seed, self._env_index, episode_index))
        with self._located():
            raw_obs, info = _unpacked(result, "reset", ("obs", "info"))
            frame = self._converted(raw_obs)
            self._read_mask(info, episode_over=False)
        self._frames.extend([frame] * (self._frame_stack or 1))

    def start_next(self) -> None:
        """Start the episode after the current one."""
        self.start(self._episode_index + 1)

    def step(self, action: int) -> tuple[float, bool, bool, bool]:
        """Take an action in 0 .. A - 1; reward, terminated, truncated, and whether a life was lost in an episode
        that goes on (`info["life_lost"]`, where an environment has such a thing)."""
        result = self.env.step(action + self._first_action)
        self._actions.append(action)
        with self._located():
            parts = _unpacked(result, "step", ("obs", "reward", "terminated", "truncated", "info"))
            raw_obs, raw_reward, terminated, truncated, info = parts
            frame = self._converted(raw_obs)
            reward = convert_reward(raw_reward)
            terminated, truncated = bool(terminated), bool(truncated)
            self._read_mask(info, episode_over=terminated or truncated)
        self._frames.append(frame)
        if self._max_steps is not None and len(self._actions) >= self._max_steps and not terminated:
            truncated = True
        self.done = terminated or truncated
        life_lost = bool(info.get("life_lost", False)) and not self.done
        return reward, terminated, truncated, life_lost

    def state_dict(self) -> dict[str, Any]:
        """Episode, actions since its reset and current observation, in plain Python types."""
        return {
            "episode_index": self._episode_index,
            "actions": list(self._actions),
            "done": self.done,
            "obs": _encoded(self.obs),
            "action_mask": self.action_mask.tolist(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> bool:
        """Replay the episode of `state`; whether it led to the same observation and mask, bit for bit.

        Where it did not, the environment is at the start of the next episode.

        Raises:
            ValueError: the state holds another kind of observation.
        """
        obs = _decoded(state["obs"])
        if (obs.shape, obs.dtype) != (self.observation_space.shape, self.observation_space.dtype):
            raise ValueError(
                f"the state holds {obs.dtype} observations {obs.shape}, "
                f"this environment gives {self.observation_space.dtype} {self.observation_space.shape}"
            )
        if state["done"]:
            self._show_ended(state, obs)
            return True
        self.start(state["episode_index"])
        for action in state["actions"]:
            if self.done:
                break
            self.step(action)
        replayed = self.state_dict()
        if any(replayed[key] != state[key] for key in ("done", "obs", "action_mask")):
            self.start_next()
            return False
        return True

    def _show_ended(self, state: dict[str, Any], obs: np.ndarray) -> None:
        # an ended episode is never stepped again and the next is seeded afresh: there is nothing to replay
        self._episode_index = state["episode_index"]
        self._actions = list(state["actions"])
        self.done = True
        self.action_mask = np.array(state["action_mask"], dtype=bool)
        self._frames.extend([obs] if self._frame_stack is None else obs)

    def _converted(self, raw_obs: Any) -> np.ndarray:
        return convert_obs(raw_obs, self._frame_shape, self.observation_space.dtype)

    def _read_mask(self, info: Any, *, episode_over: bool) -> None:
        if not isinstance(info, dict):
            raise TypeError(f"info is {type(info).__name__}, wanted dict")
        raw = info.get("action_mask")
        self.mask_given = raw is not None
        if self.mask_given:
            self.action_mask = convert_action_mask(raw, self.num_actions, episode_over=episode_over)
        else:
            self.action_mask = self._all_legal

    @contextmanager
    def _located(self) -> Iterator[None]:
        try:
            yield
        except (TypeError, ValueError) as error:
            place = f"environment {self._env_index}, episode {self._episode_index}, step {len(self._actions)}"
            raise type(error)(f"{place}: {error}") from None


def _unpacked(result: Any, method: str, parts: tuple[str, ...]) -> tuple[Any, ...]:
    if isinstance(result, tuple) and len(result) == len(parts):
        return result
    got = f"{len(result)} values" if isinstance(result, tuple) else type(result).__name__
    raise TypeError(f"{method} returned {got}, wanted the {len(parts)} values ({', '.join(parts)})")


def _encoded(array: np.ndarray) -> dict[str, Any]:
    return {"data": array.tobytes(), "shape": list(array.shape), "dtype": array.dtype.str}


def _decoded(encoded: dict[str, Any]) -> np.ndarray:
    return np.frombuffer(encoded["data"], dtype=encoded["dtype"]).reshape(encoded["shape"])
