"""Studies: many runs that answer one question, and the page in docs/results/ that reports all of them.

    python -m agents.experiments.studies cartpole --jobs 2

A run that is finished is not trained again, so a study that was interrupted goes on with the same command.
"""

import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import psutil
import torch
import typer

from agents.components import ConfigError, nearest
from agents.config import RunConfig
from agents.experiments.curves import plot_curves
from agents.experiments.jobs import train_all
from value_heads import HEADS


class Arm(NamedTuple):
    """One thing compared: a label, what it changes in the preset, and its seeds."""

    label: str
    overrides: Mapping[str, Any]
    seeds: range


class Study(NamedTuple):
    """A question, a preset that all arms share, and the arms."""

    question: str
    preset: str
    arms: list[Arm]
    threshold: float  # a run counts as solved where its best policy's return reaches this


FIVE, TWENTY = range(1, 6), range(1, 21)

STUDIES: dict[str, Study] = {
    "cartpole": Study(
        "Does every value head learn CartPole-v1 with one and the same configuration?",
        "cartpole",
        [
            Arm("hl_gauss", {}, TWENTY),
            *(Arm(name, {"head.name": name}, FIVE) for name in HEADS if name not in ("hl_gauss", "categorical")),
            Arm("hl_gauss, distribution", {"head.bootstrap": "distribution", "head.allow_biased": True}, FIVE),
            Arm("hl_gauss, ordinal_bce", {"head.loss": "ordinal_bce"}, FIVE),
        ],
        threshold=450.0,
    ),
}


class Cell(NamedTuple):
    """One run of a study."""

    arm: Arm
    seed: int
    config: RunConfig
    run_dir: Path

    def summary(self) -> dict[str, Any] | None:
        """How it ended, or None where it has not."""
        path = self.run_dir / "summary.json"
        summary = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
        return summary if summary and summary["finished"] else None


def cells(name: str, root: Path) -> list[Cell]:
    """All runs of a study; their directories are named by arm and seed, so that they are found again."""
    if name not in STUDIES:
        raise ConfigError(f"unknown study {name!r}{nearest(name, STUDIES)}")
    study = STUDIES[name]
    return [
        Cell(
            arm,
            seed,
            RunConfig.preset(study.preset, {**arm.overrides, "seed": seed}),
            root / f"study-{name}" / arm.label.replace(", ", "+") / f"s{seed}",
        )
        for arm in study.arms
        for seed in arm.seeds
    ]


def finished_curves(name: str, root: Path) -> dict[str, list[Path]]:
    """The metrics of every finished run, by arm."""
    curves: dict[str, list[Path]] = {}
    for cell in cells(name, root):
        if cell.summary() is not None:
            curves.setdefault(cell.arm.label, []).append(cell.run_dir / "metrics.csv")
    return curves


def report(name: str, root: Path, command: str) -> str:
    """The page of a study, in Markdown, with every run that is finished, and how many are not."""
    study, by_arm, missing = STUDIES[name], {}, 0
    for cell in cells(name, root):
        summary = cell.summary()
        missing += summary is None
        if summary is not None:
            by_arm.setdefault(cell.arm.label, []).append((cell.seed, summary))
    config = RunConfig.preset(study.preset)
    episodes = config.evaluation.final_episodes
    lines = [
        f"# {study.question}",
        "",
        f"Made by `{command}`. Preset `{study.preset}`, {config.steps:,} steps; only the head differs.",
        f"*best* is the greedy mean return over {episodes} episodes of the policy that evaluated best in training, on "
        "episodes that had no part in choosing it; *last* is that of the last policy "
        f"({config.evaluation.num_episodes} episodes). "
        f"*solved* counts seeds whose best reaches {study.threshold:g}. No seed was left out; how the configuration "
        "was found is in LOG.md.",
        "",
        f"![learning curves]({name}.png)",
        "",
        "| head | solved | mean best | mean last | best of each seed | last of each seed |",
        "|---|---|---|---|---|---|",
    ]
    for label, results in by_arm.items():
        best, last = [s["best_return"] for _, s in results], [s["last_return"] for _, s in results]
        solved = sum(b >= study.threshold for b in best)
        each = [" ".join(f"{x:.0f}" for x in row) for row in (best, last)]
        means = f"{np.mean(best):.1f} | {np.mean(last):.1f}"
        lines.append(f"| {label} | {solved} of {len(results)} | {means} | {each[0]} | {each[1]} |")
    seconds = [s["seconds"] for results in by_arm.values() for _, s in results]
    logging = [s["time_logging"] for results in by_arm.values() for _, s in results]
    lines += [
        "",
        f"{len(seconds)} runs, median {np.median(seconds):.0f} s each ({min(seconds):.0f} to {max(seconds):.0f}), on "
        f"{psutil.cpu_count()} shared cores ({platform.machine()}); logging took at most {max(logging):.1%} of a run. "
        f"torch {torch.__version__}, Python {platform.python_version()}.",
    ]
    if missing:
        lines += ["", f"**{missing} runs of this study are not finished; the same command goes on with them.**"]
    return "\n".join(lines) + "\n"


def main(
    name: Annotated[str, typer.Argument(help=f"one of {', '.join(STUDIES)}")],
    jobs: Annotated[int, typer.Option(min=1, help="runs at once")] = 2,
    root: Annotated[Path, typer.Option(help="where runs are")] = Path("runs"),
    out: Annotated[Path, typer.Option(help="where the page goes")] = Path("docs/results"),
) -> None:
    """Train what is missing of a study, and write its page."""
    todo = [cell for cell in cells(name, root) if cell.summary() is None]
    if todo and train_all([c.config for c in todo], [c.run_dir for c in todo], jobs):
        raise SystemExit("some runs failed: see their log.txt; the same command tries them again")
    out.mkdir(parents=True, exist_ok=True)
    command = f"python -m agents.experiments.studies {name} --jobs {jobs}"
    (out / f"{name}.md").write_text(report(name, root, command), encoding="utf-8")
    plot_curves(finished_curves(name, root), out / f"{name}.png")
    typer.echo(f"wrote {out / name}.md and {out / name}.png")


if __name__ == "__main__":
    typer.run(main)
