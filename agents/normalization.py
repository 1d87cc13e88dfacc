"""Running statistics of observations and returns, for environments whose numbers have no agreed scale.

Both are kept with the agent: replay holds what the environment gave, and is normalised when it is used.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


class ObservationNormalizer(nn.Module):
    """(obs - mean) / std per element, from all observations acted on in training; clipped to [-10, 10].

    `update` merges a batch by the pairwise formula of Chan et al. 1983; statistics are float64 inside.
    """

    mean: Tensor
    var: Tensor
    count: Tensor

    def __init__(self, obs_shape: tuple[int, ...]):
        super().__init__()
        self.register_buffer("mean", torch.zeros(obs_shape, dtype=torch.float64))
        self.register_buffer("var", torch.ones(obs_shape, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    @torch.no_grad()
    def update(self, obs: Tensor) -> None:
        """Take a batch of observations [B, *shape] into the statistics; bytes become [0, 1] as in `QNetwork`."""
        merged = self.merged(self.mean, self.var, self.count, obs)
        for statistic, value in zip((self.mean, self.var, self.count), merged, strict=True):
            statistic.copy_(value)

    @staticmethod
    def merged(mean: Tensor, var: Tensor, count: Tensor, obs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, variance and count with observations [B, *shape] taken in."""
        obs = obs.double() / 255 if obs.dtype == torch.uint8 else obs.double()
        total = count + len(obs)
        delta = obs.mean(0) - mean
        spread = var * count + obs.var(0, correction=0) * len(obs)
        return mean + delta * len(obs) / total, (spread + delta**2 * count * len(obs) / total) / total, total

    def forward(self, obs: Tensor) -> Tensor:
        return ((obs - self.mean) / (self.var + 1e-8).sqrt()).float().clamp(-10, 10)


class RewardScale:
    """1 / std of the discounted return that runs forwards, G <- gamma G + r, as in SB3's VecNormalize.

    It does not clip, and it only divides: subtracting a mean would change the task. The deviation is MIN_STD at least.
    """

    MIN_STD = 1e-4

    def __init__(self, num_envs: int, gamma: float):
        self.gamma, self.returns = gamma, np.zeros(num_envs)
        self.count, self.mean, self.sum_of_squares = 0, 0.0, 0.0

    def update(self, reward: np.ndarray, episode_end: np.ndarray) -> None:
        """Take the rewards [N] of one step into the statistics."""
        self.returns = self.returns * self.gamma + reward
        for value in self.returns.tolist():
            self.count += 1
            delta = value - self.mean
            self.mean += delta / self.count
            self.sum_of_squares += delta * (value - self.mean)
        self.returns[episode_end] = 0.0

    def factor(self) -> float:
        """What rewards are multiplied with; 1 until there is a spread."""
        if self.sum_of_squares == 0:
            return 1.0
        return 1 / max((self.sum_of_squares / self.count) ** 0.5, self.MIN_STD)

    def discard(self, env: int) -> None:
        """Forget the running return of one environment."""
        self.returns[env] = 0.0

    def state_dict(self) -> dict[str, Any]:
        state = {name: getattr(self, name) for name in ("count", "mean", "sum_of_squares")}
        return state | {"returns": self.returns.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in ("count", "mean", "sum_of_squares"):
            setattr(self, name, state[name])
        self.returns = np.array(state["returns"])
