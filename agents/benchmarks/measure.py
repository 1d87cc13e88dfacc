"""Operations timed in turn, so that what else the machine does at the time disturbs all of them alike."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from agents.benchmarks import clock


class Sample(NamedTuple):
    """An operation made so many times without a break."""

    operations: int
    wall_seconds: float
    cpu_seconds: float


class Spread(NamedTuple):
    """Median and quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        median, low, high = np.quantile(values, [0.5, 0.25, 0.75])
        return cls(float(median), float(low), float(high))


def sample(operation: Callable[[], object], seconds: float) -> Sample:
    """Repeat an operation, once at least, until so many seconds of the wall have passed."""
    count, start = 0, clock.now()
    deadline = time.perf_counter() + seconds
    while count == 0 or time.perf_counter() < deadline:
        operation()
        count += 1
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    took = clock.now() - start
    return Sample(count, took.wall, took.cpu)


def interleaved(operations: dict[str, Callable[[], object]], seconds: float, rounds: int) -> dict[str, list[Sample]]:
    """`rounds` samples of each operation, `seconds` each in all: A B C A B C ..., after one round that is thrown away.

    Raises:
        ValueError: no time or no rounds.
    """
    if seconds <= 0 or rounds < 1:
        raise ValueError(f"wanted seconds > 0 and at least 1 round, got {seconds:g} and {rounds}")
    samples: dict[str, list[Sample]] = {name: [] for name in operations}
    for number in range(rounds + 1):
        for name, operation in operations.items():
            taken = sample(operation, seconds / rounds if number else 0.0)
            samples[name] += [taken] if number else []
    return samples
