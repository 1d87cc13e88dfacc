"""One seed for a run, and seeds of its own for every part, so that no two parts share a stream."""

import zlib

import numpy as np


def child_seed(seed: int, part: str) -> int:
    """The seed of `part` in a run with `seed`, in 0 .. 2**31 - 2."""
    words = np.random.SeedSequence([seed, zlib.crc32(part.encode())]).generate_state(1, np.uint64)
    return int(words[0]) % (2**31 - 1)
