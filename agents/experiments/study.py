"""What a study is: arms that are compared, each with its seeds, and the runs that they are."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from agents.config import RunConfig
from agents.experiments.curves import TAG
from agents.presets import flatten
from agents.running.runs import read_summary


class Arm(NamedTuple):
    """One thing compared: a label, what it changes in the preset, its seeds, and a preset of its own if it has one."""

    label: str
    overrides: Mapping[str, Any]
    seeds: range
    preset: str | None = None


class Recorded(NamedTuple):
    """The data set that all arms learn from: the best policy of a run plays, with some random actions.

    The run is the preset's with overrides, in a directory below the root; it is trained where it is not finished.
    """

    preset: str
    overrides: Mapping[str, Any]
    run: str
    steps: int
    epsilon: float

    def config(self) -> RunConfig:
        return RunConfig.preset(self.preset, self.overrides)


class Study(NamedTuple):
    """A question, a preset, the arms, and how it is reported."""

    question: str
    preset: str
    arms: list[Arm]
    threshold: float | None = None  # a run counts as solved where its best policy's return reaches this
    curve: str = TAG  # the metric that is plotted
    digits: int = 0  # after the point, of the scores of single runs
    what: str = "head"  # an arm is one
    shared: str | None = None  # what the arms have in common, in words; None says what of the preset differs
    note: str = ""  # what a reader should know beside it
    data: Recorded | None = None


class Cell(NamedTuple):
    """One run of a study."""

    arm: Arm
    seed: int
    config: RunConfig
    run_dir: Path

    def summary(self) -> dict[str, Any] | None:
        """How it ended, or None where it has not."""
        return read_summary(self.run_dir)


def study_dir(name: str, root: Path) -> Path:
    return root / f"study-{name}"


def data_dir(name: str, root: Path) -> Path:
    """Where the data set of a study is."""
    return study_dir(name, root) / "data"


def make_cells(name: str, study: Study, root: Path) -> list[Cell]:
    """All runs of a study; their directories are named by arm and seed, so that they are found again."""
    data = {} if study.data is None else {"agent.dataset": str(data_dir(name, root))}
    return [
        Cell(
            arm,
            seed,
            RunConfig.preset(arm.preset or study.preset, {**arm.overrides, **data, "seed": seed}),
            study_dir(name, root) / arm.label.replace(", ", "+") / f"s{seed}",
        )
        for arm in study.arms
        for seed in arm.seeds
    ]


def finished_curves(cells: list[Cell]) -> dict[str, list[Path]]:
    """The metrics of every finished run, by arm."""
    curves: dict[str, list[Path]] = {}
    for cell in cells:
        if cell.summary() is not None:
            curves.setdefault(cell.arm.label, []).append(cell.run_dir / "metrics.csv")
    return curves


def differing(cells: list[Cell]) -> list[str]:
    """The settings, other than the head's and the seed, in which the runs of a study differ."""
    configs = [flatten(cell.config.plain()) for cell in cells]
    keys = sorted({key for config in configs for key in config if not key.startswith("head.") and key != "seed"})
    return [key for key in keys if len({json.dumps(config.get(key)) for config in configs}) > 1]
