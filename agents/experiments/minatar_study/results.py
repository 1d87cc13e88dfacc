"""The two questions of the study and their answers, from the cells that are there.

N seeds, M games; scores are [N, M].
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from agents.experiments.minatar_study.cells import Result, load_or_none
from agents.experiments.minatar_study.design import COMPARED, GAMES, REPORTED, WIDTHS, Group, all_groups
from agents.experiments.statistics import Estimate, bootstrap, iqm, probability_of_improvement

Stored = Mapping[Group, list[Result]]
CORNERS = [(width, head) for width in WIDTHS for head in COMPARED]  # of the interaction


def stored(out: Path) -> dict[Group, list[Result]]:
    """All cells that are there."""
    found = {group: load_or_none(group, out) for group in all_groups()}
    return {group: results for group, results in found.items() if results is not None}


def scores(cells: Stored, width: str, head: str, measure: str, games: tuple[str, ...] = GAMES) -> np.ndarray | None:
    """`auc` or `final` of the reported runs, [N, M]; None where a game is missing."""
    groups = [Group(REPORTED, game, width, head) for game in games]
    if any(group not in cells for group in groups):
        return None
    return np.array([[getattr(result, measure) for result in cells[group]] for group in groups]).T


def improvement(cells: Stored, width: str, measure: str, games: tuple[str, ...] = GAMES) -> Estimate | None:
    """The probability that a run of the first of COMPARED beats one of the second; None where cells are missing."""
    first, second = (scores(cells, width, head, measure, games) for head in COMPARED)
    return None if first is None or second is None else probability_of_improvement(first, second)


class Interaction(NamedTuple):
    """Gains of the first of COMPARED over the second, by width, and how much larger the first width's is."""

    gains: dict[str, Estimate]
    difference: Estimate


def interaction(cells: Stored, measure: str) -> Interaction | None:
    """Gain in a wide network minus gain in a small one; None where a corner is missing.

        gain(width) = IQM(x[width, hl_gauss]) - IQM(x[width, mse]),   x = score / (mean score of mse, small, same game)

    Each IQM is over all seeds and games. Seeds are resampled in each width, head and game for itself: these are the
    tasks of `bootstrap`.
    """
    corners = [scores(cells, width, head, measure) for width, head in CORNERS]
    known = [corner for corner in corners if corner is not None]
    if len(known) < len(corners):
        return None
    unit = known[-1].mean(0)  # of small and mse, [M]
    together = np.concatenate([corner / unit for corner in known], -1)  # [N, 4 M]

    def gain(drawn: np.ndarray, width: int) -> np.ndarray:
        first, second = np.split(drawn, len(corners), -1)[2 * width : 2 * width + 2]
        return iqm(first) - iqm(second)

    gains = {name: bootstrap(together, lambda x, i=i: gain(x, i)) for i, name in enumerate(WIDTHS)}
    return Interaction(gains, bootstrap(together, lambda x: gain(x, 0) - gain(x, 1)))


def includes(estimate: Estimate, value: float) -> bool:
    """Whether the interval does; without an interval nothing is excluded."""
    if estimate.low is None or estimate.high is None:
        return True
    return bool(estimate.low <= value <= estimate.high)
