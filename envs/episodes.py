"""Returns and lengths of episodes, counted by ourselves from raw rewards."""

from typing import Any, NamedTuple

import numpy as np


class Episode(NamedTuple):
    """A finished episode."""

    env_index: int
    episodic_return: float  # undiscounted sum of raw rewards
    length: int  # steps


class EpisodeStatistics:
    """Running return and length of the current episode of each of `num_envs` environments."""

    def __init__(self, num_envs: int):
        self._returns = [0.0] * num_envs
        self._lengths = [0] * num_envs

    def update(self, reward: np.ndarray, done: np.ndarray) -> list[Episode]:
        """Count one vector step; the episodes that ended with it.

        Args:
            reward: [N], raw.
            done: [N] bool, terminated or truncated.

        Raises:
            ValueError: a shape is not [N].
        """
        wanted = (len(self._returns),)
        if reward.shape != wanted or done.shape != wanted:
            raise ValueError(f"reward {reward.shape} and done {done.shape} must both be {wanted}")
        finished = []
        for index, (gained, ended) in enumerate(zip(reward.tolist(), done.tolist(), strict=True)):
            self._returns[index] += gained
            self._lengths[index] += 1
            if ended:
                finished.append(Episode(index, self._returns[index], self._lengths[index]))
                self._returns[index], self._lengths[index] = 0.0, 0
        return finished

    def discard(self, env_index: int) -> None:
        """Forget the running episode of one environment."""
        self._returns[env_index], self._lengths[env_index] = 0.0, 0

    def state_dict(self) -> dict[str, Any]:
        """Returns and lengths so far, as plain lists."""
        return {"returns": list(self._returns), "lengths": list(self._lengths)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on counting from `state`.

        Raises:
            ValueError: it was saved with another number of environments.
        """
        got, wanted = len(state["returns"]), len(self._returns)
        if got != wanted:
            raise ValueError(f"the state has {got} environments, these statistics {wanted}")
        self._returns = list(state["returns"])
        self._lengths = list(state["lengths"])
