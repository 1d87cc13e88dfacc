"""Several runs at once, each in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import typer

from agents.config import RunConfig
from agents.running.runs import new_run_dir


def train_in_process(config: RunConfig, run_dir: Path, init_from: Path | None = None) -> int:
    """Train `config` in a new process, its output in run_dir/log.txt; its exit code."""
    run_dir.mkdir(parents=True, exist_ok=True)
    file = run_dir / "requested.json"
    file.write_text(json.dumps(config.plain()), encoding="utf-8")
    command = [sys.executable, "-m", "agents", "train", str(file), "--run-dir", str(run_dir)]
    command += ["--init-from", str(init_from)] if init_from else []
    with (run_dir / "log.txt").open("a") as log:
        return subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, env=os.environ, check=False).returncode


def train_all(configs: Sequence[RunConfig], run_dirs: Sequence[Path], jobs: int, init_from: Path | None = None) -> int:
    """Train each configuration in its directory, `jobs` at a time; how many failed. Says a line as each one ends."""
    done = 0

    def one(config: RunConfig, run_dir: Path) -> bool:
        nonlocal done
        code = train_in_process(config, run_dir, init_from)
        done += 1
        typer.echo(f"{done:>4} of {len(configs)}  {run_dir}  {outcome(run_dir, code)}")
        return code != 0

    with ThreadPoolExecutor(jobs) as pool:
        return sum(pool.map(one, configs, run_dirs))


def outcome(run_dir: Path, code: int) -> str:
    """How a run ended, in a few words."""
    if code:
        lines = (run_dir / "log.txt").read_text().strip().splitlines() or [""]
        return f"failed with exit code {code}: {lines[-1]}"
    summary = json.loads((run_dir / "summary.json").read_text())
    return f"best {summary['best_return']:.1f}, last {summary['last_return']:.1f}"


def train_seeds(config: RunConfig, seeds: int, jobs: int, root: Path, init_from: Path | None) -> int:
    """The same configuration with `seeds` seeds from config.seed upwards; 0 where all ended well, else 1."""
    configs = [config.with_overrides({"seed": config.seed + i}) for i in range(seeds)]
    return 1 if train_all(configs, [new_run_dir(c, root) for c in configs], jobs, init_from) else 0
