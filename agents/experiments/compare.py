"""A comparison of value heads: every head on every environment with every seed, and nothing else that differs.

A directory holds it: manifest.json says what was asked for, cells/ and sweep/ have the runs, results/ a table with the
curve of every run that is finished and beside it what else a report needs, so that results/ and the manifest alone
are enough for one on another machine. What is finished is not trained again, and what was cut off goes on.
"""

import importlib.metadata
import json
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from agents.config import RunConfig
from agents.experiments.board import Board
from agents.experiments.jobs import outcome, train_all, train_together
from agents.experiments.plan import FIRST_SEED, Line, Plan, base_value, try_to_build
from agents.experiments.records import Record, labelled
from agents.experiments.results import Row, choose_factors
from agents.experiments.study import Arm, Cell
from agents.presets import flatten
from agents.running.metrics import write_whole
from agents.running.runs import find_runs, resolve_run
from agents.running.setup import VERSIONS
from agents.tables import ConfigError

MANIFEST = "manifest.json"
FIRST_SWEEP_SEED = 100_001


def manifest(plan: Plan) -> dict[str, Any]:
    """What is in manifest.json: enough to see whether another line, or another machine, would do the same."""
    versions = {name: importlib.metadata.version(name) for name in ("classyq", *VERSIONS)}
    configs: dict[str, dict[str, Any]] = {}
    for (env, head), config in plan.configs.items():
        configs.setdefault(env, {})[head] = config.plain()
    return {
        "line": plan.line.plain(),
        "versions": versions | {"python": platform.python_version()},
        "presets": plan.presets,
        "per_head": plan.per_head,
        "configs": configs,
    }


def begin(plan: Plan, out: Path) -> None:
    """Write the manifest of a new comparison, or see that it is that of this one.

    Raises:
        ConfigError: `out` holds another comparison, or something else.
    """
    path, new = out / MANIFEST, json.loads(json.dumps(manifest(plan)))
    if path.is_file():
        left, right = flatten(json.loads(path.read_text(encoding="utf-8"))), flatten(new)
        changed = [key for key in left | right if left.get(key) != right.get(key)]
        if changed:
            # a changed line changes configurations too; what was typed says it best
            typed = [key for key in changed if key.startswith("line.")] or changed
            what = "; ".join(
                f"{k.removeprefix('line.')} is {left.get(k)} there and {right.get(k)} now" for k in typed[:6]
            )
            raise ConfigError(f"{out} holds another comparison: {what}. To begin another, give --out DIR")
        return
    if out.is_dir() and any(out.iterdir()):
        raise ConfigError(f"{out} is no comparison, and not empty; give a new directory with --out")
    try_to_build(plan)
    out.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(new, indent=1))


