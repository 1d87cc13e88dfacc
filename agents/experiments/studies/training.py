"""Studies whose cells are training runs of an agent: from recorded data (`offline`) or played (`online`)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from agents.config import RunConfig
from agents.experiments.cohort_trainer import train_cohort
from agents.experiments.curves import TAG, read_curve
from agents.experiments.studies.question import Question, Row
from agents.networks.base import Torso
from agents.networks.qnetwork import EnvSpec
from agents.running import dataset
from agents.running.evaluation import load
from agents.running.record import record
from agents.running.trainer import Summary, train
from agents.seeding import child_seed
from agents.tables import Table

RETURNS = "charts/episodic_return_20"


class Training(Question):
    """An arm, a condition and a task are overrides of a preset, in this order; the cells are their combinations."""

    preset: str
    overrides: dict[str, Any] = {}
    conditions: dict[str, dict[str, Any]] = Field(min_length=1)
    tasks: dict[str, dict[str, Any]] = Field(min_length=1)
    last_share: float = Field(gt=0, le=1, description="of training, of which the value is the mean")

    def row_conditions(self) -> list[str]:
        return list(self.conditions)

    def row_tasks(self) -> list[str]:
        return list(self.tasks)

    def cells(self) -> list[str]:
        return [f"{arm} @ {c} @ {task}" for task in self.tasks for c in self.conditions for arm in self.arms]

    def configs(self, cell: str, more: Mapping[str, Any] | None = None) -> list[RunConfig]:
        """The runs of a cell, one for each seed."""
        arm, condition, task = cell.split(" @ ")
        changes = {**self.overrides, **self.tasks[task], **self.conditions[condition], **self.arms[arm], **(more or {})}
        return [RunConfig.preset(self.preset, {**changes, "seed": seed}) for seed in self.all_seeds()]

    def rows(self, cell: str, summaries: Sequence[Summary], tag: str) -> list[Row]:
        """A row of each run: the mean of what it logged as `tag` in the last share of its training.

        Raises:
            SystemExit: where one was asked to stop; the same command goes on with it.
        """
        arm, condition, task = cell.split(" @ ")
        rows = []
        for seed, summary in zip(self.all_seeds(), summaries, strict=True):
            if not summary.finished:
                raise SystemExit(summary.exit_code)
            at, values = (np.array(column) for column in read_curve(summary.run_dir / "metrics.csv", tag))
            late = values[at > (1 - self.last_share) * summary.step]
            rows.append(Row(arm, condition, task, seed, float(late.mean()), summary.cpu_seconds))
        return rows


class Recorded(Table):
    """The data set that is learned from: the best policy of a run plays, with a share of random actions."""

    preset: str
    overrides: dict[str, Any] = {}
    steps: int = Field(ge=1)
    epsilon: float = Field(ge=0, le=1)

    def make(self, folder: Path) -> Path:
        """`data` in a folder, which is made where it is missing."""
        path = folder / "data"
        if not path.exists():
            summary = train(RunConfig.preset(self.preset, self.overrides), folder / "source")
            if not summary.finished:
                raise SystemExit(summary.exit_code)
            record(folder / "source", path, steps=self.steps, epsilon=self.epsilon, seed=1)
        return path


class Offline(Training):
    """Agents of one data set; the value is the greedy return in evaluations, each on the same episodes."""

    unit: ClassVar = "greedy return, late in training"

    data: Recorded
    noise: dict[str, tuple[float, float]] = Field(
        default={}, description="by condition: rewards have U(low, high) added, drawn once"
    )

    def measure(self, cell: str, folder: Path) -> list[Row]:
        path, condition = self.data.make(folder.parent), cell.split(" @ ")[1]
        if condition in self.noise:
            path = with_noise(path, folder.parent / f"data {condition}", self.noise[condition])
        configs = self.configs(cell, {"agent.dataset": str(path)})
        return self.rows(cell, [train(config, folder / f"s{config.seed}") for config in configs], TAG)


class Online(Training):
    """Agents that play, all seeds of a cell as one cohort; the value is the return of the episodes of training."""

    unit: ClassVar = "return in training, late"

    def measure(self, cell: str, folder: Path) -> list[Row]:
        configs = self.configs(cell)
        return self.rows(cell, train_cohort(configs, [folder / f"s{config.seed}" for config in configs]), RETURNS)


def with_noise(path: Path, out: Path, limits: tuple[float, float]) -> Path:
    """A data set whose rewards have U(limits) on top; the noise belongs to the data, so that all seeds see the same."""
    if not out.exists():
        data = dataset.find(path)
        about = data.description
        arrays = data.arrays()
        rng = np.random.default_rng(child_seed(1, "reward noise"))
        reward = arrays["reward"] + rng.uniform(*limits, arrays["reward"].shape).astype(np.float32)
        spec = EnvSpec(about.obs_shape, about.obs_dtype, about.num_actions, about.has_action_mask)
        text = {**about.about, "reward_noise": list(limits)}
        arrays = {**arrays, "reward": reward}
        dataset.write_arrays(out, arrays, spec, text, stack=about.stack, padding=about.padding)
    return out


class Frozen(Torso):
    """The trained layers of a run, up to the last one and without their gradient: what is learned from is linear.

    Args:
        run: directory of a run with a linear output layer, whose best policy they are of.
    """

    def __init__(self, obs_shape: Sequence[int], *, run: str):
        super().__init__()
        network = load(run).network
        self.trained = [network]  # a list, so that these weights are not among those of the module
        with torch.no_grad():
            self.out_features = self(torch.zeros(1, *obs_shape)).shape[-1]

    def forward(self, obs: Tensor) -> Tensor:
        (network,) = self.trained
        with torch.no_grad():
            return torch.relu(network.head.output.project(network.torso(obs)))


class Probing(Online):
    """Linear probes: an arm is trained as in `Online`, then one linear layer on its frozen features, by MSE.

    The value is the return of the second training.
    """

    probe: dict[str, Any] = Field(default={}, description="overrides of the second training")

    def measure(self, cell: str, folder: Path) -> list[Row]:
        summaries = []
        for config in self.configs(cell):
            first = train(config, folder / f"s{config.seed}")
            if not first.finished:
                raise SystemExit(first.exit_code)
            frozen = {"torso": f"{Frozen.__module__}:{Frozen.__name__}", "torso.run": str(first.run_dir)}
            changes = {"head": "mse", "output_layer": "linear", "output_layer.hidden": 0, **frozen, **self.probe}
            summaries.append(train(config.with_overrides(changes), folder / f"s{config.seed} probe"))
        return self.rows(cell, summaries, RETURNS)
