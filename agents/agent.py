"""What a run wants of an agent. N environments, A actions."""

from typing import Any, NamedTuple, Protocol

import numpy as np
from torch import Tensor

from agents.networks.qnetwork import QNetwork
from agents.replay.uniform import UniformReplay
from value_heads import Atoms


class Transition(NamedTuple):
    """One decision in each environment, and what it led to: arrays [N, ...], rewards raw."""

    obs: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    terminal: np.ndarray  # nothing is bootstrapped: the task ended, or a life was lost
    done: np.ndarray  # the episode ended
    next_obs: np.ndarray
    next_mask: np.ndarray | None  # [N, A], legal in next_obs
    mask: np.ndarray | None  # [N, A], legal in obs


class Agent(Protocol):
    """Built as `Agent(config, spec, stopwatch)`; one class for each regime of data."""

    online: QNetwork
    replay: UniformReplay

    def act(self, obs: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        """Exploring actions [N] for observations [N, *shape]; `mask` [N, A] says which are legal."""
        ...

    def observe(self, t: Transition) -> None:
        """Take one decision of every environment in."""
        ...

    def learn(self) -> None:
        """Make the updates that are due, from what was observed before; environments may be stepping meanwhile."""
        ...

    def first_update_after(self) -> int:
        """Environment steps before the first update."""
        ...

    def reward_factor(self) -> float:
        """What rewards are multiplied with when they are learned from."""
        ...

    def metrics(self) -> dict[str, float]:
        """Scalars by TensorBoard tag."""
        ...

    def distributions(self) -> dict[str, Atoms]:
        """Return distributions by TensorBoard tag, atoms [B, K]."""
        ...

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Begin with the weights of another network of the same shape."""
        ...

    def cut(self, env: int, obs: np.ndarray) -> None:
        """End the running episode of one environment as truncated at `obs` [*shape]."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...
