"""A world with actions that are not always legal, whose right answers are known.

S states, A actions.
"""

from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete

from envs.toy import ToyEnv


class Doors(ToyEnv):
    """Rooms in a row with doors of which some are locked, so that what may not be done looks better than what may.

    Observation: one-hot float32 [length], the room; all 0 after the last. Door a of three leads to the next room and
    costs 1 + a; in room s door s % 3 is locked. Action 3 is a hatch that never opens. `info["action_mask"]` [4] says
    what is open. An episode starts in a room drawn uniformly, and ends behind the last.

    All that is ever learned of here is at -1 or below, and networks begin near 0: the hatch keeps that value, and
    whoever forgets the mask wants to go there, or thinks that the next room costs nothing.

    Raises:
        ValueError: length < 1; a step through what is locked.
    """

    def __init__(self, length: int = 4, render_mode: str | None = None):
        super().__init__(render_mode)
        if length < 1:
            raise ValueError(f"length is {length}, wanted at least 1")
        self.length = length
        self.return_range = (-3.0 * length, 0.0)
        self.observation_space = Box(0.0, 1.0, (length,), np.float32)
        self.action_space = Discrete(4)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self._room = int(self.np_random.integers(self.length))
        return self.observe(), {"action_mask": self.open_in(self._room)}

    def step(self, action: int | np.integer):
        if not self.open_in(self._room)[action]:
            raise ValueError(f"action {action} is locked in room {self._room}")
        self._room += 1
        info = {"action_mask": self.open_in(self._room)}
        return self.observe(), -1.0 - float(action), self._room == self.length, False, info

    def get_action_meanings(self) -> list[str]:
        """Names of the actions."""
        return ["door 1", "door 2", "door 3", "hatch"]

    def open_in(self, room: int) -> np.ndarray:
        """Which actions are legal in a room, bool [4]."""
        actions = np.arange(4)
        return (actions < 3) & (actions != room % 3)

    def observe(self) -> np.ndarray:
        return (np.arange(self.length) == self._room).astype(np.float32)

    def optimal_q(self, gamma: float) -> np.ndarray:
        """Q*, float64 [S, A]; -inf for what is locked."""
        q, following = np.full((self.length, 4), -np.inf), 0.0
        for room in reversed(range(self.length)):
            legal = self.open_in(room)
            q[room, legal] = -1.0 - np.flatnonzero(legal) + gamma * following
            following = q[room].max()
        return q
