"""Learning curves from metrics.csv files. Needs matplotlib (extra `plot`)."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

TAG = "eval/episodic_return"
LABELS = {TAG: "greedy return", "charts/episodic_return_20": "return, last 20 episodes"}


def read_curve(path: Path, tag: str = TAG) -> tuple[list[int], list[float]]:
    """(steps, values) of one tag."""
    with path.open(newline="", encoding="utf-8") as file:
        points = [(int(row["step"]), float(row[tag])) for row in csv.DictReader(file) if row.get(tag)]
    return [s for s, _ in points], [v for _, v in points]


def plot_curves(runs: Mapping[str, Sequence[Path]], out: Path, tag: str = TAG) -> None:
    """A panel for each label: the curve of every seed thin, their mean thick, at the steps of the first."""
    from matplotlib.figure import Figure

    columns = min(4, len(runs))
    rows = -(-len(runs) // columns)
    figure = Figure(figsize=(12.4, 8.8 * rows / columns), layout="constrained")
    all_curves = {label: [read_curve(path, tag) for path in paths] for label, paths in runs.items()}
    ends = [curve[0][-1] for curves in all_curves.values() for curve in curves if curve[0]]
    alike = max(ends) < 2 * min(ends)  # arms of other lengths have axes of their own
    axes = np.atleast_1d(figure.subplots(rows, columns, sharex=alike, sharey=True)).ravel()
    for axis, (label, curves) in zip(axes, all_curves.items(), strict=False):
        for steps, values in curves:
            axis.plot(steps, values, color="tab:blue", alpha=0.3, linewidth=0.8)
        common = curves[0][0]
        mean = np.mean([np.interp(common, steps, values) for steps, values in curves], axis=0)
        axis.plot(common, mean, color="tab:blue", linewidth=2)
        axis.set_title(f"{label} ({len(curves)} seed{'s' if len(curves) > 1 else ''})", fontsize=9)
        axis.grid(alpha=0.3)
    for axis in axes[len(runs) :]:
        axis.set_axis_off()
    figure.supxlabel("environment steps", fontsize=9)
    figure.supylabel(LABELS.get(tag, tag), fontsize=9)
    figure.savefig(out, dpi=90)
