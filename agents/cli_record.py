"""`classyq record`, a command of agents/cli.py."""

from pathlib import Path
from typing import Annotated

import typer


def record(
    name: Annotated[str, typer.Argument(metavar="RUN", help="a run's directory, or `last`")],
    steps: Annotated[int, typer.Option(min=1, help="environment steps in all")] = 10_000,
    epsilon: Annotated[float, typer.Option(min=0.0, max=1.0, help="share of random actions")] = 0.1,
    seed: Annotated[int, typer.Option(min=0, help="seed of the episodes")] = 0,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="a new directory, instead of dataset/ with the run")
    ] = None,
    root: Annotated[Path, typer.Option(help="where runs are")] = Path("runs"),
) -> None:
    """Record a data set: the best policy of a run plays in its training environments (docs/datasets.md)."""
    import numpy as np

    from agents.running.record import record as play
    from agents.running.runs import resolve_run

    path = resolve_run(name, root)
    made = play(path, out or path / "dataset", steps=steps, epsilon=epsilon, seed=seed)
    data, about = made.dataset, made.dataset.description
    score = f"{np.mean(made.returns):.2f} ± {np.std(made.returns):.2f}" if made.returns else "unknown"
    typer.echo(f"run    {path}, policy of step {about.about['policy_step']:,}, epsilon {epsilon:g}")
    typer.echo(f"return {score} over {len(made.returns):,} episodes, and {made.num_cut} cut at the end")
    size = f"{data.num_bytes() / 1e6:.1f} MB"
    typer.echo(f"wrote  {data.path}: {data.steps:,} steps (environments: {about.num_envs}), {size}")
    typer.echo(
        f"next   classyq train {path / 'config.json'} --agent cql --agent.dataset {data.path} "
        "--regularizers.cql.alpha 0.1"
    )
