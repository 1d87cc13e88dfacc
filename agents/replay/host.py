"""Batches from the host's memory, by numpy: it takes a quarter of torch's time for each look-up.

B batch, n steps of a return, S frames of a stack.
"""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from agents.learning.batch import Batch

if TYPE_CHECKING:
    from agents.replay.uniform import UniformReplay


class HostReader:
    """`UniformReplay.gather` and `look_ahead` by numpy, for one batch."""

    def __init__(self, replay: "UniformReplay"):
        self.replay, self.store, self.size = replay, replay.observations, replay.num_rows * replay.num_envs
        self.action, self.reward, self.terminal, self.episode_end = (c.reshape(-1) for c in replay.write.columns)
        frames, age, final_slot = self.store.write_row.columns
        self.frames = frames.reshape(self.size, *self.store.frame_shape)
        self.age, self.final_slot = age.reshape(-1), final_slot.reshape(-1)

    def gather(self, step: np.ndarray) -> Batch:
        """The transitions that start at steps [B], by their absolute numbers."""
        replay, N = self.replay, self.replay.num_envs
        at = step % self.size
        reward, discount, last = self.look_ahead(step, at)
        at_last, after = last % self.size, (last + N) % self.size
        ended = self.episode_end.take(at_last).nonzero()[0]
        next_obs, next_action = self.read(last + N, after), self.action.take(after)
        if len(ended):
            next_obs[ended] = self.finals(last.take(ended), at_last.take(ended))
            next_action[ended] = -1
        obs, action, weight = self.read(step, at), self.action.take(at), np.ones(len(at), np.float32)
        fields = obs, action, reward, discount, next_obs, weight, next_action
        beside = ((replay.next_mask, at_last), (replay.mask, at), (replay.bootstrap_mask, at))
        masks = (None if column is None else by_numpy(column, places) for column, places in beside)
        return Batch(*map(torch.from_numpy, fields), *masks)

    def look_ahead(self, step: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As of the replay: reward and discount [B], float32, and the last of the steps."""
        replay = self.replay
        if len(replay.powers) == 2:
            return self.reward.take(at), np.float32(replay.powers[1]) * ~self.terminal.take(at), step
        at = (step[:, None] + replay.num_envs * np.arange(len(replay.powers) - 1)) % self.size  # [B, n]
        stops = self.terminal.take(at) | self.episode_end.take(at)
        taken = np.ones_like(stops)
        np.logical_not(np.logical_or.accumulate(stops[:, :-1], 1), out=taken[:, 1:])  # no stop before this step
        length = taken.sum(-1)
        reward = (self.reward.take(at) * taken * replay.powers[:-1]).sum(-1)  # in float64
        last = step + replay.num_envs * (length - 1)
        discount = replay.powers.take(length) * ~self.terminal.take(last % self.size)
        return reward.astype(np.float32), discount.astype(np.float32), last

    def read(self, step: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Observations at steps [B], which lie `at` these places: [B, *shape]."""
        store = self.store
        if store.stack == 1:
            return self.frames.take(at, 0)
        back, age = np.arange(store.stack - 1, -1, -1), self.age.take(at)[:, None]
        steps = step[:, None] - self.replay.num_envs * np.minimum(back, age)
        stacks = self.frames.take(steps % self.size, 0)
        if store.pad_zeros and (before := back > age).any():
            stacks[before] = 0
        return stacks

    def finals(self, step: np.ndarray, at: np.ndarray) -> np.ndarray:
        """The final observations that steps [B] led to."""
        final = self.store.finals.numpy().take(self.final_slot.take(at) % len(self.store.finals), 0)
        return np.concatenate([self.read(step, at)[:, 1:], final[:, None]], 1) if self.store.stack > 1 else final


def by_numpy(column: Tensor, places: np.ndarray) -> Tensor:
    """What is in a column [T, N, ...] at places [B]."""
    return torch.from_numpy(column.numpy().reshape(-1, *column.shape[2:]).take(places, 0))
