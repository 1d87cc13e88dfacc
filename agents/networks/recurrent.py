"""A network with a memory: observation -> torso -> LSTM -> value head, and what is carried from step to step.

T steps, B batch, N environments, A actions, F features of the torso, H units of the LSTM.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from agents.networks.qnetwork import QNetwork
from agents.networks.torsos import Torso
from agents.normalization import ObservationNormalizer
from value_heads import ActionValues, Draws, ValueHead


class RecurrentQNetwork(QNetwork):
    """Observations, each with the action and the reward before it -> ActionValues.

    The LSTM sees the torso's features, the last action as one-hot and tanh of the last reward; at an episode's start,
    where there are none, zeros. A state is [B, 2H], hidden units and cells, and 0 at an episode's start.
    Source: Kapturowski et al. 2019 (R2D2), s. 2.3. The tanh is Acme's: rewards that are not clipped can be thousands.
    """

    def __init__(
        self,
        torso: Torso,
        lstm: nn.LSTM,
        head: ValueHead,
        num_actions: int,
        normalizer: ObservationNormalizer | None = None,
    ):
        super().__init__(torso, head, normalizer)
        self.lstm, self.num_actions = lstm, num_actions

    @property
    def state_size(self) -> int:
        return 2 * self.lstm.hidden_size

    def unroll(self, obs: Tensor, last_action: Tensor, last_reward: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """What the LSTM makes of T steps: features [T, B, H] for the head, and the state [B, 2H] after the last.

        Args:
            obs: [T, B, *shape].
            last_action: int64 [T, B], taken before each observation; -1 where there was none.
            last_reward: [T, B], received with each observation; 0 where there was none.
            state: [B, 2H], before the first.
        """
        encoded = self.features(obs.flatten(0, 1)).unflatten(0, obs.shape[:2])
        action = last_action.unsqueeze(-1) == torch.arange(self.num_actions, device=obs.device)
        inputs = torch.cat([encoded, action.to(encoded.dtype), last_reward.tanh().unsqueeze(-1)], -1)
        hidden, cell = (part.contiguous() for part in state.unsqueeze(0).chunk(2, -1))
        features, last = self.lstm(inputs, (hidden, cell))
        return features, torch.cat(last, -1).squeeze(0)

    def forward(self, obs: Tensor, draws: Draws | None = None) -> ActionValues:
        raise TypeError("a recurrent network has no values of observations alone: use `unroll`, or a `Memory`")


def make_lstm(in_features: int, num_actions: int, size: int) -> nn.LSTM:
    """The LSTM of a `RecurrentQNetwork`; its forget gates start at 1, as in Sonnet and Haiku, so that it remembers."""
    lstm = nn.LSTM(in_features + num_actions + 1, size)
    with torch.no_grad():
        lstm.get_parameter("bias_ih_l0")[size : 2 * size] += 1.0
    return lstm


class Memory:
    """What a network remembers of the running episodes of N environments.

    One step is `values(obs)`, then `advance(action, reward)`, then `forget(done)`. Asking for values changes nothing
    that decides the next ones until `advance`.
    """

    def __init__(self, network: RecurrentQNetwork, num_envs: int):
        self.network, self.num_envs = network, num_envs
        self.device = next(network.parameters()).device
        self.state = torch.zeros(num_envs, network.state_size, device=self.device)
        self.next_state = self.state
        self.action = torch.full((num_envs,), -1, device=self.device)
        self.reward = torch.zeros(num_envs, device=self.device)

    def values(self, obs: Tensor, draws: Draws | None = None) -> ActionValues:
        """Predictions [N, A] for observations [N, *shape], given all that was before them in their episodes."""
        before = self.action.unsqueeze(0), self.reward.unsqueeze(0)
        features, self.next_state = self.network.unroll(obs.unsqueeze(0), *before, self.state)
        return self.network.head(features.squeeze(0), draws)

    def advance(self, action: np.ndarray, reward: np.ndarray) -> None:
        """What was done at the observations of the last `values`, and the rewards as learned from, [N] each."""
        self.state = self.next_state
        self.action = torch.from_numpy(action).to(self.device, torch.int64)
        self.reward = torch.from_numpy(reward).to(self.device, torch.float32)

    def forget(self, done: np.ndarray) -> None:
        """Begin an episode where `done`, bool [N]."""
        fresh = torch.from_numpy(done).to(self.device)
        self.state = torch.where(fresh.unsqueeze(-1), 0.0, self.state)
        self.action = torch.where(fresh, -1, self.action)
        self.reward = torch.where(fresh, 0.0, self.reward)

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("state", "action", "reward")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in ("state", "action", "reward"):
            setattr(self, name, state[name].to(self.device))
