"""The command; what it does is in `training`."""

from pathlib import Path
from typing import Annotated

import typer

from agents.experiments.minatar_study.design import all_groups
from agents.experiments.minatar_study.training import answer, train_group
from agents.tables import ConfigError, nearest


def main(
    jobs: Annotated[int, typer.Option(min=1, help="processes, each of which trains a cell")] = 2,
    root: Annotated[Path, typer.Option(help="where runs are")] = Path("runs"),
    out: Annotated[Path, typer.Option(help="where the page goes, and cells/")] = Path("docs/results"),
    cpu_hours: Annotated[float, typer.Option(help="begin no cell once all together have cost this")] = float("inf"),
    only: Annotated[str, typer.Option(help="train this cell alone, in this process, and write no page")] = "",
) -> None:
    """Width x head on MinAtar. What is in docs/results/cells/ is not trained again; what was cut off goes on."""
    if not only:
        return answer(jobs, root, out, cpu_hours)
    groups = {group.name: group for group in all_groups()}
    if only not in groups:
        raise ConfigError(f"--only: unknown cell {only!r}{nearest(only, groups)}")
    raise typer.Exit(train_group(groups[only], root, out))


if __name__ == "__main__":
    typer.run(main)
