"""docs/results/minatar.md, from the cells that are there. What it says of the result is computed from them."""

import platform
from pathlib import Path

import numpy as np

from agents.experiments import statistics
from agents.experiments.minatar_study import design
from agents.experiments.minatar_study.cells import steps_of
from agents.experiments.minatar_study.design import COMPARED, GAMES, REPORTED, SWEEP, WIDTHS, Group, all_groups
from agents.experiments.minatar_study.results import Stored, improvement, includes, interaction, stored
from agents.experiments.page import Block, Grid, Heading, Picture, Text, markdown
from agents.experiments.statistics import Estimate, bootstrap

NAME = "minatar"
MEASURES = {"auc": "area under the curve", "final": "final score"}
FIRST, SECOND = COMPARED


def shown(estimate: Estimate | None, digits: int = 2) -> str:
    """A value with its interval; a dash where there is none."""
    if estimate is None:
        return "-"
    text = f"{float(estimate.value):.{digits}f}"
    if estimate.low is None or estimate.high is None:
        return text
    return f"{text} [{float(estimate.low):.{digits}f}, {float(estimate.high):.{digits}f}]"


def verdict(cells: Stored) -> str:
    """The first line of the page: the primary measure."""
    what = f"P({FIRST} > {SECOND}) on the area under the curve in the wide network"
    estimate = improvement(cells, "wide", "auc")
    if estimate is None:
        missing = [group.name for group in primary_groups() if group not in cells]
        return f"**No answer yet**: {what} needs {', '.join(missing)}."
    found = "includes 0.5" if includes(estimate, 0.5) else "does not include 0.5"
    return f"**The interval of the primary measure {found}**: {what} is {shown(estimate)}."


def primary_groups() -> list[Group]:
    return [Group(REPORTED, game, "wide", head) for game in GAMES for head in COMPARED]


def second_line(cells: Stored) -> str:
    """The interaction of width and head."""
    found = interaction(cells, "auc")
    what = f"the gain of {FIRST} over {SECOND} in the wide network, minus that in the small one"
    if found is None:
        return f"Secondary: {what}: not all cells are there yet."
    zero = "includes 0" if includes(found.difference, 0.0) else "does not include 0"
    gains = ", ".join(f"{width} {shown(gain)}" for width, gain in found.gains.items())
    return (
        f"Secondary: {what}, is {shown(found.difference)}; the interval {zero}. Gains: {gains} (differences of the IQM "
        f"over seeds and games of the area under the curve, where 1 is the mean of {SECOND} in the small network)."
    )


def probabilities(cells: Stored) -> Grid:
    """By width and measure, over all games and in each."""
    rows = []
    for width in WIDTHS:
        for measure, words in MEASURES.items():
            each = [shown(improvement(cells, width, measure, (game,))) for game in GAMES]
            rows.append([f"{width}, {words}", shown(improvement(cells, width, measure)), *each])
    return Grid([f"P({FIRST} > {SECOND})", "all games", *GAMES], rows)


def reported(cells: Stored) -> Grid:
    """What each cell reached."""
    rows = []
    for group in (group for group in all_groups() if group.stage == REPORTED and group in cells):
        results = cells[group]
        measured = [
            shown(bootstrap(np.array([[getattr(result, measure)] for result in results]), statistics.iqm))
            for measure in MEASURES
        ]
        shares = [result.clipped for result in results if result.clipped is not None]
        clipped = f"{np.mean(shares):.2%}" if shares else "no support"
        cpu = f"{np.mean([result.cpu_seconds for result in results]):.0f}"
        rows.append([*group[1:], f"{results[0].lr:g}", str(len(results)), *measured, clipped, cpu])
    return Grid(["game", "width", "head", "lr", "seeds", *MEASURES.values(), "clipped", "CPU s per run"], rows)


def sweep(cells: Stored) -> Grid:
    """The area under the curve with each rate, the best of each row marked."""
    rows = []
    for group in (group for group in all_groups() if group.stage == SWEEP and group in cells):
        areas: dict[float, list[float]] = {}
        for result in cells[group]:
            areas.setdefault(result.lr, []).append(result.auc)
        means = {rate: float(np.mean(of_rate)) for rate, of_rate in areas.items()}
        best = max(means, key=lambda rate: means[rate])
        edge = "yes" if best in (min(means), max(means)) else "no"
        tried = [f"{'**' * (rate == best)}{mean:.2f}{'**' * (rate == best)}" for rate, mean in means.items()]
        rows.append([*group[1:], f"{min(means):g}", *tried, f"{best:g}", edge])
    factors = [f"x {factor}" for factor in design.FACTORS]
    return Grid(["game", "width", "head", "base", *factors, "chosen", "at an end"], rows)


