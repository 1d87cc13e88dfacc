"""Training the groups that have no cell yet, each in a process of its own."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import typer

from agents.experiments.cohort_trainer import train_cohort
from agents.experiments.jobs import RUNNING, ForwardedSignals, wait_until_alone
from agents.experiments.minatar_study.cells import Result, cell_path, chosen_rate, load_or_none, save
from agents.experiments.minatar_study.design import STEPS, Group, all_groups
from agents.experiments.minatar_study.page import NAME, write_page
from agents.experiments.study import study_dir
from agents.running.progress import reporter_for
from agents.running.setup import LOG
from agents.running.signals import EXIT_REQUEUE


def answer(jobs: int, root: Path, out: Path, cpu_hours: float = float("inf")) -> None:
    """Train the cells that are missing and write the page, after each of them too."""
    command = f"python -m agents.experiments.minatar_study --jobs {jobs}"
    out.mkdir(parents=True, exist_ok=True)
    train_missing(all_groups(), jobs, root, out, cpu_hours, lambda: write_page(out, command))
    write_page(out, command)
    typer.echo(f"wrote {out / NAME}.md")


def group_dir(group: Group, root: Path) -> Path:
    return study_dir(NAME, root) / group.name


def train_group(group: Group, root: Path, out: Path) -> int:
    """Train the runs of a group as a cohort, in this process, and write its cell; an exit code."""
    planned = group.runs(chosen_rate(group, out))
    configs = [group.config(rate, seed) for rate, seed in planned]
    folders = [group_dir(group, root) / f"lr{rate:g}-s{seed}" for rate, seed in planned]
    summaries = train_cohort(configs, folders, reporter_for(STEPS))
    if not all(summary.finished for summary in summaries):
        return max(summary.exit_code for summary in summaries)
    results = [Result.of(group, rate, seed, summary) for (rate, seed), summary in zip(planned, summaries, strict=True)]
    save(group, out, results)
    return 0


def in_process(group: Group, root: Path, out: Path, give_up: Callable[[], bool]) -> int:
    """The same in a new process, with its output in a log; its exit code."""
    folder = group_dir(group, root)
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "agents.experiments.minatar_study", "--only", group.name]
    with (folder / LOG).open("a") as log:
        wait_until_alone(log, give_up)
        if give_up():
            return EXIT_REQUEUE
        if cell_path(group, out).is_file():  # written by the process that was waited for
            return 0
        process = subprocess.Popen(
            [*command, "--root", str(root), "--out", str(out)], stdout=log, stderr=subprocess.STDOUT, env=os.environ
        )
        RUNNING.add(process)
        try:
            return process.wait()
        finally:
            RUNNING.discard(process)


def cpu_hours_spent(out: Path) -> float:
    """What all cells have cost."""
    return sum(result.cpu_seconds for group in all_groups() for result in load_or_none(group, out) or []) / 3_600


def train_missing(
    groups: Sequence[Group], jobs: int, root: Path, out: Path, cpu_hours: float, tell: Callable[[], None]
) -> None:
    """Train the groups without a cell, in order, `jobs` at a time; `tell` is called after each.

    None is begun once the cells that are there have cost `cpu_hours`.
    """
    lock = threading.Lock()

    def stopped() -> bool:
        return stop.signum is not None or cpu_hours_spent(out) >= cpu_hours

    def one(group: Group, before: Future | None) -> None:
        if before is not None:
            before.result()
        if stopped() or (before is not None and not cell_path(group.sweep, out).is_file()):
            return
        code = in_process(group, root, out, lambda: stop.signum is not None)
        with lock:
            ended = "finished" if code == 0 else f"ended with exit code {code}, see {group_dir(group, root) / LOG}"
            typer.echo(f"{group.name} {ended}   ({cpu_hours_spent(out):.2f} CPU-hours in cells)")
            tell()

    futures: dict[Group, Future] = {}
    with ForwardedSignals() as stop, ThreadPoolExecutor(jobs) as pool:
        for group in groups:
            if load_or_none(group, out) is None:
                futures[group] = pool.submit(one, group, futures.get(group.sweep))
        for future in futures.values():
            future.result()
