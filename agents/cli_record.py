"""`classyq record`, a command of agents/cli.py."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from agents.running.dataset import Dataset

MINARI = "minari:"


def record(
    name: Annotated[
        str, typer.Argument(metavar="RUN", help="a run's directory, or `last`; or minari:NAME, recorded by others")
    ],
    steps: Annotated[int, typer.Option(min=1, help="environment steps in all")] = 10_000,
    epsilon: Annotated[float, typer.Option(min=0.0, max=1.0, help="share of random actions")] = 0.1,
    seed: Annotated[int, typer.Option(min=0, help="seed of the episodes")] = 0,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="a new directory, instead of dataset/ with the run")
    ] = None,
    minari: Annotated[
        str | None, typer.Option(metavar="NAME", help="write it into the local store of Minari too, mine/catch-v0")
    ] = None,
    root: Annotated[Path, typer.Option(help="where runs are")] = Path("runs"),
) -> None:
    """Record a data set: the best policy of a run plays in its training environments (docs/datasets.md)."""
    from agents.running.runs import resolve_run
    from agents.tables import ConfigError

    if name.startswith(MINARI):
        from agents.running.minari_data import from_minari

        if out is None:
            raise ConfigError(f"--out is missing: a new directory for {name}")
        data = from_minari(name.removeprefix(MINARI), out)
        say_what_there_is(data, f"--env {data.description.about['env']['id'] or 'ENV'}")
        return
    import numpy as np

    from agents.running.record import record as play

    if minari is not None:
        from agents.running.minari_data import minari_module

        minari_module()  # whether it is there, before anything is played

    path = resolve_run(name, root)
    made = play(path, out or path / "dataset", steps=steps, epsilon=epsilon, seed=seed)
    score = f"{np.mean(made.returns):.2f} ± {np.std(made.returns):.2f}" if made.returns else "unknown"
    policy_step = made.dataset.description.about["policy_step"]
    typer.echo(f"run    {path}, policy of step {policy_step:,}, epsilon {epsilon:g}")
    typer.echo(f"return {score} over {len(made.returns):,} episodes, and {made.num_cut} cut at the end")
    if minari is not None:
        from agents.running.minari_data import to_minari

        to_minari(made.dataset, minari)
        typer.echo(f"minari {minari}")
    say_what_there_is(made.dataset, str(path / "config.json"))


def say_what_there_is(data: "Dataset", environment: str) -> None:
    """Where a data set is, its size, and the command that learns from it."""
    size = f"{data.num_bytes() / 1e6:.1f} MB"
    typer.echo(f"wrote  {data.path}: {data.steps:,} steps (environments: {data.description.num_envs}), {size}")
    typer.echo(
        f"next   classyq train {environment} --agent cql --agent.dataset {data.path} --regularizers.cql.alpha 0.1"
    )
