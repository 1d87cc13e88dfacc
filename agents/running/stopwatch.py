"""Where the time of a run goes."""

import time
from collections.abc import Callable
from types import TracebackType


class Stopwatch:
    """Seconds spent in each named part, of the wall or of another clock."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self.seconds: dict[str, float] = {}
        self.laps: dict[str, Lap] = {}

    def __call__(self, part: str) -> "Lap":
        """To be entered and left before the same part is again."""
        return self.laps.get(part) or self.laps.setdefault(part, Lap(self, part))

    def shares(self) -> dict[str, float]:
        """Fraction of the measured time that each part took."""
        total = sum(self.seconds.values())
        return {part: seconds / total for part, seconds in self.seconds.items()} if total else {}


class Lap:
    """Stretches of a part, entered and left: a class, as a generator with `contextmanager` takes 2 us longer."""

    __slots__ = ("part", "start", "stopwatch")

    def __init__(self, stopwatch: Stopwatch, part: str):
        self.stopwatch, self.part = stopwatch, part

    def __enter__(self) -> None:
        self.start = self.stopwatch.clock()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        seconds = self.stopwatch.seconds
        seconds[self.part] = seconds.get(self.part, 0.0) + self.stopwatch.clock() - self.start
