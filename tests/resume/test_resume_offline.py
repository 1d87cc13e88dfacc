"""A run that learns from recorded data, interrupted: exact, without a copy of the data, and with the same data only."""

import json
import shutil

import pytest
import torch

from agents.config import ConfigError, RunConfig
from agents.running import checkpoint
from agents.running.checkpoint import CheckpointError
from agents.running.record import record
from agents.running.trainer import train

OFFLINE = {
    "agent.name": "cql",
    "steps": 120,
    "torso": {"name": "mlp", "hidden": [16]},
    "agent.batch_size": 16,
    "agent.target_every_updates": 10,
    "agent.n_step": 3,
    "regularizers": {"cql": {"alpha": 0.1}},
    "evaluation.every_steps": 50,
    "evaluation.num_episodes": 2,
    "evaluation.final_episodes": 3,
    "log.every_steps": 10,
    "log.histogram_every_steps": 50,
    "checkpoint.every_steps": 40,
}


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """A data set of Catch."""
    path = tmp_path_factory.mktemp("played")
    config = RunConfig.parse({"env": {"id": "catch", "support": [-1, 1], "num_envs": 2}, "steps": 20})
    train(config.with_overrides({"evaluation.final_episodes": 1}), path / "run")
    return record(path / "run", path / "data", steps=200, epsilon=1.0, seed=0).dataset.path


@pytest.fixture
def config(played, tmp_path):
    """A configuration with a data set of its own."""
    shutil.copytree(played, tmp_path / "data")
    config = RunConfig.parse({"env": {"id": "catch", "support": [-1, 1]}})
    return config.with_overrides(OFFLINE | {"agent.dataset": str(tmp_path / "data")})


CASES = {
    "hl_gauss": {},
    "iqn draws": {"head.name": "iqn"},
    "everything normalised": {"agent.normalize_obs": True, "agent.normalize_reward": True},
}


@pytest.mark.parametrize("case", CASES)
def test_interrupted_twice(case, config, train_in_pieces, assert_same_course, tmp_path):
    config = config.with_overrides(CASES[case])
    train_in_pieces(config, tmp_path / "straight")
    train_in_pieces(config, tmp_path / "pieces", [33, 90])
    assert_same_course(tmp_path / "straight", tmp_path / "pieces")
    assert not (tmp_path / "pieces" / "replay").exists()
    state = torch.load(checkpoint.found(tmp_path / "pieces")[-1], weights_only=True)
    assert state["segments"] == []
    assert checkpoint.num_bytes(state["agent"]) < 200_000


def stopped(config, train_in_pieces, run_dir):
    """A run with a checkpoint of its end and without its score, so that it goes on."""
    train_in_pieces(config, run_dir)
    (run_dir / "summary.json").unlink()


def test_the_data_have_changed(config, train_in_pieces, tmp_path):
    stopped(config, train_in_pieces, tmp_path / "run")
    path = tmp_path / "data" / "dataset.json"
    whole = path.read_text()
    path.write_text(json.dumps(json.loads(whole) | {"about": {"changed": True}}))
    with pytest.raises(
        CheckpointError,
        match=r"the data set .*data is not the one that this run began with: it has .* [\da-f]{8}$",
    ):
        train(config, tmp_path / "run")
    path.write_text(whole)
    assert train(config, tmp_path / "run").finished


def test_the_data_are_damaged_or_gone(config, train_in_pieces, tmp_path):
    stopped(config, train_in_pieces, tmp_path / "run")
    with (tmp_path / "data" / "reward.npy").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ConfigError, match=r"reward.npy is missing or damaged: its CRC-32"):
        train(config, tmp_path / "run")
    shutil.rmtree(tmp_path / "data")
    with pytest.raises(ConfigError, match="data is no data set"):
        train(config, tmp_path / "run")


def test_environments_that_are_not_deterministic_do_not_matter(config, train_in_pieces, tmp_path):
    """They are not played, so there is nothing in them to go on with, and no note about them."""
    wrapped = f"{tmp_path}/moody.py:Moody"
    (tmp_path / "moody.py").write_text(
        "import numpy as np\nfrom envs.toy import Catch\n\n\nclass Moody(Catch):\n    starts = 0\n\n"
        "    def observe(self):\n        obs = super().observe()\n        if self._ball_row == 0:\n"
        "            Moody.starts += 1\n            obs[5, 0] = Moody.starts\n        return obs\n"
    )
    config = config.with_overrides({"env.id": wrapped, "env.support": [-1, 1], "evaluation.every_steps": 1_000})
    pieces = train_in_pieces(config, tmp_path / "pieces", [60])
    assert not [line for line in pieces.said if "deterministic" in line]
