"""What a run asks of the process that it runs in."""

import ctypes
import sys

import torch

# glibc's mallopt, by number (malloc.h): memory of up to 1 GiB is taken from the heap and stays there. Otherwise every
# large tensor is mapped and unmapped anew, page by page, with each update (LOG.md).
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
ALLOCATOR = {M_MMAP_THRESHOLD: 1 << 30, M_TRIM_THRESHOLD: 1 << 30, M_TOP_PAD: 64 << 20}


def prepare(num_threads: int) -> None:
    """Threads of torch, and an allocator that keeps what it has."""
    torch.set_num_threads(num_threads)
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        for option, value in ALLOCATOR.items():
            mallopt(option, value)
