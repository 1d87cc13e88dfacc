"""What a person sees of a run: a live panel in a terminal, plain lines elsewhere."""

from collections.abc import Mapping
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

SHOWN = {
    "charts/SPS": ("SPS", "{:.0f}"),
    "charts/episodic_return": ("return", "{:.1f}"),
    "losses/td_loss": ("loss", "{:.3g}"),
    "value/frac_target_clipped": ("clipped", "{:.1%}"),
}


class Reporter(Protocol):
    """Where a run tells what happens."""

    def say(self, line: str) -> None: ...
    def progress(self, step: int, scalars: Mapping[str, float]) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *exc_info: object) -> None: ...


def summary_of(scalars: Mapping[str, float]) -> str:
    """The few metrics a person follows, in a line."""
    shown = ((label, form.format(scalars[tag])) for tag, (label, form) in SHOWN.items() if tag in scalars)
    return "  ".join(f"{label} {value}" for label, value in shown)


class LivePanel:
    """A progress bar with ETA and the latest metrics."""

    def __init__(self, steps: int, console: Console):
        self.bar = Progress(
            TextColumn("{task.completed:,.0f}/{task.total:,.0f} steps"),
            BarColumn(),
            TextColumn("{task.percentage:.0f}%  eta"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[metrics]}"),
            console=console,
            transient=True,
        )
        self.task = self.bar.add_task("train", total=steps, metrics="")

    def say(self, line: str) -> None:
        self.bar.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def progress(self, step: int, scalars: Mapping[str, float]) -> None:
        self.bar.update(self.task, completed=step, metrics=summary_of(scalars))

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.bar.stop()


class PlainLines:
    """A line for about every tenth of the run."""

    def __init__(self, steps: int):
        self.steps, self.tenths = steps, 0

    def say(self, line: str) -> None:
        print(line, flush=True)

    def progress(self, step: int, scalars: Mapping[str, float]) -> None:
        if 10 * step // self.steps > self.tenths:
            self.tenths = 10 * step // self.steps
            self.say(f"{step:>11,} / {self.steps:,} steps  {summary_of(scalars)}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None: ...


class Silent(PlainLines):
    """Nothing, for use from Python."""

    def say(self, line: str) -> None: ...


def reporter_for(steps: int) -> Reporter:
    """A panel where standard output is a terminal, lines where it is not."""
    console = Console()
    return LivePanel(steps, console) if console.is_terminal else PlainLines(steps)
