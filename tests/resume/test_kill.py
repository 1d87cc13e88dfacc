"""kill -9 at random moments: the run that is resumed ends as one that never was killed.

    pytest -m slow tests/resume/test_kill.py

kills each of three runs ten times, half of them while a file is being written. The fast test kills once.
"""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agents.running.trainer import train

HERE = Path(__file__).parents[2]
EVERY = 100  # steps between checkpoints


class Killed:
    """One process that trains, and the moment it is killed."""

    def __init__(self, run_dir: Path, *arguments: str):
        self.run_dir = run_dir
        environment = os.environ | {"PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "agents", *arguments]
        self.process = subprocess.Popen(
            command, cwd=run_dir.parent, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def started_at(self) -> int:
        """The step that it began with, from what it says."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if line == f"{self.run_dir} has no checkpoint yet: it begins again\n":
            line = self.process.stdout.readline()
        found = re.fullmatch(rf"resume {re.escape(str(self.run_dir))} at step ([\d,]+)\n", line)
        if found is None:
            assert line.startswith(f"run    {self.run_dir}"), line + self.process.stdout.read()
        return int(found[1].replace(",", "")) if found else 0

    def wait_until(self, step: int) -> None:
        while reached(self.run_dir) < step:
            assert self.process.poll() is None, f"ended before step {step}"
            time.sleep(0.003)

    def wait_for_writing(self) -> None:
        """Until a half-written file is there; a moment that is missed is made up for by the next one."""
        while not any(self.run_dir.glob("*/*.partial")):
            assert self.process.poll() is None, "ended before a file was written"
            time.sleep(0.0003)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()
        assert self.process.returncode == -signal.SIGKILL


def reached(run_dir: Path) -> int:
    """The last step in metrics.csv: at least so far the run has come."""
    path = run_dir / "metrics.csv"
    if not path.is_file():
        return 0
    steps = [line.split(b",")[0] for line in path.read_bytes().splitlines()[1:]]
    return int(steps[-1]) if steps else 0


def kill_and_resume(config, run_dir: Path, num_kills: int, seed: int) -> None:
    """Start, kill `num_kills` times spread over the run, and resume each time; at most EVERY steps are redone."""
    rng = random.Random(seed)
    config_file = run_dir.parent / "config.json"
    config_file.write_text(json.dumps(config.plain()))
    arguments = ["train", str(config_file), "--run-dir", str(run_dir)]
    at_kill = 0
    for i in range(num_kills):
        process = Killed(run_dir, *arguments)
        redone = at_kill - process.started_at()
        assert redone <= EVERY, f"{redone} steps were lost by kill {i}"
        part = (config.steps - 2 * EVERY) / num_kills
        process.wait_until(int(part * (i + rng.random())))
        if i % 2 == 1:
            process.wait_for_writing()
        else:
            time.sleep(rng.uniform(0, 0.05))
        process.kill()
        at_kill = reached(run_dir)
        arguments = ["resume", str(run_dir)]
    last = Killed(run_dir, *arguments)
    assert at_kill - last.started_at() <= EVERY
    out, _ = last.process.communicate()
    assert last.process.returncode == 0, out


def config_for(tiny, env: str, steps: int):
    return tiny(
        env,
        {
            "steps": steps,
            "checkpoint.every_steps": EVERY,
            "log.every_steps": 10,
            "evaluation.every_steps": 250,
            "replay.capacity_steps": 320,
            "agent.replay_ratio": 0.5,
            "head.name": "iqn" if env == "catch" else "hl_gauss",
        },
    )


@pytest.mark.parametrize("env", ["catch", "CartPole-v1"])
def test_killed_once(env, tiny, assert_same_course, tmp_path):
    config = config_for(tiny, env, 400)
    train(config, tmp_path / "straight")
    kill_and_resume_here(config, tmp_path / "killed", seed=["catch", "CartPole-v1"].index(env))
    assert_same_course(tmp_path / "straight", tmp_path / "killed")


def kill_and_resume_here(config, run_dir: Path, seed: int) -> None:
    """As above with one kill, resumed in this process, which need not import torch again."""
    rng = random.Random(seed)
    config_file = run_dir.parent / "config.json"
    config_file.write_text(json.dumps(config.plain()))
    process = Killed(run_dir, "train", str(config_file), "--run-dir", str(run_dir))
    assert process.started_at() == 0
    process.wait_until(rng.randrange(EVERY + 10, 290))
    process.wait_for_writing()
    process.kill()
    saved = int(sorted(run_dir.glob("checkpoints/step-*.pt"))[-1].stem[5:])
    assert reached(run_dir) - saved <= EVERY
    assert train(config, run_dir).finished


@pytest.mark.slow
@pytest.mark.parametrize("env", ["catch", "CartPole-v1"])
def test_killed_ten_times(env, tiny, assert_same_course, tmp_path):
    config = config_for(tiny, env, 4_000)
    train(config, tmp_path / "straight")
    kill_and_resume(config, tmp_path / "killed", num_kills=10, seed=["catch", "CartPole-v1"].index(env))
    assert_same_course(tmp_path / "straight", tmp_path / "killed")


@pytest.mark.slow
def test_atari_killed_ten_times(tiny, assert_same_course, tmp_path):
    """Four games with sticky actions, the frames of their replay in a file, of which nothing is left behind."""
    atari = {"env.num_envs": 4, "env.protocol": "machado", "replay.map_dir": str(tmp_path / "map")}
    config = config_for(tiny, "ALE/Breakout-v5", 4_000).with_overrides(atari)
    train(config, tmp_path / "straight")
    kill_and_resume(config, tmp_path / "killed", num_kills=10, seed=2)
    assert_same_course(tmp_path / "straight", tmp_path / "killed")
    assert list((tmp_path / "map").iterdir()) == []
