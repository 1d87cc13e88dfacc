"""Returns and priorities over stretches of time.

Dimensions: T steps, N environments (or sequences).
"""

import torch
from torch import Tensor


def lambda_returns(reward: Tensor, discount: Tensor, next_value: Tensor, episode_end: Tensor, lambda_: float) -> Tensor:
    """Peng's Q(lambda) returns: G_t = r_t + discount_t * ((1 - lambda) V_{t+1} + lambda G_{t+1}); [T, N].

    With V = max_a Q it is what PQN trains towards. Where an episode ends, and at the last step, G_t is
    r_t + discount_t V_{t+1}: a time limit is bootstrapped through, from the observation before the reset; a terminal
    step is not, because its discount is 0. lambda = 0 gives 1-step targets; with lambda = 1 the only bootstrap is at
    such an end.

    Args:
        reward: [T, N].
        discount: [T, N], gamma * (1 - terminal).
        next_value: [T, N], V of the true successor of step t, also where the episode ended.
        episode_end: [T, N], bool: step t + 1 belongs to another episode.
        lambda_: in [0, 1].

    Raises:
        ValueError: where shapes differ, or lambda is out of range.

    Source: Peng & Williams 1996; Gallici et al. 2024 (PQN; lambda = 0.65).
    """
    shapes = [tuple(t.shape) for t in (reward, discount, next_value, episode_end)]
    if reward.dim() != 2 or len(set(shapes)) > 1:
        raise ValueError(f"reward, discount, next_value and episode_end must all be [T, N], got {shapes}")
    if not 0 <= lambda_ <= 1:
        raise ValueError(f"lambda must be in [0, 1], got {lambda_}")
    kept = lambda_ * (~episode_end).float()  # how much of G_{t+1} is in G_t
    returns, following = [], next_value[-1]
    for t in reversed(range(len(reward))):
        following = reward[t] + discount[t] * torch.lerp(next_value[t], following, kept[t])
        returns.append(following)
    return torch.stack(returns[::-1])


def sequence_priority(td_error: Tensor, real: Tensor | None = None, *, eta: float = 0.9) -> Tensor:
    """eta * max_t |td_error_t| + (1 - eta) * mean_t |td_error_t|: [T, N] -> [N].

    Steps that are not `real` (bool [T, N]) are in neither; every sequence has one that is.

    Source: Kapturowski et al. 2019 (R2D2), s. 2.3, eta = 0.9.
    """
    real = torch.ones_like(td_error, dtype=torch.bool) if real is None else real
    size = td_error.abs().where(real, 0.0)
    return eta * size.amax(0) + (1 - eta) * size.sum(0) / real.sum(0)
