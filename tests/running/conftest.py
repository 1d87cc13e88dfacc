"""A finished run of Catch with everything logged, and configurations of that size."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from agents.config import RunConfig
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
