"""Runs in pieces, and what is compared of two runs."""

import csv
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from agents.config import RunConfig
from agents.running import checkpoint
from agents.running.progress import Silent
from agents.running.run import Run
from agents.running.setup import build
from agents.running.trainer import Summary, train

TINY = {
    "steps": 400,
    "torso.name": "mlp",
    "torso.hidden": [16],
    "agent.batch_size": 16,
    "agent.learn_after_steps": 50,
    "agent.replay_ratio": 0.5,
    "agent.target_every_updates": 10,
    "agent.n_step": 3,
    "exploration.epsilon_steps": 300,
    "replay.capacity_steps": 150,  # wraps
    "evaluation.every_steps": 130,
    "evaluation.num_episodes": 2,
    "evaluation.final_episodes": 3,
    "evaluation.max_steps": 60,
    "log.every_steps": 20,
    "log.histogram_every_steps": 50,
    "checkpoint.every_steps": 90,
}
OF_THE_CLOCK = ("time/", "charts/SPS", "sys/")


class Teller(Silent):
    """Keeps what a run says."""

    def __init__(self) -> None:
        super().__init__(1)
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


class Course(NamedTuple):
    """A run trained to its end in one or more pieces."""

    run: Run  # of the last piece
    summaries: list[Summary]
    said: list[str]

    @property
    def summary(self) -> Summary:
        return self.summaries[-1]


@pytest.fixture
def tiny() -> Callable[..., RunConfig]:
    """A configuration that trains in half a second; overrides are dotted."""

    def make(env: str = "catch", overrides: Mapping[str, Any] | None = None) -> RunConfig:
        config = RunConfig.parse({"env": {"id": env, "support": [-2.0, 30.0] if "Cart" in env else [-1.2, 1.2]}})
        return config.with_overrides(TINY).with_overrides(overrides or {})

    return make


@pytest.fixture
def without_replay() -> Callable[..., RunConfig]:
    """As `tiny`, for agents that keep no transitions."""

    def make(env: str, overrides: Mapping[str, Any]) -> RunConfig:
        config = RunConfig.parse({"env": {"id": env, "support": [-2.0, 30.0]}, "agent": overrides["agent.name"]})
        own = ("agent.", "replay.")
        return config.with_overrides({k: v for k, v in TINY.items() if not k.startswith(own)} | dict(overrides))

    return make


@pytest.fixture
def train_in_pieces(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Course]:
    """Trains to the end; at every step of `stops` a scheduler's signal arrives, and a fresh call goes on."""
    advance = Run.advance

    def in_pieces(config: RunConfig, run_dir: Path, stops: Sequence[int] = ()) -> Course:
        runs, summaries, left, teller = [], [], sorted(stops), Teller()

        def watched(run: Run) -> None:
            runs.append(run)
            advance(run)
            if left and run.step >= left[0]:
                left.pop(0)
                signal.raise_signal(signal.SIGTERM)

        monkeypatch.setattr(Run, "advance", watched)
        while not summaries or not summaries[-1].finished:
            summaries.append(train(config, run_dir, reporter=teller))
        assert len(summaries) == len(stops) + 1
        return Course(runs[-1], summaries, teller.lines)

    return in_pieces


def state_of(run: Run) -> dict[str, Any]:
    """Everything that decides what happens next, the rows of replay included."""
    replay = run.agent.kept()
    rows = {} if replay is None else replay.segment(max(0, replay.rows - replay.num_rows), replay.rows)
    state = run.state_dict() | {"rows": rows, "step": run.step}
    del state["clock"]  # how long it took decides nothing
    return state


def unequal(left: Any, right: Any, place: str = "") -> list[str]:
    """Where two nested states are not the same to the bit."""
    if isinstance(left, torch.Tensor):
        same = isinstance(right, torch.Tensor) and left.dtype == right.dtype and torch.equal(left, right)
        return [] if same else [place]
    if isinstance(left, dict):
        if not isinstance(right, dict) or left.keys() != right.keys():
            return [f"{place} keys"]
        return [found for key in left for found in unequal(left[key], right[key], f"{place}/{key}")]
    if isinstance(left, list | tuple):
        if not isinstance(right, list | tuple) or len(left) != len(right):
            return [f"{place} length"]
        return [
            found for i, pair in enumerate(zip(left, right, strict=True)) for found in unequal(*pair, f"{place}/{i}")
        ]
    return [] if type(left) is type(right) and left == right else [place]


def table_of(run_dir: Path) -> list[dict[str, str]]:
    """metrics.csv without what depends on the clock and the machine."""
    with (run_dir / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if v and not k.startswith(OF_THE_CLOCK)} for row in rows]


@pytest.fixture
def assert_same_course() -> Callable[[Path, Path], None]:
    """Two run directories hold the same: last checkpoint, replay, best policy, metrics, scores."""

    def compare(left: Path, right: Path) -> None:
        states = []
        for run_dir in (left, right):
            last = checkpoint.found(run_dir)[-1]
            file = torch.load(last, weights_only=True)
            del file["segments"], file["clock"]  # cut where it was saved; how long it took
            config = RunConfig.preset(str(run_dir / "config.json"))
            run = build(config, run_dir, Silent(1))
            run.load(last)
            best = torch.load(run_dir / "best.pt", weights_only=True)
            states.append({"file": file, "run": state_of(run), "best": best})
            run.venv.close()
        assert unequal(*states) == []
        assert table_of(left) == table_of(right)

    return compare


@pytest.fixture
def assert_same_run() -> Callable[[Course, Course], None]:
    """The runs in memory are the same, and so are their scores and metrics."""

    def compare(left: Course, right: Course) -> None:
        assert unequal(state_of(left.run), state_of(right.run)) == []
        assert table_of(left.run.run_dir) == table_of(right.run.run_dir)
        scores = [(c.summary.step, c.summary.best_return, c.summary.last_return) for c in (left, right)]
        assert scores[0] == scores[1]
        best = [torch.load(c.run.run_dir / "best.pt", weights_only=True) for c in (left, right)]
        assert unequal(*best) == []

    return compare


@pytest.fixture(name="unequal")
def unequal_fixture() -> Callable[..., list[str]]:
    return unequal


@pytest.fixture(name="state_of")
def state_of_fixture() -> Callable[[Run], dict[str, Any]]:
    return state_of


@pytest.fixture(name="table_of")
def table_of_fixture() -> Callable[[Path], list[dict[str, str]]]:
    return table_of
