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

from agents.config import RunConfig
from agents.experiments.curves import TAG, plot_curves, read_curve
from agents.experiments.jobs import train_all
from agents.presets import flatten
from agents.tables import ConfigError, nearest
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
    threshold: float | None = None  # a run counts as solved where its best policy's return reaches this
    curve: str = TAG  # the metric that is plotted
    digits: int = 0  # after the point, of the scores of single runs
    note: str = ""  # what a reader should know beside it


LAST_20 = "charts/episodic_return_20"
ONE, FIVE, TWENTY = range(1, 2), range(1, 6), range(1, 21)

# The parts of the recipes with the short-budget settings of the preset `pong`; DQN and Rainbow share its rate for MSE.
PONG_DQN = {"head.name": "mse", "steps": 300_000}
PONG_RAINBOW = {
    "steps": 300_000,
    "head.name": "c51",
    "target_rule.name": "q_learning",
    "agent.lr": 1e-4,
    "agent.adam_eps": 1.5e-4,
    "replay.name": "prioritized",
    "replay.priority": "loss",
    "replay.exponent": 0.5,
    "replay.epsilon": 1e-10,
    "replay.importance_exponent": 0.5,
}
# A step of PQN costs 1.92 ms of CPU time and one of DQN 9.5 ms: as many steps as make the times equal.
PONG_PQN = {
    "steps": 1_440_000,
    "env.num_envs": 32,
    "head.name": "mse",
    "torso.layer_norm": True,
    "output_layer.layer_norm": True,
    "agent.name": "pqn",
    "agent.optimizer": "radam",
    "agent.lr": 2.5e-4,
    "agent.adam_eps": 1e-8,
    "agent.max_grad_norm": 20.0,
    "agent.rollout_steps": 32,
    "agent.num_epochs": 2,
    "agent.num_minibatches": 8,
    "agent.trace_decay": 0.65,
    "exploration.epsilon_steps": 144_000,
    "evaluation.every_steps": 240_000,
    "log.every_steps": 10_000,
}

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
    "pong": Study(
        "Does a DQN learn Pong with 400,000 decisions on one core?",
        "pong",
        [Arm("hl_gauss", {}, ONE), Arm("mse", {"head.name": "mse"}, ONE)],
        curve=LAST_20,
        digits=1,
        note="Random play scores -20.5 ± 0.1 with this protocol ([random.md](random.md), 30 games).",
    ),
    "pong_family": Study(
        "DQN, Rainbow and PQN on Pong, for the same CPU time",
        "pong",
        [Arm("rainbow", PONG_RAINBOW, ONE), Arm("pqn", PONG_PQN, ONE), Arm("dqn", PONG_DQN, ONE)],
        curve=LAST_20,
        digits=1,
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


def differing(name: str, root: Path) -> list[str]:
    """The settings, other than the head's and the seed, in which the runs of a study differ."""
    configs = [flatten(cell.config.plain()) for cell in cells(name, root)]
    keys = sorted({key for config in configs for key in config if not key.startswith("head.") and key != "seed"})
    return [key for key in keys if len({json.dumps(config.get(key)) for config in configs}) > 1]


def by_arm(study: Study, results: list[tuple[Cell, dict[str, Any]]]) -> dict[str, list[tuple[Cell, dict[str, Any]]]]:
    """Finished runs by the label of their arm, without the arms that have none."""
    arms = {arm.label: [(cell, summary) for cell, summary in results if cell.arm is arm] for arm in study.arms}
    return {label: of_arm for label, of_arm in arms.items() if of_arm}


def scores(study: Study, results: list[tuple[Cell, dict[str, Any]]]) -> list[str]:
    """A table of what each arm reached."""
    solved, rule = ("", "") if study.threshold is None else (" solved |", "---|")
    lines = [
        f"| head |{solved} mean best | mean last | mean last 20 | best of each seed | last of each seed |",
        f"|---|{rule}---|---|---|---|---|",
    ]
    for label, of_arm in by_arm(study, results).items():
        best, last = [s["best_return"] for _, s in of_arm], [s["last_return"] for _, s in of_arm]
        recent = [read_curve(cell.run_dir / "metrics.csv", LAST_20)[1][-1] for cell, _ in of_arm]
        means = " | ".join(f"{np.mean(x):.1f}" for x in (best, last, recent))
        each = " | ".join(" ".join(f"{x:.{study.digits}f}" for x in row) for row in (best, last))
        count = f" {sum(b >= study.threshold for b in best)} of {len(best)} |" if study.threshold is not None else ""
        lines.append(f"| {label} |{count} {means} | {each} |")
    return lines


def costs(study: Study, results: list[tuple[Cell, dict[str, Any]]]) -> list[str]:
    """A table of what each arm cost: medians over its runs, and for wall time the range."""
    lines = ["| head | wall seconds | CPU seconds | steps/s | frames/s | logging |", "|---|---|---|---|---|---|"]
    for label, of_arm in by_arm(study, results).items():
        wall, cpu, logging = (
            np.array([s[key] for _, s in of_arm]) for key in ("seconds", "cpu_seconds", "time_logging")
        )
        steps = np.array([s["step"] for _, s in of_arm])
        frames = [read_curve(cell.run_dir / "metrics.csv", "charts/frames")[1] for cell, _ in of_arm]
        per_second = f"{np.median([f[-1] for f in frames] / wall):.0f}" if all(frames) else "-"
        span = f"{np.median(wall):,.0f} ({wall.min():,.0f} to {wall.max():,.0f})"
        lines.append(
            f"| {label} | {span} | {np.median(cpu):,.0f} | {np.median(steps / wall):.0f} | {per_second} | "
            f"{logging.max():.1%} |"
        )
    return lines


def report(name: str, root: Path, command: str) -> str:
    """The page of a study, in Markdown, with every run that is finished, and how many are not."""
    study = STUDIES[name]
    results = [(cell, summary) for cell in cells(name, root) if (summary := cell.summary()) is not None]
    missing = len(cells(name, root)) - len(results)
    config, differ = RunConfig.preset(study.preset), differing(name, root)
    with_it = f", and with it {' and '.join(f'`{key}`' for key in differ)}" if differ else ""
    shared = f"only the head differs{with_it}"
    epsilon = config.evaluation.epsilon
    nearly = f", with epsilon {epsilon:g}" if epsilon else ""
    solved = "" if study.threshold is None else f"*solved* counts seeds whose best reaches {study.threshold:g}. "
    lines = [
        f"# {study.question}",
        "",
        f"Made by `{command}`. Preset `{study.preset}`, {config.steps:,} steps; {shared}.",
        f"*best* is the greedy mean return over {config.evaluation.final_episodes} episodes of the policy that "
        "evaluated best in training, on episodes that had no part in choosing it; *last* is that of the last policy "
        f"({config.evaluation.num_episodes} episodes{nearly}); *last 20* the mean of the last 20 episodes of training, "
        f"exploration and all. {solved}No seed was left out; how the configuration was found is in LOG.md.",
        "",
        f"![learning curves]({name}.png)",
        "",
        *([study.note, ""] if study.note else []),
        *scores(study, results),
        "",
        *costs(study, results),
        "",
        f"On {psutil.cpu_count()} shared cores ({platform.machine()}), {config.num_threads} thread a run, several runs "
        f"at once. torch {torch.__version__}, Python {platform.python_version()}.",
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
    plot_curves(finished_curves(name, root), out / f"{name}.png", STUDIES[name].curve)
    typer.echo(f"wrote {out / name}.md and {out / name}.png")


if __name__ == "__main__":
    typer.run(main)
