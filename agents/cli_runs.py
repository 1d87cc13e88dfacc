"""The commands `classyq runs`: what runs there are, and how to be rid of one."""

from pathlib import Path
from typing import Annotated

import typer

runs_app = typer.Typer(help="List runs with their size, or delete one.", invoke_without_command=True)

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="a run's directory, or `last`")]
Root = Annotated[Path, typer.Option(help="where runs are")]


@runs_app.callback()
def list_runs(ctx: typer.Context, root: Root = Path("runs")) -> None:
    """List runs with their size, or delete one."""
    if ctx.invoked_subcommand is not None:
        return
    import time

    from agents.running.runs import find_runs, info

    runs = find_runs(root)
    nothing = f"there are no runs in {root}/ yet: classyq train"
    typer.echo(f"{'started':16}  {'steps':>21}  {'best':>8}  {'MB':>7}  run" if runs else nothing)
    for path in runs:
        try:
            r = info(path)
        except (ValueError, KeyError) as error:
            typer.echo(f"{'damaged':16}  {'':21}  {'':8}  {'':7}  {path}: {error}")
            continue
        best = "" if r.best_return is None else f"{r.best_return:.1f}"
        started = time.strftime("%Y-%m-%d %H:%M", time.localtime(r.started))
        steps = f"{r.step:,} / {r.steps:,}"
        typer.echo(f"{started}  {steps:>21}  {best:>8}  {r.num_bytes / 1e6:>7.1f}  {r.path}")


@runs_app.command("delete")
def delete_run(
    name: RunArgument,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    root: Root = Path("runs"),
) -> None:
    """Delete a run and everything it wrote."""
    from agents.running.runs import delete, info, resolve_run

    r = info(resolve_run(name, root))
    if yes or typer.confirm(f"delete {r.path} ({r.num_bytes / 1e6:.1f} MB)?"):
        delete(r.path)
        typer.echo(f"deleted {r.path}")
