"""Memory of a replay, computed and compared with what is free before anything is allocated.

What is computed first is the rows. The final observations of episodes come on top as they happen, one or two for each
episode in the ring, and are checked when their ring grows.
"""

import psutil
import torch


class ReplayTooLargeError(ValueError):
    """The replay does not fit; the message says what would."""


def free_bytes(device: torch.device) -> int:
    """Memory that a new allocation could use."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available


def check_fits(rows: int, num_envs: int, bytes_per_step: int, device: torch.device) -> None:
    """Raise ReplayTooLargeError unless rows of `num_envs` steps fit in 90 % of what is free."""
    capacity_steps = rows * num_envs
    wanted, usable = capacity_steps * bytes_per_step, int(0.9 * free_bytes(device))
    if wanted > usable:
        raise ReplayTooLargeError(
            f"a replay of {capacity_steps:,} steps needs {wanted / 1e9:.1f} GB ({bytes_per_step:,} bytes a step), "
            f"but {usable / 1e9:.1f} GB of {device} memory can be used; "
            f"what fits is --replay.capacity_steps {usable // (bytes_per_step * num_envs) * num_envs:_}"
        )
