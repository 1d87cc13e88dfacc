"""The command `classyq`. Modules that need torch are imported inside the commands, so that help is quick."""

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand

from agents.cli_bench import bench
from agents.cli_compare import compare
from agents.cli_record import record
from agents.cli_runs import Root, RunArgument, runs_app
from agents.cli_study import study
from agents.overrides import parse_value, split_overrides

if TYPE_CHECKING:
    from agents.config import RunConfig

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(runs_app, name="runs")

CHOSEN = ("head", "torso", "output_layer", "agent", "target_rule", "exploration", "replay")
SHORT = {"env": "env.id"} | {part: f"{part}.name" for part in CHOSEN}


class Listed(StrEnum):
    heads = "heads"
    encodings = "encodings"
    losses = "losses"
    torsos = "torsos"
    output_layers = "output_layers"
    agents = "agents"
    target_rules = "target_rules"
    regularizers = "regularizers"
    explorations = "explorations"
    replays = "replays"
    envs = "envs"
    presets = "presets"
    studies = "studies"


class CommandWithOverrides(TyperCommand):
    """Takes dotted options, `--agent.lr 1e-4`, out of the command line before the others are parsed."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.obj, rest = split_overrides(args)
        return super().parse_args(ctx, rest)


@app.command(cls=CommandWithOverrides)
def train(
    ctx: typer.Context,
    preset: Annotated[str, typer.Argument(help="a name from `classyq list presets`, or a .toml or .json file")] = "",
    env: Annotated[str | None, typer.Option(help="gymnasium id, package.module:Name, or ./file.py:Class")] = None,
    head: Annotated[str | None, typer.Option(help="value head, see `classyq list heads`")] = None,
    torso: Annotated[str | None, typer.Option(help="encoder, see `classyq list torsos`")] = None,
    output_layer: Annotated[
        str | None, typer.Option("--output_layer", help="last layers, see `classyq list output_layers`")
    ] = None,
    agent: Annotated[str | None, typer.Option(help="agent, see `classyq list agents`")] = None,
    target_rule: Annotated[
        str | None, typer.Option("--target_rule", help="what is learned, see `classyq list target_rules`")
    ] = None,
    exploration: Annotated[str | None, typer.Option(help="see `classyq list explorations`")] = None,
    replay: Annotated[str | None, typer.Option(help="see `classyq list replays`")] = None,
    support: Annotated[str | None, typer.Option(help="range of returns: auto, or v_min,v_max")] = None,
    steps: Annotated[int | None, typer.Option(help="environment steps in all")] = None,
    seed: Annotated[int | None, typer.Option(help="seed of the run")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or auto")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="train this many seeds, from --seed upwards")] = 1,
    jobs: Annotated[int, typer.Option(min=1, help="how many of them at once")] = 1,
    together: Annotated[
        bool,
        typer.Option("--together", help="all seeds in one process, as one: faster for small networks"),
    ] = False,
    init_from: Annotated[str | None, typer.Option(metavar="RUN", help="start with the weights of a run")] = None,
    run_dir: Annotated[
        str | None, typer.Option(metavar="DIR", help="directory of the run, instead of a new one")
    ] = None,
    root: Root = Path("runs"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would happen, and stop")] = False,
) -> None:
    """Train an agent. Any setting can be given as --table.key VALUE, for example --agent.lr 1e-4 --head.num_bins 101;
    --dry-run shows them all. The same command with the same --run-dir goes on with that run.

    Without a preset it is `cartpole`; with --env but no preset, `atari` for ALE/... and else the defaults for any
    environment.
    """
    from agents.config import RunConfig
    from agents.running.runs import new_run_dir, resolve_run
    from agents.tables import ConfigError

    given = {name: ctx.params[name] for name in ("env", *CHOSEN, "steps", "seed", "device")}
    overrides = {SHORT.get(k, k): v for k, v in given.items() if v is not None} | ctx.obj
    if support is not None:
        overrides["env.support"] = parse_value(support)
    if not preset and env is not None and not env.startswith("ALE/"):
        config = RunConfig.parse({"env": {"id": env}}).with_overrides(overrides)
    else:
        config = RunConfig.preset(preset or ("cartpole" if env is None else "atari"), overrides)
    if dry_run:
        return say_what_would_happen(config)
    start_from = None if init_from is None else resolve_run(init_from, root)
    if together and (seeds == 1 or jobs > 1 or start_from is not None):
        raise ConfigError("--together is for --seeds of at least 2, without --jobs and --init-from")
    if seeds > 1:
        if run_dir is not None:
            raise ConfigError(f"--run-dir is for one run, and --seeds {seeds} makes {seeds}: leave out one of them")
        from agents.experiments.jobs import train_seeds, train_seeds_together

        if together:
            raise SystemExit(train_seeds_together(config, seeds, root))
        raise SystemExit(train_seeds(config, seeds, jobs, root, start_from))
    if run_dir == "":
        raise ConfigError("--run-dir is empty")
    run(config, Path(run_dir) if run_dir else new_run_dir(config, root), init_from=start_from)


def run(config: "RunConfig", run_dir: Path, **options: Any) -> NoReturn:
    """Train to the end or until asked to stop, and leave with the code that says which."""
    from agents.running.progress import reporter_for
    from agents.running.trainer import train as train_run

    summary = train_run(config, run_dir, reporter=reporter_for(config.steps), **options)
    if summary.finished:
        logging = f"logging took {summary.time_logging:.1%} of the time"
        typer.echo(f"time   {summary.seconds:.0f} s; {logging}")
        typer.echo(f"next   classyq evaluate {run_dir}\n       tensorboard --logdir {run_dir}")
    raise SystemExit(summary.exit_code)


def say_what_would_happen(config: "RunConfig") -> None:
    from agents.presets import flatten
    from agents.running.progress import Silent
    from agents.running.setup import build, describe, resolve

    nowhere = Path("(a new directory)")
    config, source = resolve(config, nowhere)
    typer.echo(describe(config, build(config, nowhere, Silent(config.steps)), source))
    typer.echo("settings")
    for key, value in flatten(config.plain()).items():
        typer.echo(f"  {key} = {json.dumps(value)}")


@app.command()
def resume(
    name: RunArgument,
    checkpoint: Annotated[Path | None, typer.Option(help="an earlier checkpoint of this run")] = None,
    root: Root = Path("runs"),
) -> None:
    """Go on with a run that was stopped or killed, exactly as if it had not been."""
    from agents.config import RunConfig
    from agents.running.checkpoint import found
    from agents.running.runs import resolve_run
    from agents.running.trainer import finished_summary

    path = resolve_run(name, root)
    config = RunConfig.preset(str(path / "config.json"))
    if not found(path):
        typer.echo(f"{path} has no checkpoint yet: it begins again")
    elif checkpoint is None and finished_summary(path) is not None:
        typer.echo(f"{path} is finished: all {config.steps:,} steps are made")
        return
    run(config, path, resume_from=checkpoint)


@app.command()
def evaluate(
    name: RunArgument,
    episodes: Annotated[int, typer.Option(min=1)] = 20,
    seed: Annotated[int, typer.Option(min=0, help="seed of the episodes")] = 0,
    epsilon: Annotated[float, typer.Option(min=0.0, max=1.0, help="share of random actions")] = 0.0,
    root: Root = Path("runs"),
) -> None:
    """Play episodes with the best policy of a run."""
    from agents.running.evaluation import evaluate as play
    from agents.running.evaluation import load
    from agents.running.runs import resolve_run
    from agents.seeding import child_seed
    from envs.atari_scores import human_normalized

    path = resolve_run(name, root)
    policy = load(path)
    result = play(policy, num_episodes=episodes, seed=child_seed(seed, "evaluate command"), epsilon=epsilon)
    typer.echo(
        f"run    {path}\nreturn {result.mean:.2f} ± {result.std:.2f} over {episodes} episodes, epsilon {epsilon:g}"
    )
    typer.echo(f"       min {min(result.returns):g}, max {max(result.returns):g}; {sum(result.lengths):,} steps")
    if result.num_cut:
        limit = f"evaluation.max_steps ({policy.config.evaluation.max_steps:,})"
        typer.echo(
            f"       {result.num_cut} of {episodes} episodes were cut at {limit}: this is no score of whole episodes"
        )
    normalized = human_normalized(policy.config.env.id, result.mean)
    if normalized is not None:
        cut = f", with {result.num_cut} games cut" if result.num_cut else ""
        typer.echo(
            f"       {normalized:.1%} human-normalised{cut}: 0 is random play, 100% a human (envs/atari_scores.py)"
        )


@app.command()
def watch(
    name: RunArgument,
    episodes: Annotated[int, typer.Option(min=1)] = 1,
    steps: Annotated[int, typer.Option(min=1, max=5_000, help="decisions shown at most")] = 500,
    start: Annotated[int, typer.Option(min=0, help="decision that is shown first")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="seed of the episodes")] = 0,
    epsilon: Annotated[float, typer.Option(min=0.0, max=1.0, help="share of random actions")] = 0.0,
    fps: Annotated[float, typer.Option(min=0.1, max=50, help="decisions a second")] = 10.0,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="a .gif, instead of watch.gif with the run")] = None,
    root: Root = Path("runs"),
) -> None:
    """Make a GIF of the best policy of a run at play, with the return distribution of every action."""
    from agents.running.runs import resolve_run
    from agents.running.watch import watch as make_clip

    path = resolve_run(name, root)
    made = make_clip(path, out, episodes=episodes, start=start, steps=steps, seed=seed, epsilon=epsilon, fps=fps)
    typer.echo(f"run    {path}, policy of step {made.step:,}")
    for e in made.played:
        typer.echo(f"return {e.score:g} in {e.length:,} steps{'' if e.over else ', and not over'}")
    typer.echo(f"wrote  {made.path} ({made.num_pictures:,} pictures, {made.num_bytes / 1e6:.1f} MB)")
    typer.echo(f"       and as watch/episode for TensorBoard: tensorboard --logdir {path}")


app.command()(record)
app.command(cls=CommandWithOverrides)(bench)
app.command(cls=CommandWithOverrides)(compare)
app.command()(study)


@app.command("list")
def list_names(what: Listed) -> None:
    """List what can be chosen by name, plug-ins included."""
    from agents.listing import listing

    for line in listing(what.value):
        typer.echo(line)


@app.command("check-env")
def check_env_command(
    env_id: Annotated[str, typer.Argument(metavar="ENV", help="gymnasium id, package.module:Name, or ./file.py:Class")],
    gamma: Annotated[float, typer.Option(help="discount for the suggested range of returns")] = 0.99,
    steps: Annotated[int, typer.Option(min=100, help="steps of random play")] = 10_000,
) -> None:
    """Say in words what is wrong with an environment, and suggest a range of returns."""
    from envs.check import check_env

    if not 0.0 <= gamma < 1.0:
        raise typer.BadParameter(f"{gamma} is not in 0 <= gamma < 1", param_hint="--gamma")
    findings = check_env(env_id, gamma=gamma, steps=steps)
    for finding in findings:
        typer.echo(f"{finding.level:5s}  {finding.text}")
    raise SystemExit(1 if any(f.level == "error" for f in findings) else 0)


def main() -> None:
    """Entry point: what a user can mend is one sentence and exit code 2, anything else is a bug and a traceback."""
    sys.path.insert(0, "")  # so that package.module:Name finds a module in the current directory
    try:
        app()
    except (ValueError, RuntimeError) as error:
        from agents.replay.memory import ReplayTooLargeError
        from agents.running.checkpoint import CheckpointError
        from agents.running.run import DivergedError
        from agents.tables import ConfigError
        from envs import UnknownEnvironment
        from value_heads.registry import UnknownNameError

        known = (ConfigError, CheckpointError, DivergedError, ReplayTooLargeError, UnknownEnvironment, UnknownNameError)
        if not isinstance(error, known):
            raise
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(2) from None
