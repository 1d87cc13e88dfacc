"""Epsilon-greedy exploration, with a schedule that is a function of the stored step; and the noise of noisy layers."""

from typing import Any

import numpy as np
import torch

from agents.config import ExplorationConfig


def linear_schedule(step: int, start: float, end: float, duration: int) -> float:
    """From `start` at step 0 to `end` at step `duration`, and `end` from there."""
    return start + (end - start) * min(step / duration, 1.0)


class EpsilonGreedy:
    """With probability epsilon a random legal action instead of the greedy one, drawn for each environment alone.

    `generator`, on the device of the networks, is for the noise with which a noisy output layer acts.
    """

    def __init__(self, config: ExplorationConfig, seed: int, device: torch.device | str = "cpu"):
        self.config = config
        self.rng = np.random.default_rng(seed)
        self.generator = torch.Generator(device).manual_seed(seed)

    def epsilon(self, step: int) -> float:
        return linear_schedule(step, self.config.epsilon_start, self.config.epsilon_end, self.config.epsilon_steps)

    def explore(self, action: np.ndarray, epsilon: float, num_actions: int, mask: np.ndarray | None) -> np.ndarray:
        """Greedy actions [N] -> actions [N]; `mask` [N, A] says which are legal."""
        exploring = self.rng.random(len(action)) < epsilon
        if not exploring.any():
            return action
        return np.where(exploring, random_actions(self.rng, len(action), num_actions, mask), action)

    def state_dict(self) -> dict[str, Any]:
        return {"rng": self.rng.bit_generator.state, "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rng.bit_generator.state = state["rng"]
        self.generator.set_state(state["generator"].cpu())


def random_actions(rng: np.random.Generator, num_envs: int, num_actions: int, mask: np.ndarray | None) -> np.ndarray:
    """A uniformly drawn legal action for each environment, int64 [N]."""
    if mask is None:
        return rng.integers(num_actions, size=num_envs)
    return np.where(mask, rng.random((num_envs, num_actions)), -1.0).argmax(-1)
