"""A claim put to the test: cells that are measured, contrasts between them, and a verdict by a rule fixed beforehand.

A cell is an arm (what is compared, such as a head) under a condition. It has a value for every task (a world, a game)
and seed; a contrast is a weighted sum of cells whose weights add up to 0, so that it is 0 where nothing differs.

Dimensions: N seeds, M tasks.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
from pydantic import Field, model_validator

from agents.experiments.statistics import Estimate, bootstrap, mean
from agents.tables import ConfigError, Table, nearest

Verdict = Literal["agrees", "disagrees", "undecided"]
# Of a normal mean: an effect of 2.8 standard errors is found by 80 % of studies with an interval of 95 %, which is 3.92
# standard errors wide.
DETECTABLE = (1.960 + 0.842) / 3.920


class Row(NamedTuple):
    """One value that was measured, and the CPU time that went into it."""

    arm: str
    condition: str
    task: str
    seed: int
    value: float
    cpu_seconds: float

    @property
    def cell(self) -> str:
        return f"{self.arm} @ {self.condition}"


class Contrast(Table):
    """What is looked at: a weighted sum of cells, and what the claim expects of it."""

    says: str = Field(description="in words")
    weights: dict[str, float] = Field(min_length=2, description="of the cells `arm @ condition`; they add up to 0")
    tasks: list[str] = Field(default=[], description="of which it is the mean; of all where none is named")
    expects: Literal["more", "same"] = Field(default="more", description="more than 0, or nothing beyond the margin")
    margin: float | None = Field(default=None, gt=0, description="below this it counts as the same")

    @model_validator(mode="after")
    def consistent(self) -> Self:
        if abs(sum(self.weights.values())) > 1e-9:
            raise ValueError(f"weights must add up to 0, they add up to {sum(self.weights.values()):g}")
        if (self.expects == "same") != (self.margin is not None):
            raise ValueError("a margin is for expects = 'same', which needs one")
        return self

    def per_seed(self, rows: Sequence[Row]) -> np.ndarray:
        """The contrast within each seed and task, [N, M].

        Raises:
            ConfigError: a cell that was not measured in every task with every seed.
        """
        values = {(row.cell, row.task, row.seed): row.value for row in rows}
        seeds = sorted({row.seed for row in rows})
        tasks = self.tasks or list(dict.fromkeys(row.task for row in rows))
        try:
            cells = {cell: [[values[cell, task, seed] for task in tasks] for seed in seeds] for cell in self.weights}
        except KeyError as missing:
            raise ConfigError(f"a contrast names {missing.args[0]}, which was not measured") from None
        return np.sum([weight * np.array(cells[cell]) for cell, weight in self.weights.items()], axis=0)

    def estimate(self, rows: Sequence[Row]) -> Estimate:
        """Mean over seeds and tasks, with the 95 % interval of the bootstrap over seeds."""
        return bootstrap(self.per_seed(rows), mean)

    def verdict(self, estimate: Estimate) -> Verdict:
        """The rule.

        `more`: agrees where the whole interval lies above 0, disagrees where it lies below. `same`: agrees where it
        lies within the margin on both sides of 0, disagrees where it lies outside of that. Undecided otherwise.
        """
        if estimate.low is None or estimate.high is None:
            return "undecided"
        low, high, margin = float(estimate.low), float(estimate.high), self.margin
        if margin is None:
            return "agrees" if low > 0 else "disagrees" if high < 0 else "undecided"
        if -margin < low and high < margin:
            return "agrees"
        return "disagrees" if low > margin or high < -margin else "undecided"

    def rule(self) -> str:
        """The rule in words."""
        if self.expects == "more":
            return "agrees if the interval lies above 0, disagrees if below, else undecided"
        within = f"±{self.margin:g}"
        return f"agrees if the interval lies within {within}, disagrees if outside of that, else undecided"


def smallest_detectable(estimate: Estimate) -> float | None:
    """The effect that a study with this spread finds in 80 % of cases: 2.8 standard errors, read off the interval."""
    if estimate.low is None or estimate.high is None:
        return None
    return DETECTABLE * float(estimate.high - estimate.low)


class Question(Table):
    """Settings of a study, `configs/studies/NAME.toml`; a subclass for every kind says what its cells are."""

    TEXTS: ClassVar = {
        "question",
        "source",
        "claim",
        "ours",
        "primary",
        "secondary",
        "tiny",
        "budget",
        "tuning",
        "gaps",
    }
    unit: ClassVar[str]  # of a value

    kind: str = Field(description="which code measures it, see `agents.experiments.studies.paper.KINDS`")
    question: str
    source: str = Field(description="where the paper says so")
    claim: str = Field(description="what the paper says")
    ours: str = Field(description="what is done here, and in what it differs")
    tuning: str = Field(default="", description="how rates were chosen")
    budget: str = Field(description="what was planned for all cells")
    seeds: int = Field(ge=1)
    first_seed: int = Field(default=1, ge=0)
    arms: dict[str, dict[str, Any]] = Field(min_length=1)
    primary: Contrast
    secondary: dict[str, Contrast] = {}
    gaps: list[str] = Field(default=[], description="conditions after which lines in the figure are broken")
    tiny: dict[str, Any] = Field(default={}, description="settings of a run of seconds, which shows that it works")

    @model_validator(mode="after")
    def contrasts_of_what_is_measured(self) -> Self:
        cells = [f"{arm} @ {condition}" for arm in self.arms for condition in self.row_conditions()]
        for contrast in (self.primary, *self.secondary.values()):
            for given, known in ((contrast.weights, cells), (contrast.tasks, self.row_tasks())):
                if wrong := [name for name in given if name not in known]:
                    raise ValueError(f"a contrast names {wrong[0]!r}{nearest(wrong[0], known)}")
        return self

    def row_conditions(self) -> list[str]:
        """The conditions of its rows."""
        raise NotImplementedError

    def row_tasks(self) -> list[str]:
        """The tasks of its rows."""
        raise NotImplementedError

    def all_seeds(self) -> list[int]:
        return list(range(self.first_seed, self.first_seed + self.seeds))

    def measured_by(self) -> dict[str, Any]:
        """The settings on which measured values depend."""
        return self.model_dump(mode="json", exclude=self.TEXTS)

    def cells(self) -> list[str]:
        """Names of what is measured in one go, and not again."""
        raise NotImplementedError

    def measure(self, cell: str, folder: Path) -> list[Row]:
        """Measure one of `cells`; `folder` keeps what lasts, so that it goes on where it was stopped."""
        raise NotImplementedError


def merged(data: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Nested tables with those of `changes` in their place."""
    result = dict(data)
    for key, value in changes.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(value, Mapping) and isinstance(old, Mapping) else value
    return result


def write_rows(rows: Sequence[Row]) -> str:
    """Rows as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Row._fields)
    writer.writerows([*row[:4], f"{row.value:.6g}", f"{row.cpu_seconds:.4g}"] for row in rows)
    return text.getvalue()


def read_rows(path: Path) -> list[Row]:
    """What `write_rows` wrote."""
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Row(r["arm"], r["condition"], r["task"], int(r["seed"]), float(r["value"]), float(r["cpu_seconds"]))
            for r in csv.DictReader(file)
        ]
