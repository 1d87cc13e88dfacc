"""How far many runs have come together, and about how long the rest will take."""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from agents.experiments.study import Cell


class Board:
    """The cells of a comparison; in a terminal a bar under the lines that are said.

    The time left is that since the board was made times the steps that are missing over those made since: runs are
    started seed by seed, so that what they cost on average is soon known.

    Args:
        cells: all of them, finished or not.
        console: where lines are said.
    """

    def __init__(self, cells: Sequence[Cell], console: Console):
        self.cells, self.console = cells, console
        self.total = sum(cell.config.steps for cell in cells)
        self.start, self.made_before = time.perf_counter(), self.made()

    def made(self) -> int:
        """Steps that all cells have made."""
        return sum(min(reached(cell.run_dir), cell.config.steps) for cell in self.cells)

    def line(self) -> str:
        """`3 of 8 runs, 41% of all steps, about 2 min left`."""
        finished, made = sum(cell.summary() is not None for cell in self.cells), self.made()
        seconds, since = time.perf_counter() - self.start, made - self.made_before
        left = (
            f", about {duration(seconds * (self.total - made) / since)} left" if since > 0 and made < self.total else ""
        )
        return f"{finished} of {len(self.cells)} runs, {made / self.total:.0%} of all steps{left}"

    def say(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def __rich__(self) -> Table:
        grid = Table.grid(padding=(0, 1))
        grid.add_row(ProgressBar(total=self.total, completed=self.made(), width=40), self.line())
        return grid

    def shown(self) -> AbstractContextManager:
        """While entered, the bar is drawn anew every second, where standard output is a terminal."""
        if not self.console.is_terminal:
            return nullcontext()
        return Live(self, console=self.console, refresh_per_second=1, transient=True)


def reached(run_dir: Path) -> int:
    """The last step in the metrics of a run."""
    path = run_dir / "metrics.csv"
    if not path.is_file():
        return 0
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4_096))
        lines = file.read().splitlines()
    steps = [int(step) for line in lines[1:] if (step := line.split(b",")[0]).isdigit()]
    return max(steps, default=0)


def duration(seconds: float) -> str:
    """In the largest unit that leaves a whole number: 40 s, 12 min, 3.5 h, 2.0 days."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"
