"""Seconds of the wall and of the CPU, and memory, of a process with its threads and the processes that it started."""

import resource
import sys
import time
from pathlib import Path
from typing import NamedTuple, Self

import psutil


class Seconds(NamedTuple):
    """Of the wall, and of the CPU in all threads and child processes."""

    wall: float
    cpu: float

    def __sub__(self, other: Self) -> Self:
        return type(self)(self.wall - other.wall, self.cpu - other.cpu)


def now() -> Seconds:
    """The clocks as they stand. It costs a millisecond, as all processes are looked through for our children."""
    return Seconds(time.perf_counter(), time.process_time() + cpu_of_children())


def cpu_of_children() -> float:
    """CPU seconds of child processes with theirs: of those that have ended and of those that run."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = ended.ru_utime + ended.ru_stime
    for child in psutil.Process().children(recursive=True):
        try:
            seconds += sum(child.cpu_times()[:4])  # user, system, and both of its own ended children
        except psutil.NoSuchProcess:
            continue
    return seconds


def peak_memory_gb() -> float:
    """The most memory that this process has had at once.

    On Linux not from `getrusage`, which begins with what the parent had when it started this process.
    """
    status = Path("/proc/self/status")
    for line in status.read_text(encoding="utf-8").splitlines() if status.is_file() else ():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e9
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
