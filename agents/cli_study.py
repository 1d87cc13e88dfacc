"""`classyq study`, a command of agents/cli.py."""

from pathlib import Path
from typing import Annotated

import typer


def study(
    name: Annotated[str, typer.Argument(metavar="NAME", help="a name from `classyq list studies`")],
    tiny: Annotated[bool, typer.Option("--tiny", help="seconds instead of minutes: shows that it works")] = False,
    jobs: Annotated[int, typer.Option(min=1, help="training runs at once, where a study consists of them")] = 2,
    root: Annotated[Path, typer.Option(help="where runs are")] = Path("runs"),
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="where pages go [docs/results, and its studies/]")
    ] = None,
) -> None:
    """Measure what is missing of a study, and write its page. What was interrupted goes on with the same command."""
    from agents.experiments.studies import others, paper, training_runs
    from agents.tables import ConfigError, nearest

    whole = [*training_runs.STUDIES, *others.OTHERS]
    if name in whole and tiny:
        raise ConfigError(f"--tiny is for studies with settings in configs/studies/, and {name!r} has none")
    if name in training_runs.STUDIES:
        return training_runs.answer(name, jobs, root, out or Path("docs/results"))
    if name in others.OTHERS:
        return others.OTHERS[name].answer(jobs, root, out or Path("docs/results"))
    if name not in paper.paper_studies():
        raise ConfigError(f"unknown study {name!r}{nearest(name, [*whole, *paper.paper_studies()])}")
    default = root / f"study-{name}-tiny" if tiny else Path("docs/results/studies")
    paper.answer(name, root, out or default, tiny=tiny)
