"""Is what goes to Minari and comes back the same, and is what Minari's own writer wrote read as it was meant?"""

import sys
import warnings

import gymnasium
import numpy as np
import pytest
import torch

from agents.config import ConfigError
from agents.networks.qnetwork import EnvSpec
from agents.replay.rows import Indices
from agents.running import dataset
from agents.running.minari_data import from_minari, to_minari
from agents.running.record import record
from agents.running.trainer import train


@pytest.fixture
def minari(tmp_path, monkeypatch):
    """The package, with an empty store."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "store"))
    pytest.importorskip("h5py")
    return pytest.importorskip("minari")


def loaded(data):
    about = data.description
    spec = EnvSpec(about.obs_shape, about.obs_dtype, about.num_actions, about.has_action_mask)
    return dataset.load(data, spec, n_step=2, gamma=0.5, seed=0)


def transitions(data):
    """Every transition, sorted: the order of episodes is not the same."""
    replay = loaded(data)
    starts = torch.cartesian_prod(torch.arange(replay.rows), torch.arange(replay.num_envs))
    batch = replay.gather(Indices.of(starts[:, 0], starts[:, 1], replay.num_envs))
    columns = [batch.obs, batch.action, batch.reward, batch.discount, batch.next_obs, batch.next_action]
    table = torch.cat([column.reshape(len(batch.action), -1).double() for column in columns], 1)
    return np.array(sorted(table.tolist()))


def test_there_and_back(minari, small, tmp_path):
    """Stacks in two environments, some episodes cut: the same transitions."""
    train(small(overrides={"steps": 40, "env.num_envs": 2, "env.frame_stack": 3, "env.max_steps": 7}), tmp_path / "run")
    data = record(tmp_path / "run", tmp_path / "data", steps=70, epsilon=0.5, seed=0).dataset
    to_minari(data, "mine/catch-v0")
    assert minari.load_dataset("mine/catch-v0").total_steps == 70
    back = from_minari("mine/catch-v0", tmp_path / "back")
    assert (back.description.num_envs, back.description.stack, back.steps) == (1, 1, 70)
    np.testing.assert_array_equal(transitions(back), transitions(data))
    with pytest.raises(ConfigError, match=r"^--minari mine/catch-v0: "):
        to_minari(data, "mine/catch-v0")


def test_what_others_wrote(minari, tmp_path):
    """Actions that begin at 5, float64 observations, an episode that breaks off and one that is terminated."""
    buffers = [
        minari.data_collector.EpisodeBuffer(
            observations=np.arange(length + 1, dtype=np.float64)[:, None] + 10 * length,
            actions=np.full(length, 4 + length),
            rewards=np.ones(length),
            terminations=np.arange(length) == (length - 1 if length == 3 else -1),
            truncations=np.zeros(length, bool),
            infos={},
        )
        for length in (2, 3)
    ]
    spaces = {
        "observation_space": gymnasium.spaces.Box(-100, 100, (1,), np.float64),
        "action_space": gymnasium.spaces.Discrete(3, start=5),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        minari.create_dataset_from_buffers("theirs-v1", buffers, **spaces)
    data = from_minari("theirs-v1", tmp_path / "data")
    batch = loaded(data).gather(Indices(torch.arange(5), num_envs=1))
    assert batch.obs[:, 0].tolist() == [20, 21, 30, 31, 32]
    assert batch.action.tolist() == [1, 1, 2, 2, 2]
    assert batch.reward.tolist() == [1.5, 1, 1.5, 1.5, 1]
    assert batch.discount.tolist() == [0.25, 0.5, 0.25, 0, 0]
    assert batch.next_obs[:, 0].tolist() == [22, 22, 32, 33, 33]
    assert data.description.about == {"minari": "theirs-v1", "env": {"id": None}}


def test_refused(minari, tmp_path):
    with pytest.raises(ConfigError, match=r"^minari:nothing-v0: .* not found locally"):
        from_minari("nothing-v0", tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_without_the_package(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(ConfigError, match=r"^Minari cannot be used .* pip install 'classyq\[minari\]'"):
        from_minari("theirs-v1", tmp_path / "data")
