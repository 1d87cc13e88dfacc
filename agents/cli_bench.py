"""`classyq bench`, a command of agents/cli.py."""

from pathlib import Path
from typing import Annotated

import typer

HEADS = "mse,hl_gauss,c51,quantile,iqn"


def bench(
    ctx: typer.Context,
    preset: Annotated[str, typer.Argument(help="a name from `classyq list presets`, or a .toml or .json file")] = (
        "cartpole"
    ),
    env: Annotated[str | None, typer.Option(help="gymnasium id, package.module:Name, or ./file.py:Class")] = None,
    head: Annotated[str | None, typer.Option(help="value head, see `classyq list heads`")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or auto")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="threads of torch on the CPU")] = None,
    seconds: Annotated[float, typer.Option(min=0.001, help="of measuring, for each part")] = 2.0,
    heads: Annotated[str, typer.Option(help="whose updates are measured too; empty for none")] = HEADS,
    compiled: Annotated[bool, typer.Option("--compile", help="measure a compiled update, and its compilation")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="write the report there too")] = None,
) -> None:
    """Measure how fast a preset trains, and what its parts would allow. Any setting can be given as for `train`.

    Everything is counted per second of the CPU, in all threads and child processes, and per second of the wall: the
    first says more where a machine is shared.
    """
    from rich.console import Console

    from agents.benchmarks.report import as_json, table_of
    from agents.benchmarks.speed import measure
    from agents.config import RunConfig

    if json_file is not None and not json_file.absolute().parent.is_dir():
        raise typer.BadParameter(f"there is no directory {json_file.parent}", param_hint="'--json'")
    given = {"env.id": env, "head.name": head, "device": device, "num_threads": threads}
    config = RunConfig.preset(preset, {k: v for k, v in given.items() if v is not None} | ctx.obj)
    names = [name.strip() for name in heads.split(",") if name.strip()]
    report = measure(preset, config, seconds=seconds, heads=names, compiled=compiled)
    console = Console()
    if not console.is_terminal:
        console = Console(width=120)
    console.print(table_of(report), soft_wrap=not console.is_terminal)
    if json_file is not None:
        json_file.write_text(as_json(report) + "\n", encoding="utf-8")
        console.print(f"wrote       {json_file}", highlight=False)
