"""Target rules: what the prediction is trained towards. No rule mentions a head.

A rule maps (online network, target network, batch, draws) to Atoms [B, K]. The draws are those of the target's
prediction; those under "choice" are noise for the online network where it chooses the action.
"""

from collections.abc import Callable

import torch

from agents.learning.batch import Batch
from agents.networks.qnetwork import QNetwork, greedy
from value_heads import ActionValues, Atoms, Draws
from value_heads.base import of_part

TargetRule = Callable[[QNetwork, QNetwork, Batch, Draws | None], Atoms]


def backup(next_values: ActionValues, action: torch.Tensor, batch: Batch) -> Atoms:
    """r + discount * Z(next_obs, action)."""
    return next_values.select(action).atoms().backup(batch.reward, batch.discount)


def q_learning(online: QNetwork, target: QNetwork, batch: Batch, draws: Draws | None) -> Atoms:
    """r + discount * Z_target(s', argmax_a Q_target(s', a)). Source: Watkins 1989; Mnih et al. 2015."""
    next_values = target(batch.next_obs, draws)
    return backup(next_values, greedy(next_values.mean(), batch.next_mask), batch)


def double_q_learning(online: QNetwork, target: QNetwork, batch: Batch, draws: Draws | None) -> Atoms:
    """r + discount * Z_target(s', argmax_a Q_online(s', a)). Source: van Hasselt et al. 2016."""
    action = greedy(online(batch.next_obs, of_part("choice", draws)).mean(), batch.next_mask)
    return backup(target(batch.next_obs, draws), action, batch)


def sarsa(online: QNetwork, target: QNetwork, batch: Batch, draws: Draws | None) -> Atoms:
    """r + discount * Z_target(s', a') with the a' that was taken; greedy where the episode was cut off before it.

    Source: Rummery & Niranjan 1994. From replay it evaluates the average behaviour over the buffer.
    """
    if batch.next_action is None:
        raise ValueError("target rule 'sarsa' needs batches with next_action")
    next_values = target(batch.next_obs, draws)
    best = greedy(next_values.mean(), batch.next_mask)
    return backup(next_values, torch.where(batch.next_action < 0, best, batch.next_action), batch)


TARGET_RULES: dict[str, TargetRule] = {
    "q_learning": q_learning,
    "double_q_learning": double_q_learning,
    "sarsa": sarsa,
}
