"""`classyq compare`, a command of agents/cli.py."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from agents.experiments.page import Grid
    from agents.experiments.plan import Line, Plan, Sweep
    from agents.experiments.records import Record

DEFAULT_SEEDS, DEFAULT_SWEEP_SEEDS, SEEDS_AT_MOST = 5, 3, 100_000


def compare(
    ctx: typer.Context,
    runs: Annotated[
        list[str] | None, typer.Argument(metavar="RUN", help="finished runs, or directories of them, to report on")
    ] = None,
    heads: Annotated[str | None, typer.Option(metavar="A,B", help="value heads, see `classyq list heads`")] = None,
    envs: Annotated[str | None, typer.Option(metavar="A,B", help="environments, as in train")] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, max=SEEDS_AT_MOST, help=f"runs of each, seeds 1 upwards [{DEFAULT_SEEDS}]")
    ] = None,
    preset: Annotated[str | None, typer.Option(help="instead of that with the name of an environment")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="environment steps of a run")] = None,
    sweep: Annotated[
        str | None, typer.Option(metavar="KEY=F,F", help="choose for every head among factors, agent.lr=1,2,4")
    ] = None,
    sweep_seeds: Annotated[
        int | None, typer.Option(min=1, help=f"runs of each factor, with seeds of their own [{DEFAULT_SWEEP_SEEDS}]")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="runs at once")] = 1,
    together: Annotated[
        bool, typer.Option("--together", help="all seeds in one process, as one: faster for small networks")
    ] = False,
    per_head: Annotated[
        str | None, typer.Option(metavar="KEY,KEY", help="with RUN: settings that heads have of their own")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="directory of the comparison")] = None,
    root: Annotated[Path, typer.Option(help="where runs are")] = Path("runs"),
) -> None:
    """Compare value heads: train each on every environment with several seeds, or report on runs that are finished.

    Everything but the head is the same, which is checked. Any setting can be given as in train, --agent.lr 1e-4. What
    was interrupted goes on with the same command. The report is in report/ of the comparison's directory.
    """
    from agents.tables import ConfigError

    options = {"heads": heads, "envs": envs, "seeds": seeds, "preset": preset, "steps": steps}
    options |= {"sweep": sweep, "sweep_seeds": sweep_seeds} | ctx.obj
    if runs:
        if given := [f"--{name.replace('_', '-')}" for name, value in options.items() if value is not None]:
            raise ConfigError(f"{given[0]} is for runs that are to be trained; with RUN they are there already")
        return report_on(runs, listed("--per-head", per_head) if per_head else [], out, root)
    if heads is None:
        raise ConfigError("nothing to compare: give --heads mse,hl_gauss (see classyq list heads), or RUN...")
    if per_head is not None:
        raise ConfigError("--per-head is for RUN...; a preset says it in [by_head.NAME]")
    if sweep_seeds is not None and sweep is None:
        raise ConfigError("--sweep-seeds is for --sweep, which is missing")
    if together and jobs > 1:
        raise ConfigError(f"--together trains in one process, and --jobs {jobs} in several: leave out one of them")
    overrides = {**ctx.obj, **({} if steps is None else {"steps": steps})}
    line = make_line(heads, envs, seeds, preset, overrides, sweep, sweep_seeds)
    train_and_report(line, out, jobs, root, together)


def make_line(
    heads: str,
    envs: str | None,
    seeds: int | None,
    preset: str | None,
    overrides: dict[str, Any],
    sweep: str | None,
    sweep_seeds: int | None,
) -> "Line":
    """What was typed, its lists taken apart."""
    from agents.config import RunConfig
    from agents.experiments.plan import Line
    from agents.tables import ConfigError

    for key, option in {"head.name": "--heads", "env.id": "--envs"}.items():
        if key in overrides:
            raise ConfigError(f"--{key} is what is compared: give {option}")
    if envs is None and preset is None:
        raise ConfigError("--envs is missing: give environments, such as catch,CartPole-v1, or a --preset")
    env_ids = listed("--envs", envs) if envs is not None else [RunConfig.preset(preset or "").env.id]
    parsed = None if sweep is None else parse_sweep(sweep, sweep_seeds or DEFAULT_SWEEP_SEEDS)
    return Line(listed("--heads", heads), env_ids, seeds or DEFAULT_SEEDS, preset, overrides, parsed)


def listed(option: str, text: str) -> list[str]:
    """The names in `a,b`."""
    from agents.tables import ConfigError

    names = [name.strip() for name in text.split(",")]
    if "" in names:
        raise ConfigError(f"{option}: wanted names with commas between them, got {text!r}")
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"{option}: {twice[0]} is there twice")
    return names


def parse_sweep(text: str, seeds: int) -> "Sweep":
    """KEY=F,F: a setting and the factors on its value."""
    from agents.experiments.plan import Sweep
    from agents.tables import ConfigError

    key, _, factors = text.partition("=")
    try:
        numbers = [float(factor) for factor in factors.split(",")]
    except ValueError:
        numbers = []
    if not key or not numbers or len(set(numbers)) < len(numbers):
        raise ConfigError(f"--sweep: wanted a setting and different factors, agent.lr=1,2,4, got {text!r}")
    if key.startswith("head."):
        raise ConfigError(f"--sweep: {key} is an option of heads, wanted a setting that all heads have")
    return Sweep(key, numbers, seeds)


def train_and_report(line: "Line", out: Path | None, jobs: int, root: Path, together: bool = False) -> None:
    """Train what is missing of a comparison, then report on it."""
    from rich.console import Console

    from agents.experiments.board import Board
    from agents.experiments.compare import begin, part, reported_cells, sweep_cells, sweep_result, train_cells
    from agents.experiments.plan import make_plan

    more = f"+{len(line.envs) - 3}-more" if len(line.envs) > 3 else ""
    out = out or root / f"compare-{'+'.join(part(env) for env in line.envs[:3])}{more}"
    plan = make_plan(line)
    tried = [cell for cells in sweep_cells(plan, out).values() for cell in cells]
    announce(plan, len(tried), jobs, out)
    begin(plan, out)
    unfactored = reported_cells(plan, out, dict.fromkeys(line.heads, 1.0))
    board = Board([*tried, *unfactored], Console())
    if tried and not train_cells(tried, out, jobs, board, together):
        leave(board)
    chosen, rows = sweep_result(plan, out)
    if rows:
        from agents.experiments.report import sweep_grid

        show(sweep_grid(rows), f"sweep of {plan.line.sweep.key}" if plan.line.sweep else "")
    if not train_cells(reported_cells(plan, out, chosen), out, jobs, board, together):
        leave(board)
    report_stored(out)


def announce(plan: "Plan", num_tried: int, jobs: int, out: Path) -> None:
    """What is about to be compared, and in what heads differ."""
    from agents.presets import flatten

    line = plan.line
    num_runs = len(plan.configs) * line.seeds
    presets = ", ".join(f"{preset or 'defaults'} for {env}" for env, preset in plan.presets.items())
    sweep = f", and {num_tried} of a sweep before them" if num_tried else ""
    own, plural = " and ".join(["head.*", *plan.per_head]), "s" * (line.seeds > 1)
    typer.echo(
        f"compare  heads {', '.join(line.heads)}; environments {', '.join(line.envs)}; {line.seeds} seed{plural}"
    )
    typer.echo(f"         {num_runs} runs{sweep}, {jobs} at a time, in {out}   (presets: {presets})")
    typer.echo(f"         the same for all heads, but for {own} and the seed:")
    for env in line.envs:
        for key in plan.per_head:
            values = {head: flatten(plan.configs[env, head].plain()).get(key) for head in line.heads}
            typer.echo(f"         {key} on {env}: {', '.join(f'{v} ({h})' for h, v in values.items())}")


def leave(board: Any) -> None:
    """Say how far it has come, and leave."""
    typer.echo(f"not finished: {board.line()}; the same command goes on, and tries again what has failed", err=True)
    raise SystemExit(1)


def report_stored(out: Path) -> None:
    """The report of a comparison whose results are all there."""
    from agents.experiments.compare import stored

    found = stored(out)
    write_and_show(found.records, found.per_head, found.sweep, out, f"classyq compare {shlex.quote(str(out))}")


def report_on(names: Sequence[str], per_head: list[str], out: Path | None, root: Path) -> None:
    """The report of runs that are finished, or of a comparison."""
    from agents.experiments.compare import MANIFEST, find_records
    from agents.tables import ConfigError

    comparisons = [Path(name) for name in names if (Path(name) / MANIFEST).is_file()]
    if comparisons:
        if len(names) > 1 or out is not None or per_head:
            raise ConfigError(f"{comparisons[0]} is a comparison: its report is made of it alone, and lies in it")
        return report_stored(comparisons[0])
    records = find_records(names, root)
    line = ["classyq", "compare", *names, *(["--per-head", ",".join(per_head)] if per_head else [])]
    write_and_show(records, per_head, [], out or root / "compared", shlex.join(line))


def write_and_show(
    records: Sequence["Record"], per_head: Sequence[str], sweep: list[dict[str, Any]], out: Path, command: str
) -> None:
    """Check, write, and print the result."""
    from agents.experiments.records import check_alike
    from agents.experiments.report import ONE_SEED, SHORT, by_environment, headline, settings_grid, write_report
    from agents.experiments.results import envs_of, scale_of

    check_alike(records, per_head)
    numbers = write_report(records, out / "report", command=command, per_head=per_head, sweep=sweep)
    own = " and ".join(["head.*", *per_head])
    typer.echo(f"checked  {len(records)} runs differ in {own} and the seed, and in nothing else")
    if numbers.settings:
        show(settings_grid(numbers), "what belongs to a head")
    show(headline(numbers), f"{', '.join(envs_of(records))}: {SHORT[scale_of(records)]}, 95% intervals")
    if len(envs_of(records)) > 1:
        show(by_environment(numbers), "IQM of returns in every environment")
    if any(row["low"] is None for row in numbers.aggregates):
        typer.echo(ONE_SEED)
    typer.echo(f"report {out / 'report' / 'report.html'}   (and report.md; numbers and figures beside it)")


def show(grid: "Grid", title: str) -> None:
    """Print a table."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for index, column in enumerate(grid.columns):
        table.add_column(column, justify="left" if index == 0 else "right", overflow="fold")
    for row in grid.rows:
        table.add_row(*row)
    Console().print(table, markup=False)
