"""What is kept of finished runs: docs/results/cells/minatar-*.csv, a row for each, small enough to be committed."""

import csv
import importlib.metadata
import io
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from agents.experiments.curves import read_curve
from agents.experiments.minatar_study.design import LOG_STEPS, SWEEP, Group
from agents.experiments.statistics import area_under_curve
from agents.running.metrics import write_whole
from agents.running.trainer import Summary
from agents.tables import ConfigError

RETURN, CLIPPED = "charts/episodic_return", "value/frac_target_clipped"


class Result(NamedTuple):
    """One finished run."""

    seed: int
    lr: float
    digest: str  # of its settings
    auc: float  # of the curve
    final: float  # greedy mean return of the last policy over new episodes
    clipped: float | None  # mean share of targets outside of the support; None for a head without one
    cpu_seconds: float
    version: str
    curve: list[float]  # mean return of the episodes of training that ended in each LOG_STEPS steps

    @classmethod
    def of(cls, group: Group, rate: float, seed: int, summary: Summary) -> "Result":
        metrics = summary.run_dir / "metrics.csv"
        steps, curve = read_curve(metrics, RETURN)
        clipped = read_curve(metrics, CLIPPED)[1]
        assert summary.best_return is not None  # it is finished
        return cls(
            seed=seed,
            lr=rate,
            digest=group.digest(rate),
            auc=float(area_under_curve(np.array(steps), np.array(curve))),
            final=summary.best_return,
            clipped=float(np.mean(clipped)) if clipped else None,
            cpu_seconds=summary.cpu_seconds,
            version=f"classyq {importlib.metadata.version('classyq')}, torch {importlib.metadata.version('torch')}",
            curve=curve,
        )

    def row(self) -> dict[str, Any]:
        """As text."""
        numbers = {"auc": self.auc, "final": self.final, "clipped": self.clipped}
        texts = {name: "" if value is None else f"{value:.6g}" for name, value in numbers.items()}
        curve = " ".join(f"{value:.4g}" for value in self.curve)
        return {
            **self._asdict(),
            **texts,
            "lr": f"{self.lr:g}",
            "cpu_seconds": f"{self.cpu_seconds:.1f}",
            "curve": curve,
        }

    @classmethod
    def parse(cls, row: dict[str, str]) -> "Result":
        """From what `row` gave."""
        return cls(
            seed=int(row["seed"]),
            lr=float(row["lr"]),
            digest=row["digest"],
            auc=float(row["auc"]),
            final=float(row["final"]),
            clipped=float(row["clipped"]) if row["clipped"] else None,
            cpu_seconds=float(row["cpu_seconds"]),
            version=row["version"],
            curve=[float(value) for value in row["curve"].split()],
        )


def cell_path(group: Group, out: Path) -> Path:
    return out / "cells" / f"{group.name}.csv"


def save(group: Group, out: Path, results: list[Result]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, Result._fields, lineterminator="\n")
    writer.writeheader()
    writer.writerows(result.row() for result in results)
    path = cell_path(group, out)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text.getvalue())


def load(group: Group, out: Path) -> list[Result] | None:
    """The results of a group; None where they are not there.

    Raises:
        ConfigError: they are of other runs than those of the group.
    """
    path = cell_path(group, out)
    if not path.is_file():
        return None
    with path.open(newline="", encoding="utf-8") as file:
        results = [Result.parse(row) for row in csv.DictReader(file)]
    planned = [(seed, f"{rate:g}", group.digest(rate)) for rate, seed in group.runs(chosen_rate(group, out))]
    found = [(result.seed, f"{result.lr:g}", result.digest) for result in results]
    if found != planned:
        wrong = next(
            (pair for pair in zip(found, planned, strict=False) if pair[0] != pair[1]), (len(found), len(planned))
        )
        raise ConfigError(
            f"{path} is of other runs: it has {wrong[0]} where the study has {wrong[1]} (seed, rate, digest of the "
            "settings); take it away to train them anew"
        )
    return results


def load_or_none(group: Group, out: Path) -> list[Result] | None:
    """The results of a group, where it and its sweep have them."""
    return load(group, out) if cell_path(group.sweep, out).is_file() else None


def chosen_rate(group: Group, out: Path) -> float | None:
    """The rate of the reported runs: of those tried, that with the largest mean area; None for a sweep.

    Raises:
        ConfigError: the sweep is not there.
    """
    if group.stage == SWEEP:
        return None
    tried = load(group.sweep, out)
    if tried is None:
        raise ConfigError(f"{cell_path(group.sweep, out)} is missing, which finds the rate of {group.name}")
    rates = list(dict.fromkeys(result.lr for result in tried))
    return max(rates, key=lambda rate: np.mean([result.auc for result in tried if result.lr == rate]))


def steps_of(curve: list[float]) -> list[int]:
    return [LOG_STEPS * (index + 1) for index in range(len(curve))]
