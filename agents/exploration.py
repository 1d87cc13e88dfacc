"""How actions are chosen in training: schedules are functions of the stored step, so that a resumed run goes on.

N environments, A actions, M members of an ensemble.
"""

from abc import ABC, abstractmethod
from typing import Annotated, Any

import numpy as np
from pydantic import Field

Share = Annotated[float, Field(ge=0, le=1)]
Steps = Annotated[int, Field(ge=1)]
Temperature = Annotated[float, Field(gt=0)]


def linear_schedule(step: int, start: float, end: float, duration: int) -> float:
    """From `start` at step 0 to `end` at step `duration`, and `end` from there."""
    return start + (end - start) * (step / duration if step < duration else 1.0)


class Exploration(ABC):
    """Draws from a generator of its own, which is its state."""

    def __init__(self, num_envs: int, seed: int):
        self.num_envs = num_envs
        self.rng = np.random.default_rng(seed)

    @abstractmethod
    def choose(self, q_values: np.ndarray, step: int, mask: np.ndarray | None) -> np.ndarray:
        """Actions [N], int64, for action values [N, A] after `step` environment steps; `mask` [N, A]: legal ones.

        Illegal actions have value -inf.
        """

    def values_of(self, by_member: np.ndarray) -> np.ndarray:
        """What is acted by, [N, A], where the members of an ensemble say [M, N, A]: their mean."""
        return by_member[0] if len(by_member) == 1 else by_member.mean(0)

    def forget(self, done: np.ndarray) -> None:
        """Other episodes begin where `done`, bool [N], which is nothing to most."""
        return

    def metrics(self, step: int) -> dict[str, float]:
        """Scalars by TensorBoard tag."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {"rng": self.rng.bit_generator.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rng.bit_generator.state = state["rng"]


class Greedy(Exploration):
    """The best action, always: for networks whose noise explores."""

    def choose(self, q_values: np.ndarray, step: int, mask: np.ndarray | None) -> np.ndarray:
        return q_values.argmax(-1)


class EpsilonGreedy(Exploration):
    """With probability epsilon a random legal action instead of the greedy one, drawn for each environment alone.

    Args:
        epsilon_start, epsilon_end, epsilon_steps: epsilon falls linearly from the first to the second in so many steps.
        epsilon_after_steps: before it begins to fall, as Dopamine waits until it begins to learn.
        epsilon_until_steps: epsilon is 0 from there on, for networks whose noise explores (BTR).
    """

    def __init__(
        self,
        num_envs: int,
        seed: int,
        *,
        epsilon_start: Share = 1.0,
        epsilon_end: Share = 0.05,
        epsilon_steps: Steps = 10_000,
        epsilon_after_steps: Annotated[int, Field(ge=0)] = 0,
        epsilon_until_steps: Steps | None = None,
    ):
        super().__init__(num_envs, seed)
        self.start, self.end, self.duration = epsilon_start, epsilon_end, epsilon_steps
        self.after, self.until = epsilon_after_steps, epsilon_until_steps

    def epsilon(self, step: int) -> float:
        if self.until is not None and step >= self.until:
            return 0.0
        return linear_schedule(max(0, step - self.after), self.start, self.end, self.duration)

    def choose(self, q_values: np.ndarray, step: int, mask: np.ndarray | None) -> np.ndarray:
        return self.explore(q_values, self.epsilon(step), mask)

    def explore(self, q_values: np.ndarray, epsilon: float | np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        """Greedy actions, and random ones with probability `epsilon`: one number, or one for each environment [N]."""
        action = q_values.argmax(-1)
        exploring = self.rng.random(len(action)) < epsilon
        if not np.count_nonzero(exploring):
            return action
        return np.where(exploring, random_actions(self.rng, len(action), q_values.shape[-1], mask), action)

    def metrics(self, step: int) -> dict[str, float]:
        return {"charts/epsilon": self.epsilon(step)}


class ApeX(EpsilonGreedy):
    """Every environment its own epsilon, from careful to wild: epsilon_i = base ** (1 + alpha i / (N - 1)).

    They do not change while training. Source: Horgan et al. 2018, section 4.1 (base 0.4, alpha 7). With one
    environment it is `base`.
    """

    def __init__(self, num_envs: int, seed: int, *, base: Share = 0.4, alpha: Annotated[float, Field(ge=0)] = 7.0):
        super().__init__(num_envs, seed)
        self.epsilons = base ** (1 + alpha * np.arange(num_envs) / max(1, num_envs - 1))

    def choose(self, q_values: np.ndarray, step: int, mask: np.ndarray | None) -> np.ndarray:
        return self.explore(q_values, self.epsilons, mask)

    def metrics(self, step: int) -> dict[str, float]:
        return {"charts/epsilon": float(self.epsilons.mean())}


class Boltzmann(Exploration):
    """Actions with probability softmax(Q / temperature), among the legal ones; the temperature falls linearly."""

    def __init__(
        self,
        num_envs: int,
        seed: int,
        *,
        temperature_start: Temperature = 1.0,
        temperature_end: Temperature = 0.01,
        temperature_steps: Steps = 10_000,
    ):
        super().__init__(num_envs, seed)
        self.start, self.end, self.duration = temperature_start, temperature_end, temperature_steps

    def temperature(self, step: int) -> float:
        return linear_schedule(step, self.start, self.end, self.duration)

    def choose(self, q_values: np.ndarray, step: int, mask: np.ndarray | None) -> np.ndarray:
        noise = self.rng.gumbel(size=q_values.shape)  # argmax(x + Gumbel) is a draw from softmax(x)
        return (q_values / self.temperature(step) + noise).argmax(-1)

    def metrics(self, step: int) -> dict[str, float]:
        return {"charts/temperature": self.temperature(step)}


class Bootstrapped(EpsilonGreedy):
    """Every environment follows one member of an ensemble for a whole episode, drawn anew where the next one begins.

    So a plan of many steps is tried out whole (deep exploration), and no chance is needed beside it; with an epsilon
    it is epsilon-greedy about what that member thinks. Source: Osband et al. 2016, algorithm 1.
    """

    def __init__(
        self,
        num_envs: int,
        seed: int,
        *,
        epsilon_start: Share = 0.0,
        epsilon_end: Share = 0.0,
        epsilon_steps: Steps = 10_000,
    ):
        super().__init__(
            num_envs, seed, epsilon_start=epsilon_start, epsilon_end=epsilon_end, epsilon_steps=epsilon_steps
        )
        self.place = self.rng.random(num_envs)  # in [0, 1): of M members, number floor(M * place)

    def values_of(self, by_member: np.ndarray) -> np.ndarray:
        member = (self.place * len(by_member)).astype(np.int64)
        return by_member[member, np.arange(self.num_envs)]

    def forget(self, done: np.ndarray) -> None:
        self.place[done] = self.rng.random(done.sum())

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "place": self.place.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.place = np.array(state["place"])


EXPLORATIONS: dict[str, type[Exploration]] = {
    "epsilon_greedy": EpsilonGreedy,
    "boltzmann": Boltzmann,
    "apex": ApeX,
    "bootstrapped": Bootstrapped,
    "greedy": Greedy,
}


def random_actions(rng: np.random.Generator, num_envs: int, num_actions: int, mask: np.ndarray | None) -> np.ndarray:
    """A uniformly drawn legal action for each environment, int64 [N]."""
    if mask is None:
        return rng.integers(num_actions, size=num_envs)
    return np.where(mask, rng.random((num_envs, num_actions)), -1.0).argmax(-1)
