"""What a learner is given. Dimensions: B batch, A actions."""

from typing import NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """Transitions. `discount` is gamma**n * (1 - terminal) with the n that was realised: the only gamma in a target."""

    obs: Tensor  # [B, *shape], as the environment gave it
    action: Tensor  # [B], int64
    reward: Tensor  # [B], float32: sum of gamma**k r_k over the realised n steps
    discount: Tensor  # [B], float32
    next_obs: Tensor  # [B, *shape], the true successor after n steps
    weight: Tensor  # [B], float32: importance weights, 1 for uniform replay
    next_action: Tensor | None = None  # [B], int64; -1 where the episode was cut off and none was taken
    next_mask: Tensor | None = None  # [B, A], bool: legal actions in next_obs
    mask: Tensor | None = None  # [B, A], bool: legal actions in obs

    def to(self, device: torch.device) -> "Batch":
        """The same batch on `device`."""
        return self._replace(**{k: v.to(device) for k, v in self._asdict().items() if v is not None})

    def take(self, rows: Tensor) -> "Batch":
        """The transitions in `rows`."""
        return self._replace(**{k: v[rows] for k, v in self._asdict().items() if v is not None})

    @classmethod
    def of_returns(cls, obs: Tensor, action: Tensor, returns: Tensor) -> "Batch":
        """Transitions whose return is known, so that nothing is bootstrapped: its reward is the whole of it."""
        return cls(obs, action, returns, torch.zeros_like(returns), obs, torch.ones_like(returns))
