"""Is the agent too optimistic? Predicted value at an episode's start minus the return that followed.

The value is that of the greedy policy, the return that of the exploring one: a perfect prediction shows a bias above 0
while epsilon is large.
"""

from typing import Any

import numpy as np


class ValueBias:
    """Q(s_0) - sum_t gamma**t r_t of finished episodes, N environments.

    Episodes that were cut off count only where what is missing weighs less than 1 % (gamma**length < 0.01). Numbers of
    Python, one environment after the other: for a few of them that takes a third of the time of arrays.
    """

    NEGLIGIBLE = 0.01

    def __init__(self, num_envs: int, gamma: float):
        self.gamma = gamma
        self.predicted, self.returns = [0.0] * num_envs, [0.0] * num_envs
        self.weight = [1.0] * num_envs  # gamma**t
        self.begins, self.some_begin = [True] * num_envs, True
        self.biases: list[float] = []

    def update(self, q_values: np.ndarray, reward: np.ndarray, terminal: np.ndarray, done: np.ndarray) -> None:
        """One step of each environment: action values [N, A] before it, and the reward [N] that it gave.

        Where a value ends within an episode (a lost life), the next one begins.
        """
        if self.some_begin:
            values = zip(self.begins, q_values.max(-1).tolist(), self.predicted, strict=True)
            self.predicted = [value if begins else before for begins, value, before in values]
            self.begins, self.some_begin = [False] * len(self.begins), False
        steps = zip(reward.tolist(), terminal.tolist(), done.tolist(), strict=True)
        for env, (gained, ends, over) in enumerate(steps):
            self.returns[env] += self.weight[env] * gained
            self.weight[env] *= self.gamma
            if ends or over:
                if ends or self.weight[env] < self.NEGLIGIBLE:
                    self.keep(env, self.predicted[env] - self.returns[env])
                self.discard(env)

    def keep(self, env: int, bias: float) -> None:
        """Keep that of an episode that ended in the environment `env`."""
        self.biases.append(bias)

    def discard(self, env: int) -> None:
        """Forget the running episode of one environment."""
        self.returns[env], self.weight[env] = 0.0, 1.0
        self.begins[env] = self.some_begin = True

    def pop(self) -> dict[str, float]:
        """The mean over episodes finished since the last call, as a metric; nothing where there were none."""
        metrics = {"value/bias": float(np.mean(self.biases))} if self.biases else {}
        self.biases = []
        return metrics

    def state_dict(self) -> dict[str, Any]:
        names = ("predicted", "returns", "weight", "begins", "biases")
        return {name: list(getattr(self, name)) for name in names}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, values in state.items():
            setattr(self, name, list(values))
        self.some_begin = any(self.begins)
