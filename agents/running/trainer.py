"""One run from beginning to end: one loop, with metrics, evaluation and checkpoints around it."""

import contextlib
import json
import time
from pathlib import Path
from typing import NamedTuple

from agents.config import RunConfig
from agents.running import checkpoint, evaluation, machine
from agents.running.metrics import MetricsWriter, write_whole
from agents.running.progress import Reporter, Silent
from agents.running.run import Run
from agents.running.runs import read_summary
from agents.running.setup import build, describe, resolve, store
from agents.running.signals import StopRequest
from agents.seeding import child_seed
from agents.tables import ConfigError


class Summary(NamedTuple):
    """How a run ended. Scores are mean raw returns."""

    run_dir: Path
    step: int
    finished: bool
    exit_code: int  # 0, or why it stopped early (agents.running.signals)
    best_return: float | None  # of the best policy, on episodes that did not choose it
    last_return: float | None  # of the last policy, at its last evaluation
    seconds: float  # over all sessions, without the score at the end
    cpu_seconds: float  # likewise, of all threads
    time_logging: float  # share of the time


def train(
    config: RunConfig,
    run_dir: Path | str,
    *,
    init_from: Path | str | None = None,
    resume_from: Path | str | None = None,
    reporter: Reporter | None = None,
) -> Summary:
    """Train, or go on where `run_dir` holds a checkpoint.

    Args:
        init_from: a run whose policy's weights a new run starts with.
        resume_from: a checkpoint of this run, instead of its last.

    Raises:
        ConfigError: where `run_dir` holds a run with another configuration, or `init_from` one with another network.
        CheckpointError: where a checkpoint cannot be read or written.
    """
    run_dir, start, cpu_start = Path(run_dir), time.perf_counter(), time.process_time()
    reporter = reporter or Silent(config.steps)
    machine.prepare(config.num_threads)
    config, support_source = resolve(config, run_dir)
    if resume_from is None and (earlier := finished_summary(run_dir)) is not None:
        reporter.say(f"{run_dir} is finished: all {config.steps:,} steps are made")
        return earlier
    checkpoints = [Path(resume_from)] if resume_from else checkpoint.found(run_dir)[-1:]
    run = build(config, run_dir, reporter)
    if checkpoints:
        run.load(checkpoints[0])
        reporter.say(f"resume {run_dir} at step {run.step:,}")
    else:
        if init_from is not None:
            start_with_weights_of(init_from, run)
        store(config, run_dir, support_source)
        if init_from is not None:
            run.save()  # killed before its first checkpoint, the run still begins with these weights
        reporter.say(describe(config, run, support_source))
    metrics = MetricsWriter(run_dir, run.step if checkpoints else None)
    if not checkpoints:
        metrics.write_hparams(config.plain(), "eval/episodic_return")
    with StopRequest() as stop, reporter, contextlib.closing(metrics), contextlib.closing(run.venv):
        loop(run, metrics, stop)
        run.seconds += time.perf_counter() - start
        run.cpu_seconds += time.process_time() - cpu_start
        return conclude(run, stop)


def conclude(run: Run, stop: StopRequest) -> Summary:
    """Save a run that has made its last step, or was asked to stop; score it where all steps are made."""
    path = run.save()
    finished = run.step >= run.config.steps
    if not finished:
        run.reporter.say(f"stopped at step {run.step:,}, saved as {path}\ngo on  classyq resume {run.run_dir}")
    best = final_score(run) if finished else None
    code = 0 if finished else stop.exit_code()
    logging = run.stopwatch.shares().get("log", 0.0)
    clocks = run.seconds, run.cpu_seconds, logging
    summary = Summary(run.run_dir, run.step, finished, code, best, run.last_return, *clocks)
    write_whole(run.run_dir / "summary.json", json.dumps(summary._asdict() | {"run_dir": str(run.run_dir)}, indent=1))
    return summary


