"""Do observations that are bools stay bools from the environment to the data set, and become 0 and 1 in the network?"""

import numpy as np
import pytest
import torch

from agents.networks.base import as_floats
from agents.running.evaluation import load
from agents.running.minari_data import to_minari
from agents.running.record import record
from agents.running.trainer import train
from agents.seeding import child_seed
from envs import make_vector

STEPS, SEED = 120, 4


@pytest.fixture(scope="module")
def breakout(small, tmp_path_factory):
    """A run of Breakout in two environments, and what was recorded of it at random."""
    path = tmp_path_factory.mktemp("bools")
    brief = {"steps": 80, "env.num_envs": 2, "replay.capacity_steps": 64, "evaluation.max_steps": 30}
    train(small("minatar/breakout", brief), path / "run")
    return path / "run", record(path / "run", path / "data", steps=STEPS, epsilon=1.0, seed=SEED).dataset


def test_bools_are_0_and_1():
    seen = as_floats(torch.tensor([[True, False]]))
    assert (seen.dtype, seen.tolist()) == (torch.float32, [[1.0, 0.0]])


def test_a_data_set_of_bools_is_what_the_environments_showed(breakout):
    run_dir, data = breakout
    assert load(run_dir).spec.obs_dtype == data.description.obs_dtype == "bool"
    arrays = data.arrays()
    assert arrays["obs"].nbytes == STEPS * 10 * 10 * 4
    venv = make_vector("minatar/breakout", num_envs=2, seed=child_seed(SEED, "record: environments"))
    obs, finals = venv.reset(), []
    for row in range(STEPS // 2):
        np.testing.assert_array_equal(arrays["obs"][row], obs, strict=True)
        step = venv.step(arrays["action"][row])
        np.testing.assert_array_equal(arrays["terminal"][row], step.terminated)
        finals += list(step.next_obs[arrays["episode_end"][row]])
        obs = venv.reset_done(step.done)
    np.testing.assert_array_equal(arrays["final_obs"], np.array(finals), strict=True)
    assert len(finals) > 4


def test_it_is_learned_from(breakout, offline, tmp_path):
    changes = {"agent.dataset": str(breakout[1].path), "evaluation.max_steps": 30}
    assert train(offline("minatar/breakout", changes), tmp_path / "run").finished


def test_it_goes_to_minari(breakout, monkeypatch, tmp_path):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "store"))
    pytest.importorskip("h5py")
    minari = pytest.importorskip("minari")
    to_minari(breakout[1], "bools-v0")
    there = minari.load_dataset("bools-v0")
    space = there.observation_space
    assert (space.dtype, space.low.any(), space.high.all()) == (np.bool_, False, True)
    first = next(iter(there.iterate_episodes())).observations
    np.testing.assert_array_equal(first[:-1], breakout[1].arrays()["obs"][: len(first) - 1, 0], strict=True)
