"""A comparison that is killed at random moments ends with the results of one that never was.

    pytest -m slow tests/resume/test_resume_compare.py

kills real processes: first all of them together, then the one that started the others alone. The fast test trains in
this process, where an exception stands for the kill.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agents.cli_compare import train_and_report
from agents.experiments import jobs
from agents.experiments.plan import Line, Sweep
from agents.running.run import Run
from agents.running.trainer import train

HERE = Path(__file__).parents[2]
SETTINGS = {
    "steps": 120,
    "torso.hidden": [8],
    "output_layer.hidden": 8,
    "agent.learn_after_steps": 20,
    "agent.batch_size": 8,
    "evaluation.every_steps": 40,
    "evaluation.num_episodes": 2,
    "evaluation.final_episodes": 2,
    "log.every_steps": 20,
    "checkpoint.every_steps": 30,
}
OF_THE_CLOCK = ("seconds", "cpu_seconds", "time_logging", "run_dir", "steps_per_second", "cpu_ms_per_update")


class Killed(Exception):
    """Stands for a kill."""


def results_of(out: Path) -> dict[str, object]:
    """Every curve byte for byte, and the rest without what depends on the clock."""
    found: dict[str, object] = {p.name: p.read_bytes() for p in (out / "results").glob("*.csv")}
    for path in (out / "results").glob("*.json"):
        record = json.loads(path.read_text())
        record["summary"] = {k: v for k, v in record["summary"].items() if k not in OF_THE_CLOCK}
        found[path.name] = {k: v for k, v in record.items() if k != "source"}
    names = ("aggregates", "curves", "environments", "improvements", "profiles", "settings", "sweep")
    return found | {f"report/{n}": (out / "report" / f"{n}.csv").read_bytes() for n in names}


def test_killed_at_random_steps(monkeypatch, tmp_path):
    """Two heads, one seed, and a sweep before them: 6 runs of 120 steps, killed about every 60 steps."""
    monkeypatch.setattr(jobs, "train_in_process", lambda config, run_dir, *_: train(config, run_dir).exit_code)
    monkeypatch.setattr("agents.experiments.report.draw_all", lambda folder, score: [])
    line = Line(["mse", "two_hot"], ["catch"], 1, None, SETTINGS, Sweep("agent.lr", [1.0, 3.0], 1))
    train_and_report(line, tmp_path / "straight", 1, tmp_path)
    rng, advance, kills = random.Random(0), Run.advance, 0

    def killed(run):
        if rng.random() < 1 / 60:
            raise Killed
        advance(run)

    monkeypatch.setattr(Run, "advance", killed)
    for _ in range(100):
        try:
            train_and_report(line, tmp_path / "killed", 1, tmp_path)
            break
        except Killed:
            kills += 1
    assert kills >= 5
    assert results_of(tmp_path / "killed") == results_of(tmp_path / "straight")


class Started:
    """The command in a process that leads a group of its own."""

    def __init__(self, out: Path):
        environment = os.environ | {"PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"}
        settings = {**SETTINGS, "steps": 2_000, "evaluation.every_steps": 500, "checkpoint.every_steps": 100}
        options = [text for key, value in settings.items() for text in (f"--{key}", json.dumps(value))]
        command = [sys.executable, "-m", "agents", "compare", "--heads", "mse,two_hot", "--envs", "catch", *options]
        command += ["--seeds", "2", "--sweep", "agent.lr=1,3", "--sweep-seeds", "1", "--jobs", "2", "--out", str(out)]
        self.out = out
        self.process = subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def wait_for_steps(self, steps: int) -> None:
        while sum(len(p.read_bytes().splitlines()) for p in self.out.rglob("metrics.csv")) < steps / 20:
            assert self.process.poll() is None, "ended before it was killed"
            time.sleep(0.05)


@pytest.mark.slow
def test_killed_with_sigkill(tmp_path):
    straight = Started(tmp_path / "straight")
    assert straight.process.communicate()[0]
    assert straight.process.returncode == 0
    rng, out = random.Random(0), tmp_path / "killed"
    for at in (1_000, 4_000, 8_000):
        started = Started(out)
        started.wait_for_steps(at + rng.randrange(1_000))
        os.killpg(started.process.pid, signal.SIGKILL)
        started.process.communicate()
    alone = Started(out)
    alone.wait_for_steps(11_000)
    alone.process.kill()  # its runs go on without it, and are waited for
    alone.process.communicate()
    last = Started(out)
    said = last.process.communicate()[0]
    assert last.process.returncode == 0, said
    assert results_of(out) == results_of(tmp_path / "straight")
