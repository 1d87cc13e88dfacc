"""Environments with known truths and known faults, loaded by the tests as ./worlds.py:Name."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete


class Counter(gymnasium.Env):
    """Tells where it is: obs = [episode, t, last action], reward = 100 * episode + t.

    Even episodes are terminated, odd ones truncated, after 3 + episode % 3 steps. With `reuse_buffer` all
    instances write their observations into one and the same array.
    """

    action_space = Discrete(7)
    observation_space = Box(-1.0, 1e6, (3,), np.float32)
    buffer = np.zeros(3, np.float32)

    def __init__(self, reuse_buffer: bool = False):
        self.episode = -1
        self.reuse_buffer = reuse_buffer

    def reset(self, *, seed=None, options=None):
        self.episode += 1
        self.t = 0
        return self.observe(-1), {}

    def step(self, action):
        self.t += 1
        over = self.t == 3 + self.episode % 3
        odd = self.episode % 2 == 1
        return self.observe(action), 100 * self.episode + self.t, over and not odd, over and odd, {}

    def observe(self, action):
        self.buffer[:] = self.episode, self.t, action
        return self.buffer if self.reuse_buffer else self.buffer.copy()


class Noisy(gymnasium.Env):
    """Start, moves, rewards and ends are drawn from the seeded generator; refuses to go on after an end."""

    action_space = Discrete(3)
    observation_space = Box(-np.inf, np.inf, (4,), np.float64)

    def __init__(self, end_probability: float = 0.1):
        self.end_probability = end_probability

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = self.np_random.normal(size=4)
        self.over = False
        return self.state, {}

    def step(self, action):
        if self.over:
            raise RuntimeError("stepped after the end")
        self.state = 0.9 * self.state + action + self.np_random.normal(size=4)
        ends = self.np_random.random(2) < self.end_probability
        self.over = ends.any()
        return self.state, self.np_random.normal(), ends[0], ends[1], {}


class Unseeded(Noisy):
    """Ignores the seed of reset."""

    def reset(self, *, seed=None, options=None):
        self.np_random = np.random.default_rng()
        return super().reset()


class Remembering(Noisy):
    """Starts where the last episode ended, whatever the seed."""

    def reset(self, *, seed=None, options=None):
        last = getattr(self, "state", np.zeros(4))
        super().reset(seed=seed)
        self.state = last
        return self.state, {}


class Masked(gymnasium.Env):
    """Action `t % 3` is illegal at time t and raises; the episode is terminated after 4 steps."""

    action_space = Discrete(3)
    observation_space = Box(0.0, 10.0, (1,), np.float32)

    def __init__(self, mask_at_reset: bool = True, mask_at_end: bool = True):
        self.mask_at_reset = mask_at_reset
        self.mask_at_end = mask_at_end

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return self.observe(), self.info() if self.mask_at_reset else {}

    def step(self, action):
        if action == self.t % 3:
            raise ValueError(f"action {action} is illegal at time {self.t}")
        self.t += 1
        over = self.t == 4
        return self.observe(), 0.0, over, False, self.info() if self.mask_at_end or not over else {}

    def observe(self):
        return np.array([self.t], np.float32)

    def info(self):
        over = self.t == 4
        return {"action_mask": [0, 0, 0] if over else [int(action != self.t % 3) for action in range(3)]}


class Scripted(gymnasium.Env):
    """Gives out whatever it is told to, from `at_step` on."""

    def __init__(
        self,
        obs: Any = None,
        reward: Any = 0.0,
        terminated: Any = False,
        info: Any = None,
        space: gymnasium.Space | None = None,
        action_space: gymnasium.Space | None = None,
        at_step: int = 1,
        num_parts: int = 5,
        reset_result: Any = None,
        error: Exception | None = None,
    ):
        self.observation_space = Box(0.0, 1.0, (2,), np.float32) if space is None else space
        self.action_space = Discrete(2) if action_space is None else action_space
        self.fault = obs, reward, terminated, False, {} if info is None else info
        self.at_step, self.num_parts, self.reset_result, self.error = at_step, num_parts, reset_result, error
        self.actions = []

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return (self.plain(), {}) if self.reset_result is None else self.reset_result

    def step(self, action):
        self.t += 1
        self.actions.append(action)
        if self.t < self.at_step:
            return self.plain(), 0.0, False, False, {}
        if self.error is not None:
            raise self.error
        obs, *others = self.fault
        return (self.plain() if obs is None else obs, *others)[: self.num_parts]

    def plain(self):
        return np.zeros(self.observation_space.shape, self.observation_space.dtype)


class Numbered(gymnasium.Env):
    """Observations of any dtype: the number of steps, in every entry."""

    action_space = Discrete(2)

    def __init__(self, dtype: str = "float32", shape: tuple[int, ...] = (2,)):
        self.observation_space = Box(0, 1, shape, np.bool_) if dtype == "bool" else Box(0, 100, shape, dtype)

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return self.observe(), {}

    def step(self, action):
        self.t += 1
        return self.observe(), 1.0, self.t == 10, False, {}

    def observe(self):
        return np.full(self.observation_space.shape, self.t).astype(self.observation_space.dtype)


class Dictionary(Scripted):
    """An observation space that is not supported."""

    def __init__(self):
        super().__init__(space=Dict({"a": Box(0, 1, (2,))}))


def flattened():
    """A function that makes an environment: one-hot states, int64."""
    return gymnasium.wrappers.FlattenObservation(gymnasium.make("FrozenLake-v1", disable_env_checker=True))


NOT_CALLABLE = 3
gymnasium.register("classyq_tests/Counter-v0", entry_point=Counter)
