"""How rows of a ring are written and read: columns [T, N, ...] of T rows and N environments.

Everything that is done for each step of the environments or each batch goes through here, in the quickest way there is
(CPU time on one core, torch 2.13: LOG.md).
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

ROW = ("action", "reward", "terminal", "episode_end")  # the columns that every replay has, besides observations


class Indices(NamedTuple):
    """Steps of a replay, by absolute number row * N + env, of any shape [...]; the step after one is N further."""

    step: Tensor
    num_envs: int

    @classmethod
    def of(cls, row: Tensor, env: Tensor, num_envs: int) -> "Indices":
        """The steps in absolute rows of environments."""
        return cls(row * num_envs + env, num_envs)

    @property
    def row(self) -> Tensor:
        return self.step // self.num_envs

    @property
    def env(self) -> Tensor:
        return self.step % self.num_envs


class RowWriter:
    """Writes a row of several columns; on a CPU as numpy does it, in a fifth of the time.

    It holds the memory of the columns, so there must be a new one where one of them is replaced.
    """

    def __init__(self, *columns: Tensor):
        self.columns = [column.numpy() if column.is_cpu else column for column in columns]

    def __call__(self, at: int, *values: np.ndarray) -> None:
        """column[at] = value [N, ...], for each of them."""
        for column, value in zip(self.columns, values, strict=True):
            column[at] = value if isinstance(column, np.ndarray) else sent(torch.from_numpy(value), column.device)


def put(column: Tensor, places: np.ndarray, value: np.ndarray) -> None:
    """column[places] = value, where no place is there twice, and few are."""
    if column.is_cpu:
        host = column.numpy()
        for place, one in zip(places.tolist(), value, strict=True):
            host[place] = one
    else:
        column.index_copy_(0, *(sent(torch.from_numpy(given), column.device) for given in (places, value)))


def sent(value: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on a device. To a GPU it goes by way of pinned memory, and nobody waits for it."""
    if device.type != "cuda":
        return value.to(device)
    # Of torch's own allocator, which gives this memory to nobody else before the device has read it.
    pinned = torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
    return pinned.copy_(value).to(device, non_blocking=True)


def take(column: Tensor, place: Tensor) -> Tensor:
    """What is in a column at places row % T * N + env of any shape [...]: [..., *rest].

    One index for both dimensions takes a third of the time of two, and copies frames whole.
    """
    flat = column.flatten(0, 1)
    if place.dim() == 1:
        return flat.index_select(0, place)
    return flat.index_select(0, place.flatten()).unflatten(0, place.shape)
