"""Is the agent too optimistic? Predicted value at an episode's start minus the return that followed.

The value is that of the greedy policy, the return that of the exploring one: a perfect prediction shows a bias above 0
while epsilon is large.
"""

from typing import Any

import numpy as np


class ValueBias:
    """Q(s_0) - sum_t gamma**t r_t of finished episodes, N environments.

    Episodes that were cut off count only where what is missing weighs less than 1 % (gamma**length < 0.01).
    """

    NEGLIGIBLE = 0.01
    AT_ONCE = 64

    def __init__(self, num_envs: int, gamma: float):
        self.gamma = gamma
        self.predicted, self.returns = np.zeros(num_envs), np.zeros(num_envs)
        self.weight = np.ones(num_envs)  # gamma**t
        self.begins, self.some_begin = np.ones(num_envs, bool), True
        self.biases: list[float] = []
        self.waiting: list[tuple[np.ndarray, ...]] = []  # steps not counted yet: many at once take half the time

    def update(self, q_values: np.ndarray, reward: np.ndarray, terminal: np.ndarray, done: np.ndarray) -> None:
        """One step of each environment: action values [N, A] before it, and the reward [N] that it gave.

        Where a value ends within an episode (a lost life), the next one begins. The arrays must stay as they are.
        """
        self.waiting.append((q_values, reward, terminal, done))
        if len(self.waiting) >= self.AT_ONCE:
            self.catch_up()

    def catch_up(self) -> None:
        """Count the steps that wait."""
        for step in self.waiting:
            self.count(*step)
        self.waiting.clear()

    def count(self, q_values: np.ndarray, reward: np.ndarray, terminal: np.ndarray, done: np.ndarray) -> None:
        """Take one step in."""
        if self.some_begin:
            self.predicted = np.where(self.begins, q_values.max(-1), self.predicted)
        self.returns += self.weight * reward
        self.weight *= self.gamma
        ended = terminal | done
        self.begins, self.some_begin = ended, np.count_nonzero(ended) > 0  # any() takes 5 times as long
        for env in np.flatnonzero(ended).tolist() if self.some_begin else ():
            if terminal[env] or self.weight[env] < self.NEGLIGIBLE:
                self.keep(env, float(self.predicted[env] - self.returns[env]))
            self.returns[env], self.weight[env] = 0.0, 1.0

    def keep(self, env: int, bias: float) -> None:
        """Keep that of an episode that ended in the environment `env`."""
        self.biases.append(bias)

    def discard(self, env: int) -> None:
        """Forget the running episode of one environment."""
        self.catch_up()
        self.returns[env], self.weight[env] = 0.0, 1.0
        self.begins[env] = self.some_begin = True

    def pop(self) -> dict[str, float]:
        """The mean over episodes finished since the last call, as a metric; nothing where there were none."""
        self.catch_up()
        metrics = {"value/bias": float(np.mean(self.biases))} if self.biases else {}
        self.biases = []
        return metrics

    def state_dict(self) -> dict[str, Any]:
        self.catch_up()
        arrays = {name: getattr(self, name).tolist() for name in ("predicted", "returns", "weight", "begins")}
        return arrays | {"biases": self.biases}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.waiting.clear()
        for name in ("predicted", "returns", "weight", "begins"):
            setattr(self, name, np.array(state[name]))
        self.some_begin = bool(self.begins.any())
        self.biases = list(state["biases"])
