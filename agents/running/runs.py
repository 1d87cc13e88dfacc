"""Run directories: where new ones go, and finding those there are."""

import json
import re
import shutil
import time
from pathlib import Path
from typing import Any, NamedTuple

from agents.config import RunConfig
from agents.running import checkpoint
from agents.tables import ConfigError, nearest


class RunInfo(NamedTuple):
    """A run as `classyq runs` lists it."""

    path: Path
    step: int  # of the last checkpoint
    steps: int
    best_return: float | None
    num_bytes: int
    started: float  # seconds since the epoch


def new_run_dir(config: RunConfig, root: Path) -> Path:
    """root/<environment>/<agent>+<head>/s<seed>-<time>, not there yet."""
    env = re.sub(r"[^\w.-]+", "-", config.env.id).strip("-.")
    base = root / env / f"{config.agent.name}+{config.head.name}".replace(":", "-")
    name = f"s{config.seed}-{time.strftime('%Y%m%d-%H%M%S')}"
    taken = [*base.glob(f"{name}*")]
    return base / (f"{name}-{len(taken) + 1}" if taken else name)


def find_runs(root: Path) -> list[Path]:
    """Directories below `root` that hold a run, the latest started last."""
    return sorted((p.parent for p in root.rglob("config.json")), key=lambda d: (d / "config.json").stat().st_mtime)


def resolve_run(name: str, root: Path) -> Path:
    """The directory of a run: a path, a path below `root`, or `last`.

    Raises:
        ConfigError: where there is none, with the nearest.
    """
    runs = find_runs(root)
    if not name:
        raise ConfigError("the name of the run is empty")
    if name == "last" and runs:
        return runs[-1]
    for path in (Path(name), root / name):
        if (path / "config.json").is_file():
            return path
    if not runs:
        raise ConfigError(f"there are no runs in {root}/ yet: classyq train")
    raise ConfigError(f"no run {name!r}{nearest(name, [*map(str, runs[-5:]), 'last'])}")


def info(path: Path) -> RunInfo:
    """What there is to say about a run without loading it."""
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    summary = path / "summary.json"
    best = json.loads(summary.read_text(encoding="utf-8"))["best_return"] if summary.is_file() else None
    saved = checkpoint.found(path)
    step = int(saved[-1].stem.removeprefix("step-")) if saved else 0
    size = sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
    return RunInfo(path, step, config["steps"], best, size, (path / "config.json").stat().st_mtime)


def read_summary(run_dir: Path) -> dict[str, Any] | None:
    """The summary of a run that is finished, or None."""
    path = run_dir / "summary.json"
    summary = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    return summary if summary and summary["finished"] else None


def delete(path: Path) -> None:
    """Remove a run and all it wrote."""
    shutil.rmtree(path)