def part(name: str) -> str:
    """A name as part of a path."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-.")


def reported_cells(plan: Plan, out: Path, chosen: Mapping[str, float]) -> list[Cell]:
    """The runs that are reported, seed by seed, each head with its chosen factor."""
    return make_cells(plan, out / "cells", range(FIRST_SEED, FIRST_SEED + plan.line.seeds), chosen)


def sweep_cells(plan: Plan, out: Path) -> dict[float, list[Cell]]:
    """The runs of the sweep by factor; their seeds are none of those that are reported."""
    if plan.line.sweep is None:
        return {}
    seeds = range(FIRST_SWEEP_SEED, FIRST_SWEEP_SEED + plan.line.sweep.seeds)
    return {
        factor: make_cells(plan, out / "sweep" / f"x{factor:g}", seeds, dict.fromkeys(plan.line.heads, factor))
        for factor in plan.line.sweep.factors
    }


def make_cells(plan: Plan, folder: Path, seeds: range, factors: Mapping[str, float]) -> list[Cell]:
    """Cells seed by seed, the swept setting of each head times its factor."""
    cells = []
    for seed in seeds:
        for (env, head), config in plan.configs.items():
            changes: dict[str, Any] = {"seed": seed}
            if plan.line.sweep is not None:
                changes[plan.line.sweep.key] = base_value(config, plan.line.sweep.key) * factors[head]
            arm = Arm(head, changes, seeds, plan.presets[env])
            run_dir = folder / part(env) / part(head) / f"s{seed}"
            cells.append(Cell(arm, seed, config.with_overrides(changes), run_dir))
    return cells


def result_path(out: Path, cell: Cell) -> Path:
    """Where the result of a cell is."""
    first, *parts = cell.run_dir.relative_to(out).parts
    return out / "results" / f"{'+'.join(parts if first == 'cells' else (first, *parts))}.csv"


def train_cells(cells: Sequence[Cell], out: Path, jobs: int, board: Board, together: bool = False) -> bool:
    """Train the cells that have no result yet, and write their results; whether all have one now.

    Args:
        jobs: how many at once, each in a process of its own.
        together: in this process instead, all seeds of a cell as a cohort.
    """
    by_dir = {cell.run_dir: cell for cell in cells}

    def collect(cell: Cell) -> None:
        if not result_path(out, cell).with_suffix(".json").is_file() and cell.summary() is not None:
            Record.of(cell.run_dir, cell.arm.label).save(result_path(out, cell))

    def tell(done: int, run_dir: Path, code: int) -> None:
        collect(by_dir[run_dir])
        board.say(f"{run_dir.relative_to(out)}  {outcome(run_dir, code)}   ({board.line()})")

    for cell in cells:
        collect(cell)
    todo = [cell for cell in cells if not result_path(out, cell).with_suffix(".json").is_file()]
    with board.shown():
        configs, run_dirs = [cell.config for cell in todo], [cell.run_dir for cell in todo]
        failed = train_together(configs, run_dirs, tell) if together else train_all(configs, run_dirs, jobs, tell=tell)
    return failed == 0


def load_records(cells: Sequence[Cell], out: Path) -> list[Record]:
    """The results of cells.

    Raises:
        ConfigError: some are missing.
    """
    missing = [cell for cell in cells if not result_path(out, cell).with_suffix(".json").is_file()]
    if missing:
        raise ConfigError(f"{out} is not finished: {len(missing)} of {len(cells)} results are missing")
    return [Record.load(result_path(out, cell)) for cell in cells]


def sweep_result(plan: Plan, out: Path) -> tuple[dict[str, float], list[Row]]:
    """The factor that every head has from now on, and a row for each that was tried; 1 where nothing was.

    Raises:
        ConfigError: some runs of the sweep are missing.
    """
    cells = sweep_cells(plan, out)
    if not cells:
        return dict.fromkeys(plan.line.heads, 1.0), []
    return choose_factors({factor: load_records(of_factor, out) for factor, of_factor in cells.items()})


class Stored(NamedTuple):
    """What a finished comparison has to report."""

    records: list[Record]
    per_head: list[str]
    sweep: list[Row]


def stored(out: Path) -> Stored:
    """The results of a comparison, from its manifest and results/ alone.

    Raises:
        ConfigError: some are missing.
    """
    data = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
    source = str(out / MANIFEST)
    configs = {
        (env, head): RunConfig.parse(config, source)
        for env, of_env in data["configs"].items()
        for head, config in of_env.items()
    }
    plan = Plan(Line.of(data["line"]), data["presets"], data["per_head"], configs)
    chosen, rows = sweep_result(plan, out)
    return Stored(load_records(reported_cells(plan, out, chosen), out), plan.per_head, rows)


def find_records(names: Sequence[str], root: Path) -> list[Record]:
    """Finished runs by name, or all of a directory, with labels that tell their heads apart.

    Raises:
        ConfigError: there is none of that name, or one is not finished.
    """
    found: list[Path] = []
    for name in names:
        folder = next((p for p in (Path(name), root / name) if find_runs(p)), None)
        found += [resolve_run(name, root)] if folder is None else sorted(find_runs(folder))
    return labelled([Record.of(run_dir) for run_dir in dict.fromkeys(found)])
