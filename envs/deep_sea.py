"""A small world in which nothing but a plan kept for a whole episode finds anything: for exploration.

N rows and columns.
"""

from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete

from envs.toy import ToyEnv


class DeepSea(ToyEnv):
    """A diver sinks one row a step and is steered left or right; the treasure lies in the last column of the last row.

    Observation: float32 [size, size], 1 at the diver, who starts in the top left corner; all 0 after the last of
    `size` steps. Which action goes right is drawn for each cell by `mapping_seed`, so that no rule covers all cells.
    Every step to the right costs 0.01 / size, and the last one to the treasure brings 1: best play gets 0.99, never
    to go right 0, and every other way costs something. Of 2**size ways one leads to the treasure, so that actions at
    random find it once in 2**size episodes, and chance beside a policy that avoids the costs more rarely still.
    Source: Osband et al. 2019, "Deep Exploration via Randomized Value Functions"; Deep Sea in bsuite (Osband et al.
    2020).

    Raises:
        ValueError: size < 2.
    """

    move_cost = 0.01

    def __init__(self, size: int = 10, mapping_seed: int = 0, render_mode: str | None = None):
        super().__init__(render_mode)
        if size < 2:
            raise ValueError(f"size is {size}, wanted at least 2")
        self.size = size
        self.right = np.random.default_rng(mapping_seed).integers(2, size=(size, size))  # the action that goes right
        self.return_range = (-self.move_cost, 1.0 - self.move_cost / size)
        self.observation_space = Box(0.0, 1.0, (size, size), np.float32)
        self.action_space = Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self._row = self._column = 0
        return self.observe(), {}

    def step(self, action: int | np.integer):
        reward = 0.0
        if action == self.right[self._row, self._column]:
            reward = float(self._column == self.size - 1) - self.move_cost / self.size
            self._column = min(self._column + 1, self.size - 1)
        else:
            self._column = max(self._column - 1, 0)
        self._row += 1
        return self.observe(), reward, self._row == self.size, False, {}

    def observe(self) -> np.ndarray:
        board = np.zeros((self.size, self.size), np.float32)
        if self._row < self.size:
            board[self._row, self._column] = 1.0
        return board
