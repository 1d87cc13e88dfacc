"""One seed for a run, and seeds of its own for every part, so that no two parts share a stream."""

import contextlib
import zlib
from collections.abc import Iterator

import numpy as np


def child_seed(seed: int, part: str) -> int:
    """The seed of `part` in a run with `seed`, in 0 .. 2**31 - 2."""
    words = np.random.SeedSequence([seed, zlib.crc32(part.encode())]).generate_state(1, np.uint64)
    return int(words[0]) % (2**31 - 1)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within it, weights are initialised from `seed`; torch's own generator is as it was after it."""
    import torch  # which takes a second, and not all who want a seed want that

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