def progress(cells: Stored) -> str:
    missing = [group for group in all_groups() if group not in cells]
    counts = f"{len(cells)} of {len(cells) + len(missing)} cells are there"
    if not missing:
        return f"{counts}."
    heads = list(dict.fromkeys(group.head for group in missing))
    each = ", ".join(f"{sum(group.head == head for group in missing)} of {head}" for head in heads)
    return f"**{counts}; the same command goes on with those that are not**: {each}; next `{missing[0].name}`."


def method(cells: Stored, command: str) -> list[Block]:
    every = [result for results in cells.values() for result in results]
    spent = sum(result.cpu_seconds for result in every) / 3_600
    settings = ", ".join(f"{key} {value}" for key, value in design.SETTINGS.items())
    widths = "; ".join(f"{name}: {', '.join(f'{k} {v}' for k, v in of.items())}" for name, of in WIDTHS.items())
    supports = ", ".join(f"{game} [{low:g}, {high:g}]" for game, (low, high) in design.SUPPORTS.items())
    seeds, tried = design.SEEDS, design.SWEEP_SEEDS
    return [
        Text(
            f"Made by `{command}`, from the files in [cells/](cells/): one for each game, width and head, of which the "
            "command trains those that are missing. Measures, settings, seeds and budget were written into LOG.md "
            "and `agents/experiments/minatar_study/design.py` before a reported seed was run."
        ),
        Text(
            f"The preset `{design.PRESET}` with {settings}; {widths}. Supports: {supports} (1.5 times the largest "
            "discounted return that MSE saw in pilots, rounded up). Rates: the base of each head, that of its preset "
            f"for MinAtar, times {', '.join(map(str, design.FACTORS))}, by the area under the curve of seed"
            f"{'s' if len(tried) > 1 else ''} {', '.join(map(str, tried))}, for each game, width and head by itself. "
            f"Reported: seeds {seeds[0]} to {seeds[-1]}, none left out."
        ),
        Text(
            "*Area under the curve*: mean height of the curve of training returns, exploration and all, a point for "
            f"each {design.LOG_STEPS:,} steps. *Final score*: greedy mean return of the last policy over new episodes. "
            "Tables have the IQM over seeds; intervals are of 95 %, by the bootstrap over seeds within each game. "
            "*Clipped*: mean share of the targets that lie outside of the support."
        ),
        Text(
            f"{spent:.2f} CPU-hours in all ({len(every)} runs, trained together by cell, one thread a process, on a "
            f"shared machine, {platform.machine()}). {', '.join(sorted({result.version for result in every}))}."
        ),
    ]


def write_page(out: Path, command: str) -> None:
    """The page and its figure."""
    cells = stored(out)
    blocks: list[Block] = [Text(verdict(cells)), Text(second_line(cells)), Text(progress(cells))]
    if any(group.stage == REPORTED for group in cells):
        draw(cells, out / f"{NAME}.png")
        picture = Picture(NAME, "training return of every cell: mean over seeds and 95 % interval")
        blocks += [picture, probabilities(cells), Heading("Cells"), reported(cells)]
    if cells:
        blocks += [Heading("Learning rates"), sweep(cells)]
    blocks += [Heading("How"), *method(cells, command)]
    (out / f"{NAME}.md").write_text(markdown("Width and head on MinAtar", blocks), encoding="utf-8")


def draw(cells: Stored, path: Path) -> None:
    """Learning curves, a panel for each game and width."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.2 * len(WIDTHS), 3.6 * len(GAMES)), layout="constrained")
    axes = figure.subplots(len(GAMES), len(WIDTHS), squeeze=False, sharex=True, sharey="row")
    for row, game in enumerate(GAMES):
        for column, width in enumerate(WIDTHS):
            axis = axes[row, column]
            for index, head in enumerate(design.HEADS):
                results = cells.get(Group(REPORTED, game, width, head))
                if results is not None:
                    curves = np.array([result.curve for result in results]).T[..., None]  # [T, N, 1]
                    estimate, steps = bootstrap(curves, statistics.mean), steps_of(results[0].curve)
                    axis.plot(steps, estimate.value, color=f"C{index}", label=f"{head}, lr {results[0].lr:g}")
                    if estimate.low is not None and estimate.high is not None:
                        axis.fill_between(steps, estimate.low, estimate.high, color=f"C{index}", alpha=0.2, linewidth=0)
            axis.set_title(f"{game}, {width}", fontsize=10)
            axis.grid(alpha=0.3)
            if axis.get_legend_handles_labels()[0]:
                axis.legend(fontsize=8, loc="upper left")
    figure.supxlabel("environment steps", fontsize=9)
    figure.supylabel("return in training", fontsize=9)
    figure.savefig(path, dpi=90)
