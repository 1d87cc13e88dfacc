"""What a learner is given.

Dimensions: B batch, A actions, M members of an ensemble, K steps of the future; of sequences T steps that are trained,
after L steps that are not (burn-in).
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """Transitions. `discount` is gamma**n * (1 - terminal) with the n that was realised: the only gamma in a target."""

    obs: Tensor  # [B, *shape], as the environment gave it
    action: Tensor  # [B], int64
    reward: Tensor  # [B], float32: sum of gamma**k r_k over the realised n steps; [B, M] where each member has its own
    discount: Tensor  # [B], float32
    next_obs: Tensor  # [B, *shape], the true successor after n steps
    weight: Tensor  # [B], float32: importance weights, 1 for uniform replay
    next_action: Tensor | None = None  # [B], int64; -1 where the episode was cut off and none was taken
    next_mask: Tensor | None = None  # [B, A], bool: legal actions in next_obs
    mask: Tensor | None = None  # [B, A], bool: legal actions in obs
    bootstrap_mask: Tensor | None = None  # [B, M], bool: members that learn from it; without, all do
    future_obs: Tensor | None = None  # [B, K, *shape]: after 1 .. K steps, for who predicts them
    future_action: Tensor | None = None  # [B, K], int64: before each of them, so the first is `action`
    future_mask: Tensor | None = None  # [B, K], bool: no value or episode ended before it; elsewhere it is anything

    @property
    def size(self) -> int:
        """B, how many predictions are trained."""
        return self.action.numel()

    def to(self, device: torch.device) -> "Batch":
        """The same batch on `device`."""
        return self._replace(**{k: v.to(device) for k, v in self._asdict().items() if v is not None})

    def take(self, rows: Tensor) -> "Batch":
        """The transitions in `rows`."""
        return self._replace(**{k: v[rows] for k, v in self._asdict().items() if v is not None})

    def unflatten(self, parts: int) -> "Batch":
        """The same with every field of `parts` batches in one, [parts * B, ...], as [parts, B, ...]."""
        return self._replace(**{k: v.unflatten(0, (parts, -1)) for k, v in self._asdict().items() if v is not None})

    @classmethod
    def of_returns(cls, obs: Tensor, action: Tensor, returns: Tensor) -> "Batch":
        """Transitions whose return is known, so that nothing is bootstrapped: its reward is the whole of it.

        Members of an ensemble may each have their own: `returns` [B] or [B, M].
        """
        weight = torch.ones(len(action), device=returns.device)
        return cls(obs, action, returns, torch.zeros_like(weight), obs, weight)


class SequenceBatch(NamedTuple):
    """B stretches of T steps within an episode, each with the L steps before it and the observation after it.

    A sequence that begins with its episode has no steps before it, and its first L rows are padding; one that ends
    early with its episode is padded behind. Step t was taken at observation L + `position`[t], and its n-step return
    bootstraps from observation L + `next_position`[t]: after n steps, or fewer where the value, the episode or the
    sequence ends. Steps that are padding repeat the first, with `real` False.
    """

    obs: Tensor  # [L + T + 1, B, *shape], as the environment gave it
    last_action: Tensor  # [L + T + 1, B], int64: before obs; -1 at an episode's start
    last_reward: Tensor  # [L + T + 1, B], float32: with obs; 0 at an episode's start
    state: Tensor  # [B, S], float32: recurrent state before the first observation, as it was when that was acted on
    burnt_in: Tensor  # [B], bool: there are steps before; otherwise `state` is that before the T steps
    action: Tensor  # [T, B], int64
    reward: Tensor  # [T, B], float32: sum of gamma**k r_k over the realised n steps
    discount: Tensor  # [T, B], float32: gamma**n * (1 - terminal)
    position: Tensor  # [T, B], int64 in 0 .. T - 1
    next_position: Tensor  # [T, B], int64 in 1 .. T
    real: Tensor  # [T, B], bool
    weight: Tensor  # [B], float32: importance weights
    next_action: Tensor | None = None  # [T, B], int64; -1 where none was taken
    next_mask: Tensor | None = None  # [T, B, A], bool: legal actions at next_position
    mask: Tensor | None = None  # [T, B, A], bool: legal actions at position
    bootstrap_mask: Tensor | None = None  # [T, B, M], bool: members that learn from it

    @property
    def size(self) -> int:
        """T * B, how many predictions are trained."""
        return self.action.numel()

    @property
    def burn_in(self) -> int:
        """L."""
        return len(self.obs) - len(self.action) - 1

    def to(self, device: torch.device) -> "SequenceBatch":
        """The same batch on `device`."""
        return self._replace(**{k: v.to(device) for k, v in self._asdict().items() if v is not None})

    def transitions(self) -> Batch:
        """The steps as transitions [T*B] whose observations are the numbers of their places among (T + 1)*B."""
        place = torch.arange(len(self.weight), device=self.weight.device)
        given = {k: getattr(self, k) for k in ("next_mask", "mask", "next_action", "bootstrap_mask")}
        return Batch(
            obs=(self.position * len(place) + place).flatten(),
            action=self.action.flatten(),
            reward=self.reward.flatten(),
            discount=self.discount.flatten(),
            next_obs=(self.next_position * len(place) + place).flatten(),
            weight=(self.weight * self.real).flatten(),
            **{name: value if value is None else value.flatten(0, 1) for name, value in given.items()},
        )
