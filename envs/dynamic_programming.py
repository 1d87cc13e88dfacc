"""Finite Markov decision processes and what is true of them: Q* and the values of policies, in float64.

S states, A actions, T terminal states, which come last among the successors.
"""

from typing import NamedTuple

import numpy as np


class TransitionModel(NamedTuple):
    """A finite Markov decision process. Rewards are means: noise with mean 0 on top of them changes no value."""

    probs: np.ndarray  # [S, A, S + T], probability of each successor
    reward: np.ndarray  # [S, A, S + T], reward on the way to it; 0 where it cannot follow
    terminal: np.ndarray  # [S + T] bool
    obs: np.ndarray  # [S + T, *shape], what is observed in each state
    start: np.ndarray  # [S], probability that an episode starts there

    def backup(self, values: np.ndarray, gamma: float) -> np.ndarray:
        """sum_s' p(s'|s, a) (r(s, a, s') + gamma V(s')): values [S] -> [S, A]; a terminal state is worth 0."""
        worth = np.append(values, np.zeros(self.terminal.sum()))
        return (self.probs * (self.reward + gamma * worth)).sum(axis=-1)


def optimal_q(model: TransitionModel, gamma: float) -> np.ndarray:
    """Q*, float64 [S, A], by value iteration until the values change by less than 1e-13.

    Raises:
        ValueError: gamma outside [0, 1].
    """
    check_gamma(gamma)
    values = np.zeros(len(model.probs))
    while True:
        q = model.backup(values, gamma)
        change = np.abs(q.max(axis=-1) - values).max()
        values = q.max(axis=-1)
        if change < 1e-13:
            return q


def policy_values(model: TransitionModel, policy: np.ndarray, gamma: float) -> np.ndarray:
    """V of a policy, float64 [S]: the solution of V = sum_a pi(a|s) sum_s' p (r + gamma V).

    Args:
        policy: probability of each action, [S, A].

    Raises:
        ValueError: gamma outside [0, 1], or a policy of another shape.
    """
    check_gamma(gamma)
    if policy.shape != model.probs.shape[:2]:
        raise ValueError(f"policy {policy.shape} is not [S, A] = {model.probs.shape[:2]}")
    successor = np.einsum("sa,sap->sp", policy, model.probs)[:, ~model.terminal]
    reward = np.einsum("sa,sap,sap->s", policy, model.probs, model.reward)
    return np.linalg.solve(np.eye(len(reward)) - gamma * successor, reward)


def regret(model: TransitionModel, q: np.ndarray, gamma: float) -> float:
    """How much less than the best the greedy policy of q [S, A] gets, from where episodes start; never negative.

    Raises:
        ValueError: see `policy_values`.
    """
    greedy = np.eye(q.shape[1])[q.argmax(-1)]
    best = optimal_q(model, gamma).max(axis=-1)
    return float(model.start @ (best - policy_values(model, greedy, gamma)))


def check_gamma(gamma: float) -> None:
    """Raise ValueError for one that is no discount."""
    if not 0.0 <= gamma <= 1.0:
        raise ValueError(f"gamma is {gamma}, wanted 0 <= gamma <= 1")
