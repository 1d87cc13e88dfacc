"""How rows of a ring are written and read: columns [T, N, ...] of T rows and N environments, B places.

Everything that is done for each step of the environments or each batch goes through here, in the quickest way there is
(CPU time on one core, torch 2.13: LOG.md).
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Indices(NamedTuple):
    """Where the transitions of a batch start: absolute rows and environments, both [B]."""

    row: Tensor
    env: Tensor


def write_row(column: Tensor, at: int, value: np.ndarray) -> None:
    """column[at] = value [N, ...]; on a CPU as numpy does it, in a third of the time."""
    if column.device.type == "cpu":
        column.numpy()[at] = value
    else:
        column[at] = torch.from_numpy(value)


def take(column: Tensor, place: Tensor) -> Tensor:
    """What is in a column at places row % T * N + env of any shape [...]: [..., *rest].

    One index for both dimensions takes a third of the time of two, and copies frames whole.
    """
    return column.flatten(0, 1).index_select(0, place.flatten()).unflatten(0, place.shape)
