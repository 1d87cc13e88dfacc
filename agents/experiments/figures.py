"""The figures of a comparison, each drawn from the CSV file beside it. Needs matplotlib (extra `plot`)."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = dict[str, str]
# Okabe and Ito's colours, which people tell apart who see fewer; more heads take them again, dashed.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#444444")
DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)))
STYLE: dict[Any, Any] = {
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "svg.hashsalt": "classyq",  # so that the same numbers make the same file
}
WIDTH = 9.0  # inches
FAR, TICKS = 4.0, (0, 0.25, 0.5, 1, 2, 5, 10, 20, 50, 100)  # human-normalised
LOWER_IS_BETTER = {"optimality gap": "optimality gap \N{DOWNWARDS ARROW}"}


def read_rows(path: Path) -> list[Row]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def numbers(rows: Sequence[Row], name: str) -> list[float]:
    return [float(row[name]) for row in rows]


def distinct(rows: Sequence[Row], name: str) -> list[str]:
    return list(dict.fromkeys(row[name] for row in rows))


def look(index: int) -> dict[str, Any]:
    """Colour and dashes of the head number `index`."""
    return {"color": COLORS[index % len(COLORS)], "linestyle": DASHES[index // len(COLORS) % len(DASHES)]}


def draw_band(axis: "Axes", rows: Sequence[Row], x: str, index: int, *, steps: bool = False) -> None:
    """A line, and around it the band of its interval where it has one."""
    how = {"drawstyle": "steps-post"} if steps else {}
    few = {"marker": "o", "markersize": 3} if len(rows) <= 12 else {}
    axis.plot(
        numbers(rows, x), numbers(rows, "value"), label=rows[0]["head"], linewidth=1.7, **few, **how, **look(index)
    )
    if rows[0]["low"]:
        low, high = numbers(rows, "low"), numbers(rows, "high")
        color = look(index)["color"]
        axis.fill_between(
            numbers(rows, x), low, high, color=color, alpha=0.15, linewidth=0, step="post" if steps else None
        )


def legend_above(figure: "Figure", axis: "Axes") -> None:
    """One legend for all panels."""
    handles, labels = axis.get_legend_handles_labels()
    lines = -(-len(labels) // 6)
    figure.legend(handles, labels, loc="outside upper center", ncols=-(-len(labels) // lines))


def draw_curves(rows: Sequence[Row]) -> "Figure":
    """A panel for each environment."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    envs, heads = distinct(rows, "env"), distinct(rows, "head")
    columns = min(len(envs), 2 if len(envs) in (2, 4) else 3)
    lines = -(-len(envs) // columns)
    size = (WIDTH if columns > 1 else 0.7 * WIDTH, 0.5 + (3.2 if columns < 3 else 2.4) * lines)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for axis, env in zip(axes, envs, strict=False):
        for index, head in enumerate(heads):
            draw_band(axis, [r for r in rows if (r["env"], r["head"]) == (env, head)], "step", index)
        seeds = sorted({int(r["seeds"]) for r in rows if r["env"] == env})
        counted = f"{seeds[0]} to {seeds[-1]} seeds" if len(seeds) > 1 else f"{seeds[0]} seed{'s' * (seeds[0] > 1)}"
        axis.set_title(f"{env}, {counted}", loc="left")
        axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    for axis in axes[len(envs) :]:
        axis.set_axis_off()
    legend_above(figure, axes[0])
    figure.supxlabel("environment steps", fontsize=9)
    figure.supylabel("greedy return, IQM of seeds", fontsize=9)
    return figure


def draw_profiles(rows: Sequence[Row], score: str) -> "Figure":
    """The share of runs above each score; higher is better."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    figure = Figure(figsize=(0.7 * WIDTH, 3.5), layout="constrained")
    axis = figure.subplots()
    for index, head in enumerate(distinct(rows, "head")):
        draw_band(axis, [r for r in rows if r["head"] == head], "score", index, steps=True)
    axis.set_ylim(-0.03, 1.03)
    if max(numbers(rows, "score")) > FAR and "human" in score:
        axis.set_xscale("symlog", linthresh=1.0)  # a few games have scores of many humans
        low, high = min(numbers(rows, "score")), max(numbers(rows, "score"))
        ticks = [tick for tick in TICKS if low <= tick <= high]
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.set_xlim(low, high)
    axis.yaxis.set_major_formatter(PercentFormatter(1.0))
    axis.set_xlabel(f"final score s ({score})")
    axis.set_ylabel("runs with a score above s")
    legend_above(figure, axis)
    return figure


def draw_intervals(axis: "Axes", rows: Sequence[Row], labels: Sequence[str], colors: Sequence[str]) -> None:
    """A line for each row from top to bottom: a bar over the interval, and a stroke at the value."""
    for place, (row, color) in enumerate(zip(rows, colors, strict=True)):
        value = float(row["value"])
        if row["low"]:
            low, high = float(row["low"]), float(row["high"])
            axis.barh(place, high - low, left=low, height=0.55, color=color, alpha=0.3, linewidth=0)
        axis.plot([value, value], [place - 0.275, place + 0.275], color=color, linewidth=2.2, solid_capstyle="butt")
    axis.set_yticks(range(len(labels)), labels)
    axis.set_ylim(len(labels) - 0.4, -0.6)
    axis.use_sticky_edges = False
    axis.margins(x=0.08)
    axis.grid(visible=False, axis="y")
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)


def draw_aggregates(rows: Sequence[Row], score: str) -> "Figure":
    """A panel for each statistic of the final score, and one for the IQM of the area under the curve."""
    from matplotlib.figure import Figure

    final = [r for r in rows if r["measure"] == "final"]
    panels = [(name, [r for r in final if r["statistic"] == name]) for name in distinct(final, "statistic")]
    panels.append(("IQM of the AUC", [r for r in rows if (r["measure"], r["statistic"]) == ("auc", "IQM")]))
    heads = distinct(rows, "head")
    figure = Figure(figsize=(WIDTH, 0.95 + 0.3 * len(heads)), layout="constrained")
    colors = [look(index)["color"] for index in range(len(heads))]
    for axis, (name, of_panel) in zip(figure.subplots(1, len(panels), sharey=True), panels, strict=True):
        draw_intervals(axis, of_panel, heads, colors)
        axis.set_title(LOWER_IS_BETTER.get(name, name), loc="left")
        axis.locator_params(axis="x", nbins=4)
    figure.supxlabel(score, fontsize=9)
    return figure


def draw_improvements(rows: Sequence[Row]) -> "Figure":
    """How likely every head beats the first one: a panel for the final score, one for the area under the curve."""
    from matplotlib.figure import Figure

    reference, heads = rows[0]["head"], distinct(rows, "head")
    figure = Figure(figsize=(WIDTH, 0.95 + 0.3 * (len(heads) - 1)), layout="constrained")
    colors = [look(index)["color"] for index in range(1, len(heads))]
    for axis, measure in zip(figure.subplots(1, 2, sharey=True), ("final", "auc"), strict=True):
        chosen = [r for r in rows if (r["measure"], r["than"]) == (measure, reference)]
        axis.axvline(0.5, color="#888888", linewidth=1, linestyle=(0, (4, 3)))
        draw_intervals(axis, chosen, [f"{r['head']} > {reference}" for r in chosen], colors)
        axis.set_xlim(-0.02, 1.02)
        axis.set_title({"final": "final score", "auc": "area under the curve"}[measure], loc="left")
    figure.supxlabel(f"probability that a run beats one of {reference}", fontsize=9)
    return figure


def save(figure: "Figure", path: Path) -> None:
    """As NAME.png and NAME.svg, without the date, so that the same numbers make the same files."""
    figure.savefig(path.with_suffix(".png"), dpi=150, metadata={"Software": None})
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})


def draw_all(folder: Path, score: str) -> list[str]:
    """Draw every CSV file of a report that has a figure; their names."""
    import matplotlib

    drawn = {"curves": draw_curves, "aggregates": lambda rows: draw_aggregates(rows, score)}
    drawn |= {"profiles": lambda rows: draw_profiles(rows, score), "improvements": draw_improvements}
    names = []
    with matplotlib.rc_context(STYLE):
        for name, draw in drawn.items():
            if rows := read_rows(folder / f"{name}.csv"):  # one head has no improvements
                save(draw(rows), folder / name)
                names.append(name)
    return names
