"""Studies that are a command of their own, too: their question, and what answers it."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Other(NamedTuple):
    """`answer(jobs, root, out)` measures what is missing, with runs below `root`, and writes a page to `out`."""

    question: str
    answer: Callable[[int, Path, Path], None]


def width_and_head(jobs: int, root: Path, out: Path) -> None:
    """See agents.experiments.minatar_study."""
    from agents.experiments.minatar_study.training import answer

    answer(jobs, root, out)


def losses(jobs: int, root: Path, out: Path) -> None:
    """See agents.experiments.calibration, which uses one process and keeps no runs."""
    from agents.experiments.calibration import main

    main(out=out)


OTHERS = {
    "calibration": Other("Which classification losses learn the mean?", losses),
    "minatar": Other("Does HL-Gauss gain on MSE where networks are wider?", width_and_head),
}
