"""Batches of small transitions in the host's memory, by numpy: it takes a quarter of torch's time for each look-up.

B batch.
"""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from agents.learning.batch import Batch

if TYPE_CHECKING:
    from agents.replay.uniform import UniformReplay


def is_simple(replay: "UniformReplay") -> bool:
    """Whether its batches can be had from `gather_simple`: one step, on a CPU, whole observations, and no more."""
    return (
        replay.observations.may_look
        and len(replay.steps_ahead) == 1
        and replay.observations.stack == 1
        and not replay.future_steps
        and replay.mask is None
        and replay.bootstrap_mask is None
    )


def gather_simple(replay: "UniformReplay", step: Tensor) -> Batch:
    """As `UniformReplay.gather` at steps [B], where that `is_simple`."""
    store, size = replay.observations, replay.num_rows * replay.num_envs
    steps = step.numpy()
    at, after = steps % size, (steps + replay.num_envs) % size
    action, frames = flat(replay.action), flat(store.frames)
    obs, next_obs, next_action = frames.take(at, 0), frames.take(after, 0), action.take(after)
    ended = flat(replay.episode_end).take(at).nonzero()[0]
    if len(ended):
        slots = flat(store.final_slot).take(at.take(ended))
        next_obs[ended] = store.finals.numpy().take(slots % len(store.finals), 0)
        next_action[ended] = -1
    discount = np.full(len(at), replay.gamma, np.float32)
    discount[flat(replay.terminal).take(at)] = 0.0
    fields = obs, action.take(at), flat(replay.reward).take(at), discount, next_obs, np.ones_like(discount), next_action
    return Batch(*map(torch.from_numpy, fields))


def flat(column: Tensor) -> np.ndarray:
    """A column [T, N, ...] as [T * N, ...], without a copy where it lies in one piece."""
    return column.numpy().reshape(-1, *column.shape[2:])
