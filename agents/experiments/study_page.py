"""The page of a study, in Markdown: what each arm reached and what it cost."""

import platform
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from agents.config import RunConfig
from agents.experiments.curves import read_curve
from agents.experiments.study import Cell, Study, data_dir, differing, make_cells
from agents.running import dataset
from agents.running.runs import read_summary

LAST_20 = "charts/episodic_return_20"


def by_arm(study: Study, results: list[tuple[Cell, dict[str, Any]]]) -> dict[str, list[tuple[Cell, dict[str, Any]]]]:
    """Finished runs by the label of their arm, without the arms that have none."""
    arms = {arm.label: [(cell, summary) for cell, summary in results if cell.arm is arm] for arm in study.arms}
    return {label: of_arm for label, of_arm in arms.items() if of_arm}


def scores(study: Study, results: list[tuple[Cell, dict[str, Any]]]) -> list[str]:
    """A table of what each arm reached."""
    recently = " mean last 20 |" if study.data is None else ""
    solved, rule = ("", "") if study.threshold is None else (" solved |", "---|")
    lines = [
        f"| {study.what} |{solved} mean best | mean last |{recently} best of each seed | last of each seed |",
        f"|---|{rule}---|---|{'---|' if recently else ''}---|---|",
    ]
    for label, of_arm in by_arm(study, results).items():
        best, last = [s["best_return"] for _, s in of_arm], [s["last_return"] for _, s in of_arm]
        recent = [read_curve(cell.run_dir / "metrics.csv", LAST_20)[1] for cell, _ in of_arm]
        rows = [best, last, [r[-1] for r in recent]] if recently else [best, last]
        means = " | ".join(f"{np.mean(x):.1f}" for x in rows)
        each = " | ".join(" ".join(f"{x:.{study.digits}f}" for x in row) for row in (best, last))
        count = f" {sum(b >= study.threshold for b in best)} of {len(best)} |" if study.threshold is not None else ""
        lines.append(f"| {label} |{count} {means} | {each} |")
    return lines


def costs(study: Study, results: list[tuple[Cell, dict[str, Any]]]) -> list[str]:
    """A table of what each arm cost: medians over its runs, and for wall time the range."""
    lines = [
        f"| {study.what} | wall seconds | CPU seconds | steps/s | frames/s | logging |",
        "|---|---|---|---|---|---|",
    ]
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


def described(study: Study, cells: list[Cell]) -> str:
    """What the arms have in common, and in what they differ."""
    if study.shared is not None:
        return study.shared
    differ = differing(cells)
    with_it = f", and with it {' and '.join(f'`{key}`' for key in differ)}" if differ else ""
    steps = RunConfig.preset(study.preset).steps
    return f"Preset `{study.preset}`, {steps:,} steps; only the {study.what} differs{with_it}."


def origin(name: str, study: Study, root: Path) -> list[str]:
    """What the data set of a study is."""
    if study.data is None:
        return []
    data = dataset.find(data_dir(name, root))
    about = data.description.about
    source = read_summary(root / study.data.run)
    best = "" if source is None else f" (greedy {source['best_return']:.1f})"
    return [
        f"Data: {data.steps:,} steps of the best policy{best} of a run of `{study.data.preset}`, with "
        f"{study.data.epsilon:.0%} random actions; {about['episodes']:,} whole episodes of mean return "
        f"{about['mean_return']:.2f}.",
        "",
    ]


def report(name: str, study: Study, root: Path, command: str) -> str:
    """The page of a study, in Markdown, with every run that is finished, and how many are not."""
    cells = make_cells(name, study, root)
    results = [(cell, summary) for cell in cells if (summary := cell.summary()) is not None]
    missing = len(cells) - len(results)
    evaluation = cells[0].config.evaluation
    nearly = f", with epsilon {evaluation.epsilon:g}" if evaluation.epsilon else ""
    solved = "" if study.threshold is None else f"*solved* counts seeds whose best reaches {study.threshold:g}. "
    played = "" if study.data else "; *last 20* the mean of the last 20 episodes of training, exploration and all"
    lines = [
        f"# {study.question}",
        "",
        f"Made by `{command}`. {described(study, cells)}",
        f"*best* is the greedy mean return over {evaluation.final_episodes} episodes of the policy that "
        "evaluated best in training, on episodes that had no part in choosing it; *last* is that of the last policy "
        f"({evaluation.num_episodes} episodes{nearly}){played}. {solved}No seed was left out; how the configuration "
        "was found is in LOG.md.",
        "",
        f"![learning curves]({name}.png)",
        "",
        *origin(name, study, root),
        *([study.note, ""] if study.note else []),
        *scores(study, results),
        "",
        *costs(study, results),
        "",
        f"On {psutil.cpu_count()} shared cores ({platform.machine()}), {cells[0].config.num_threads} thread a run, "
        f"several runs at once. torch {torch.__version__}, Python {platform.python_version()}.",
    ]
    if missing:
        lines += ["", f"**{missing} runs of this study are not finished; the same command goes on with them.**"]
    return "\n".join(lines) + "\n"
