"""A cohort from beginning to end: `agents.running.trainer` for many runs at once."""

import contextlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from agents.config import RunConfig
from agents.experiments.cohort import Cohort, check_cohort
from agents.running import checkpoint, machine
from agents.running.metrics import MetricsWriter
from agents.running.progress import Reporter, Silent
from agents.running.setup import build, describe, resolve, store
from agents.running.signals import StopRequest
from agents.running.trainer import Routine, Summary, conclude, finished_summary
from agents.tables import ConfigError


class Labelled:
    """What one run of a cohort says, with its seed before it; the progress of the first is that of all."""

    def __init__(self, reporter: Reporter, seed: int, first: bool):
        self.reporter, self.seed, self.first = reporter, seed, first

    def say(self, line: str) -> None:
        self.reporter.say(f"s{self.seed}: {line}")

    def progress(self, step: int, scalars: Mapping[str, float]) -> None:
        if self.first:
            self.reporter.progress(step, scalars)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None: ...


def train_cohort(
    configs: Sequence[RunConfig], run_dirs: Sequence[Path | str], reporter: Reporter | None = None
) -> list[Summary]:
    """Train many runs as one, or go on with those that are not finished; how each has ended.

    What lies in the directory of each is what `agents.train` leaves there, and either goes on with what the other
    began; a cohort goes on from the last step of which all have a checkpoint. Seconds are the share of each.

    Raises:
        ConfigError: for runs that cannot be a cohort, or not with what is in their directories.
        CheckpointError: where a checkpoint cannot be read or written.
    """
    folders = [Path(run_dir) for run_dir in run_dirs]
    if not configs or len(set(folders)) < len(folders) or len(folders) != len(configs):
        raise ConfigError(f"a cohort wants a directory for each run, got {len(configs)} runs and {len(set(folders))}")
    machine.prepare(configs[0].num_threads)
    resolved = [resolve(config, folder) for config, folder in zip(configs, folders, strict=True)]
    check_cohort([config for config, _ in resolved])
    todo = [k for k, folder in enumerate(folders) if finished_summary(folder) is None]
    reporter = reporter or Silent(configs[0].steps)
    trained = train_together([resolved[k] for k in todo], [folders[k] for k in todo], reporter) if todo else []
    by_folder = {summary.run_dir: summary for summary in trained}
    return [by_folder.get(folder) or finished_summary(folder) for folder in folders]  # pyright: ignore[reportReturnType]


def train_together(
    resolved: Sequence[tuple[RunConfig, str]], folders: Sequence[Path], reporter: Reporter
) -> list[Summary]:
    """Those of a cohort that are not finished."""
    start, cpu_start = time.perf_counter(), time.process_time()
    cohort, resumed = begin(resolved, folders, reporter)
    runs = cohort.runs
    writers = [MetricsWriter(run.run_dir, run.step if resumed else None) for run in runs]
    if not resumed:
        for run, metrics in zip(runs, writers, strict=True):
            metrics.write_hparams(run.config.plain(), "eval/episodic_return")
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(StopRequest())
        stack.enter_context(reporter)
        for closed in (*writers, *(run.venv for run in runs)):
            stack.enter_context(contextlib.closing(closed))
        loop(cohort, [Routine(run, metrics) for run, metrics in zip(runs, writers, strict=True)], stop)
        for run in runs:
            run.seconds += (time.perf_counter() - start) / len(runs)
            run.cpu_seconds += (time.process_time() - cpu_start) / len(runs)
        return [conclude(run, stop) for run in runs]


def begin(
    resolved: Sequence[tuple[RunConfig, str]], folders: Sequence[Path], reporter: Reporter
) -> tuple[Cohort, bool]:
    """The cohort as it is to go on, and whether that is from checkpoints."""
    runs = []
    for (config, _), folder in zip(resolved, folders, strict=True):
        runs.append(build(config, folder, Labelled(reporter, config.seed, first=not runs)))
    cohort, saved = Cohort(runs), last_of_all(folders)
    if saved is not None:
        for run, folder in zip(runs, folders, strict=True):
            run.load(folder / "checkpoints" / saved)
        cohort.take()
        reporter.say(f"resume {len(runs)} runs at step {cohort.step:,}")
        return cohort, True
    for run, (config, source) in zip(runs, resolved, strict=True):
        store(config, run.run_dir, source)
        run.checkpointer.give_up_after(-1)  # what some have and others have not
    config, source = resolved[0]
    reporter.say(f"{describe(config, runs[0], source)}\ncohort {len(runs)} of these, trained as one")
    return cohort, False


def last_of_all(folders: Sequence[Path]) -> str | None:
    """The name of the last checkpoint that all runs have, if there is one."""
    saved = [{path.name for path in checkpoint.found(folder)} for folder in folders]
    return max(set.intersection(*saved), default=None)


def loop(cohort: Cohort, routines: Sequence[Routine], stop: StopRequest) -> None:
    """As `agents.running.trainer.loop`; at its end the runs know all that has happened."""
    while cohort.step < cohort.config.steps and stop.signum is None:
        before = cohort.step
        cohort.advance()
        if cohort.step >= routines[0].next_step:
            cohort.give()
            for routine in routines:
                routine.after(before)
    cohort.give()
