"""Several runs at once, each in a process of its own."""

import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import IO

import typer

from agents.config import RunConfig
from agents.experiments.cohort import OWN
from agents.experiments.cohort_trainer import train_cohort
from agents.presets import flatten
from agents.running.progress import reporter_for
from agents.running.runs import new_run_dir
from agents.running.setup import LOG, REQUESTED, resolve
from agents.running.signals import EXIT_INTERRUPTED, EXIT_REQUEUE, StopRequest

try:
    import fcntl
except ImportError:  # Windows, where nobody notices a run that has outlived the process that started it
    fcntl = None

RUNNING: set[subprocess.Popen] = set()
Tell = Callable[[int, Path, int], None]  # how many have ended, which has, its exit code


class ForwardedSignals(StopRequest):
    """Hands a request to stop on to the runs in RUNNING, which save and leave; no further one is begun."""

    def remember(self, signum: int, frame: FrameType | None) -> None:
        super().remember(signum, frame)
        for process in list(RUNNING):
            process.send_signal(signal.SIGTERM if signum == signal.SIGINT else signum)


def wait_until_alone(log: IO[str], give_up: Callable[[], bool]) -> None:
    """Wait while another process trains with this log: one whose parent was killed goes on alone.

    The lock belongs to the opened file, which the process that trains has as its output, so it lasts as long as that.
    """
    waited = False
    while fcntl is not None and not give_up():
        try:
            return fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not waited:
                typer.echo(f"      waits for another process that still trains {Path(log.name).parent}")
            waited = True
            time.sleep(0.2)


def train_in_process(
    config: RunConfig, run_dir: Path, init_from: Path | None = None, give_up: Callable[[], bool] = lambda: False
) -> int:
    """Train `config` in a new process, its output in run_dir/log.txt; its exit code."""
    run_dir.mkdir(parents=True, exist_ok=True)
    file = run_dir / REQUESTED
    command = [sys.executable, "-m", "agents", "train", str(file), "--run-dir", str(run_dir)]
    command += ["--init-from", str(init_from)] if init_from else []
    with (run_dir / LOG).open("a") as log:
        wait_until_alone(log, give_up)
        if give_up():
            return EXIT_REQUEUE
        file.write_text(json.dumps(config.plain()), encoding="utf-8")
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=os.environ)
        RUNNING.add(process)
        try:
            return process.wait()
        finally:
            RUNNING.discard(process)


def train_all(
    configs: Sequence[RunConfig],
    run_dirs: Sequence[Path],
    jobs: int,
    init_from: Path | None = None,
    tell: Tell | None = None,
) -> int:
    """Train each configuration in its directory, `jobs` at a time; how many failed. Says a line as each one ends."""
    done = 0

    def say(done: int, run_dir: Path, code: int) -> None:
        typer.echo(f"{done:>4} of {len(configs)}  {run_dir}  {outcome(run_dir, code)}")

    def one(config: RunConfig, run_dir: Path) -> bool:
        nonlocal done
        if stop.signum is not None:
            return True
        code = train_in_process(config, run_dir, init_from, lambda: stop.signum is not None)
        with lock:
            done += 1
            (tell or say)(done, run_dir, code)
        return code != 0

    lock = threading.Lock()
    with ForwardedSignals() as stop, ThreadPoolExecutor(jobs) as pool:
        return sum(pool.map(one, configs, run_dirs))


def train_together(configs: Sequence[RunConfig], run_dirs: Sequence[Path], tell: Tell) -> int:
    """Train in this process, as one those that may be a cohort: one after the other; how many have not ended."""
    cohorts: dict[str, list[int]] = {}
    for k, config in enumerate(configs):
        shared = {key: v for key, v in flatten(config.plain()).items() if not key.startswith(OWN)}
        cohorts.setdefault(json.dumps(shared, sort_keys=True), []).append(k)
    done = 0
    for members in cohorts.values():
        summaries = train_cohort([configs[k] for k in members], [run_dirs[k] for k in members])
        for summary in summaries:
            done += summary.finished
            tell(done, summary.run_dir, summary.exit_code)
        if not all(summary.finished for summary in summaries):  # somebody asked to stop
            break
    return len(configs) - done


def outcome(run_dir: Path, code: int) -> str:
    """How a run ended, in a few words."""
    if code in (EXIT_REQUEUE, EXIT_INTERRUPTED):
        return f"stopped; classyq resume {run_dir} goes on"
    if code:
        lines = (run_dir / LOG).read_text().strip().splitlines() or [""]
        return f"failed with exit code {code}: {lines[-1]}"
    summary = json.loads((run_dir / "summary.json").read_text())
    return f"best {summary['best_return']:.1f}, last {summary['last_return']:.1f}"


def train_seeds(config: RunConfig, seeds: int, jobs: int, root: Path, init_from: Path | None) -> int:
    """The same configuration with `seeds` seeds from config.seed upwards; 0 where all ended well, else 1."""
    configs, run_dirs = of_seeds(config, seeds, root)
    typer.echo(f"{seeds} seeds, {jobs} at a time; what each says is in its {LOG}")
    if train_all(configs, run_dirs, jobs, init_from):
        return 1
    say_best(run_dirs)
    return 0


def train_seeds_together(config: RunConfig, seeds: int, root: Path) -> int:
    """The same in this process, as a cohort; 0 where all ended, else why they were stopped (each can be resumed)."""
    config = resolve(config, Path("(a new directory)"))[0]  # a support that play has found is that of all seeds
    configs, run_dirs = of_seeds(config, seeds, root)
    summaries = train_cohort(configs, run_dirs, reporter_for(config.steps))
    if summaries[0].finished:
        say_best(run_dirs)
    return summaries[0].exit_code


def of_seeds(config: RunConfig, seeds: int, root: Path) -> tuple[list[RunConfig], list[Path]]:
    """Configurations and new directories."""
    configs = [config.with_overrides({"seed": config.seed + i}) for i in range(seeds)]
    return configs, [new_run_dir(c, root) for c in configs]


def say_best(run_dirs: Sequence[Path]) -> None:
    """What the best policies of finished runs have scored."""
    best = [json.loads((d / "summary.json").read_text())["best_return"] for d in run_dirs]
    mean, low, high = statistics.mean(best), min(best), max(best)
    typer.echo(f"best of {len(best)} seeds: mean {mean:.1f}, from {low:.1f} to {high:.1f}")
