"""Tensors that lie in a file: the kernel keeps in memory what is used, and may take back the rest.

Such a file is working memory and nothing else. It has no name, so that nobody finds it later, two runs with the same
directory cannot meet, and it is gone with the tensor or the process, however that ends. A checkpoint copies rows out
of it (`segment`): were the file itself the checkpoint, a run resumed from it would find rows of its own future.
"""

import mmap
import os
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from agents.replay.memory import ReplayTooLargeError


def usable_directory(map_dir: str, device: torch.device) -> Path:
    """The directory for files of a replay on `device`, made where it is missing.

    Raises:
        ValueError: where it cannot be written, or the device has memory of its own.
    """
    if device.type != "cpu":
        raise ValueError(f"replay.map_dir is for a replay on the cpu, got replay.device {device}")
    directory = Path(map_dir)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=directory).close()
    except OSError as error:
        raise ValueError(f"replay.map_dir {map_dir!r} cannot be used: {error.strerror}") from error
    return directory


def mapped_zeros(shape: tuple[int, ...], dtype: torch.dtype, directory: Path) -> Tensor:
    """Zeros in a new file without a name under `directory`, whose space is reserved.

    Raises:
        ReplayTooLargeError: where the disk filled up since its space was checked.
    """
    num_bytes = torch.Size(shape).numel() * dtype.itemsize
    with tempfile.TemporaryFile(dir=directory) as file:
        try:
            reserve(file.fileno(), num_bytes)
            memory = mmap.mmap(file.fileno(), num_bytes)
        except OSError as error:
            raise ReplayTooLargeError(
                f"{num_bytes / 1e9:.1f} GB cannot be reserved under {directory}: {error.strerror}"
            ) from error
    return torch.frombuffer(memory, dtype=dtype).view(shape)


def reserve(file: int, num_bytes: int) -> None:
    """Let a file have `num_bytes`, on disk where the system can say so: a hole met by a full disk kills the process."""
    if hasattr(os, "posix_fallocate"):  # macOS has none
        os.posix_fallocate(file, 0, num_bytes)
    else:
        os.ftruncate(file, num_bytes)
