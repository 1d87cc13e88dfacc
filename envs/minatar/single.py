"""A single game of MinAtar as gymnasium has it."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete

from envs.minatar.vector import MinAtarVector


class MinAtarEnv(gymnasium.Env[np.ndarray, np.int64]):
    """One game as gymnasium has it, for who looks at single environments; every episode starts afresh from its seed.

    Args:
        game: a name in GAMES.
        options: of MinAtarVector.

    Raises:
        ValueError: an option out of range, or no such game.
    """

    def __init__(self, game: str, **options: Any):
        self._game, self._options = game, options
        self._vector = MinAtarVector(game, **options)
        self.observation_space = self._vector.observation_space
        self.action_space = Discrete(self._vector.num_actions)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        seed = int(self.np_random.integers(2**31 - 1))
        self._vector = MinAtarVector(self._game, seed=seed, **self._options)
        return self._vector.reset()[0], {}

    def step(self, action: int | np.integer):
        step = self._vector.step(np.array([action]))
        return step.next_obs[0], float(step.reward[0]), bool(step.terminated[0]), bool(step.truncated[0]), {}

    def get_action_meanings(self) -> list[str]:
        """Names of the actions."""
        return list(self._vector.action_names or [])
