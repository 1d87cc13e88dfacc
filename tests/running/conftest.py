"""A finished run of Catch with everything logged, and configurations of that size."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from agents.config import RunConfig
from agents.experiments.records import Record
from agents.running.record import record
from agents.running.trainer import train

SMALL = {
    "steps": 300,
    "torso.name": "mlp",
    "torso.hidden": [16],
    "agent.batch_size": 16,
    "agent.learn_after_steps": 50,
    "agent.replay_ratio": 0.5,
    "agent.max_grad_norm": 10.0,
    "evaluation.every_steps": 100,
    "evaluation.num_episodes": 3,
    "evaluation.final_episodes": 3,
    "log.every_steps": 20,
    "log.histogram_every_steps": 100,
    "checkpoint.every_steps": 150,
}


@pytest.fixture(scope="session")
def small() -> Callable[..., RunConfig]:
    """A configuration that trains in less than half a second; overrides are dotted."""

    def make(env: str = "catch", overrides: Mapping[str, Any] | None = None) -> RunConfig:
        config = RunConfig.parse({"env": {"id": env, "support": [-1.0, 1.0]}})
        return config.with_overrides(SMALL | dict(overrides or {}))

    return make


@pytest.fixture(scope="session")
def run_dir(small: Callable[..., RunConfig], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a finished run; leave it as it is."""
    path = tmp_path_factory.mktemp("finished")
    train(small(overrides={"seed": 3}), path)
    return path


OFFLINE = {
    "agent.name": "cql",
    "torso.name": "mlp",
    "torso.hidden": [16],
    "agent.batch_size": 16,
    "steps": 60,
    "evaluation.every_steps": 30,
    "evaluation.num_episodes": 2,
    "evaluation.final_episodes": 2,
    "log.every_steps": 20,
    "log.histogram_every_steps": 30,
}


@pytest.fixture(scope="session")
def recorded(run_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of 400 random steps in Catch; leave it as it is."""
    return record(run_dir, tmp_path_factory.mktemp("recorded") / "data", steps=400, epsilon=1.0, seed=0).dataset.path


@pytest.fixture(scope="session")
def offline(recorded: Path) -> Callable[..., RunConfig]:
    """A configuration that learns from recorded data; overrides are dotted."""

    def make(env: str = "catch", overrides: Mapping[str, Any] | None = None) -> RunConfig:
        config = RunConfig.parse({"env": {"id": env, "support": [-1.0, 1.0]}})
        return config.with_overrides(OFFLINE | {"agent.dataset": str(recorded)} | dict(overrides or {}))

    return make


@pytest.fixture
def make_record() -> Callable[..., Record]:
    """A finished run that nobody has trained; its returns decide its scores, `config` has dotted keys."""

    def make(
        head: str = "mse", env: str = "catch", seed: int = 1, returns: Sequence[float] = (0.0, 1.0), **config: Any
    ) -> Record:
        steps = [100 * (i + 1) for i in range(len(returns))]
        own = {"seed": seed, "steps": steps[-1], "env.id": env, "env.support": [-1.0, 1.0], "agent.lr": 1e-3}
        notes = {"versions": {"torch": "2.9.1", "numpy": "2.3.0"}, "python": "3.11.9", "support": "given"}
        summary = {"finished": True, "step": steps[-1], "best_return": max(returns), "last_return": returns[-1]}
        clock = {"seconds": 4.0, "cpu_seconds": 2.0}
        options = own | {"head.name": head} | config
        source = f"runs/{env}/{head}/s{seed}"
        return Record(head, env, seed, source, options, notes, summary | clock, 50.0, steps, list(returns))

    return make
