"""Memory of a replay, computed and compared with what is free before anything is allocated.

What is computed first is the rows. The final observations of episodes come on top as they happen, one or two for each
episode in the ring, and are checked when their ring grows.
"""

import shutil
from pathlib import Path

import psutil
import torch


class ReplayTooLargeError(ValueError):
    """The replay does not fit; the message says what would."""


def free_bytes(place: torch.device | Path) -> int:
    """What a new allocation on a device, or a new file under a directory, could use."""
    if isinstance(place, Path):
        return shutil.disk_usage(place).free
    if place.type == "cuda":
        return torch.cuda.mem_get_info(place)[0]
    return psutil.virtual_memory().available


def check_fits(rows: int, num_envs: int, bytes_per_step: int, place: torch.device | Path) -> None:
    """Raise ReplayTooLargeError unless rows of `num_envs` steps fit in 90 % of what is free."""
    capacity_steps = rows * num_envs
    wanted, usable = capacity_steps * bytes_per_step, int(0.9 * free_bytes(place))
    if wanted > usable:
        kind = f"disk under {place}" if isinstance(place, Path) else f"{place} memory"
        raise ReplayTooLargeError(
            f"a replay of {capacity_steps:,} steps needs {wanted / 1e9:.1f} GB ({bytes_per_step:,} bytes a step), "
            f"but {usable / 1e9:.1f} GB of {kind} can be used; "
            f"what fits is --replay.capacity_steps {usable // (bytes_per_step * num_envs) * num_envs:_}"
        )
