"""Environments whose interruption is hard: masks, pictures, stacks that stop sharing frames, no determinism."""

from collections import deque

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete


class Masked(gymnasium.Env):
    """A walk of random length; at every step one action, drawn anew, is illegal and raises."""

    action_space = Discrete(3)
    observation_space = Box(-100.0, 100.0, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = 0
        return self.observe(), self.info()

    def step(self, action):
        assert action != self.illegal
        self.place += int(action) - 1
        terminated = bool(self.np_random.random() < 0.1)
        obs, reward = self.observe(), float(self.np_random.normal())
        return obs, reward, terminated, False, self.info()

    def observe(self):
        self.illegal = int(self.np_random.integers(3))
        return np.array([self.place, self.illegal], np.float32)

    def info(self):
        return {"action_mask": np.arange(3) != self.illegal}


class Pictures(gymnasium.Env):
    """Noise, uint8 [6, 6]; episodes end or are cut at random."""

    action_space = Discrete(2)
    observation_space = Box(0, 255, (6, 6), np.uint8)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observe(), {}

    def step(self, action):
        terminated, truncated = self.np_random.random(2) < 0.05
        return self.observe(), float(action), bool(terminated), bool(truncated), {}

    def observe(self):
        return self.np_random.integers(256, size=(6, 6), dtype=np.uint8)


class Flickering(Pictures):
    """Gives stacks of 3 itself; about once in 80 steps the older frames are others than before."""

    observation_space = Box(0, 255, (3, 6, 6), np.uint8)

    def reset(self, *, seed=None, options=None):
        gymnasium.Env.reset(self, seed=seed)
        self.frames = deque([Pictures.observe(self)] * 3, maxlen=3)
        return np.stack(self.frames), {}

    def observe(self):
        self.frames.append(Pictures.observe(self))
        if self.np_random.random() < 1 / 80:
            self.frames[0] = Pictures.observe(self)
        return np.stack(self.frames)


class Unseeded(gymnasium.Env):
    """Ignores its seed: every reset leads to another episode. Observation: noise, and the steps made."""

    action_space = Discrete(2)
    observation_space = Box(-100.0, 100.0, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        self.random = np.random.default_rng()
        self.t = 0
        return self.observe(), {}

    def step(self, action):
        self.t += 1
        return self.observe(), 1.0, self.t == 25, False, {}

    def observe(self):
        return np.array([self.random.normal(), self.t], np.float32)