def finished_summary(run_dir: Path) -> Summary | None:
    """How a run ended that made all its steps and was scored; None for any other."""
    found = read_summary(run_dir)
    return None if found is None else Summary(**dict(found, run_dir=run_dir))


def loop(run: Run, metrics: MetricsWriter, stop: StopRequest) -> None:
    """Advance until all steps are made or somebody asks to stop; log, evaluate and save on the way."""
    routine = Routine(run, metrics)
    while run.step < run.config.steps and stop.signum is None:
        before = run.step
        run.advance()
        if run.step >= routine.next_step:
            routine.after(before)


class Routine:
    """What is done around the steps of a run: log, evaluate and save, each when it is due."""

    def __init__(self, run: Run, metrics: MetricsWriter):
        self.run, self.metrics = run, metrics
        self.logged_at, self.logged_step = time.perf_counter(), run.step
        self.next_step = self.due()

    def due(self) -> int:
        """The step from which on `after` has something to do."""
        config, step = self.run.config, self.run.step
        periods = (config.log.every_steps, config.log.histogram_every_steps)
        periods += (config.evaluation.every_steps, config.checkpoint.every_steps)
        return min(config.steps, *((step // period + 1) * period for period in periods))

    def after(self, before: int) -> None:
        """What is due after the steps from `before` on."""
        run, metrics, config = self.run, self.metrics, self.run.config
        self.next_step = self.due()
        row: dict[str, float] = {}
        last = run.step >= config.steps
        if last or crossed(before, run.step, config.log.every_steps):
            with run.stopwatch("log"):
                now = time.perf_counter()
                row = run.scalars((run.step - self.logged_step) / (now - self.logged_at))
                self.logged_at, self.logged_step = now, run.step
                run.warn_if_saturated(row)
        if crossed(before, run.step, config.log.histogram_every_steps):
            with run.stopwatch("log"):
                for tag, atoms in run.agent.distributions().items():
                    metrics.write_histogram(tag, run.step, atoms)
        if last or crossed(before, run.step, config.evaluation.every_steps):
            with run.stopwatch("eval"):
                row |= run.evaluate()
        if row:
            with run.stopwatch("log"):
                metrics.write(run.step, row)
                if "charts/SPS" in row:  # not where there was an evaluation alone
                    run.reporter.progress(run.step, row)
        if crossed(before, run.step, config.checkpoint.every_steps) and not last:
            with run.stopwatch("checkpoint"):
                run.save()


def start_with_weights_of(source: Path | str, run: Run) -> None:
    """Begin with the weights of the best policy of another run.

    Raises:
        ConfigError: where its network is not like that of `run`, or its outputs mean something else.
    """
    policy = evaluation.load(source)
    theirs, ours = policy.config, run.config
    if (theirs.head, theirs.env.support) != (ours.head, ours.env.support):
        raise ConfigError(
            f"the weights of {source} belong to head {theirs.head} with support {theirs.env.support}; this run has "
            f"{ours.head} with {ours.env.support}, for which they mean something else"
        )
    try:
        run.agent.load_weights(policy.network.state_dict())
    except RuntimeError as error:
        raise ConfigError(f"the weights of {source} do not fit the network of this run: {error}") from error


def crossed(before: int, after: int, period: int) -> bool:
    """Whether a multiple of `period` lies in (before, after]."""
    return after // period > before // period


def final_score(run: Run) -> float:
    """Mean return of the best policy over episodes that had no part in choosing it."""
    best = evaluation.load(run.run_dir)
    seed, num_episodes = child_seed(run.config.seed, "final evaluation"), run.config.evaluation.final_episodes
    run.reporter.say(f"score  the best policy plays {num_episodes} new episodes (Ctrl-C twice: leave that to resume)")
    result = evaluation.evaluate(best, num_episodes=num_episodes, seed=seed)
    run.reporter.say(
        f"done   {run.step:,} steps. Best policy, {len(result.returns)} new episodes, greedy: "
        f"{result.mean:.1f} ± {result.std:.1f}"
    )
    return result.mean
