"""The figure of a study: every cell with its interval, a panel for each task. Needs matplotlib (extra `plot`)."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from agents.experiments.figures import STYLE, WIDTH, legend_above, look
from agents.experiments.studies.page import of_cell, tasks_of
from agents.experiments.studies.question import Question, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw(question: Question, rows: Sequence[Row], path: Path) -> None:
    """Conditions across, a line for each arm."""
    import matplotlib
    from matplotlib.figure import Figure

    tasks = tasks_of(rows)
    columns = min(len(tasks), 2)
    lines = -(-len(tasks) // columns)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.6 + 3.0 * lines), layout="constrained")
        axes = figure.subplots(lines, columns, squeeze=False).ravel()
        for axis, task in zip(axes, tasks, strict=False):
            conditions = list(dict.fromkeys(row.condition for row in rows if row.task == task))
            for number, arm in enumerate(question.arms):
                shift = 0.07 * (number - (len(question.arms) - 1) / 2)
                of_arm = [row for row in rows if (row.arm, row.task) == (arm, task)]
                draw_arm(axis, of_arm, conditions, question.gaps, number, shift, arm)
            axis.set_xticks(range(len(conditions)), conditions, rotation=30 if len(conditions) > 5 else 0)
            axis.set_title(task, loc="left")
        for axis in axes[len(tasks) :]:
            axis.set_axis_off()
        legend_above(figure, axes[0])
        figure.supylabel(question.unit, fontsize=9)
        figure.savefig(path, dpi=120, metadata={"Software": None})


def draw_arm(
    axis: "Axes", rows: Sequence[Row], conditions: list[str], gaps: list[str], number: int, shift: float, arm: str
) -> None:
    """Points with intervals, and between them a line that is broken after each of `gaps`."""
    color = look(number)["color"]
    estimates = {c: of_cell([row for row in rows if row.condition == c]) for c in conditions}
    places, values = [], []
    for place, condition in enumerate(conditions):
        estimate = estimates[condition]
        if estimate is None:
            continue
        x = place + shift
        places.append(x)
        values.append(float(estimate.value))
        if estimate.low is not None and estimate.high is not None:
            axis.plot([x, x], [float(estimate.low), float(estimate.high)], color=color, linewidth=1.2)
        if condition in gaps:
            places.append(x)
            values.append(np.nan)
    axis.plot(places, values, label=arm, marker="o", markersize=3.5, linewidth=1.3, **look(number))
