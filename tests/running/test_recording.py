"""Is what is recorded what happened? An environment that tells where it is, played by the policy of a run."""

from pathlib import Path

import numpy as np
import pytest
import torch

from agents.config import ConfigError
from agents.replay import memory
from agents.replay.rows import Indices
from agents.running import dataset
from agents.running.evaluation import load
from agents.running.record import record
from agents.running.trainer import train

COUNTER = f"{Path(__file__).parents[1] / 'envs' / 'worlds.py'}:Counter"
MASKED = f"{Path(__file__).with_name('test_masks_learned_from.py')}:Marked"
GAMMA = 0.5


@pytest.fixture(scope="module")
def counting(small, tmp_path_factory):
    """A run in two environments that count, with episodes of at most four steps."""
    path = tmp_path_factory.mktemp("counting")
    brief = {
        "steps": 60,
        "env.num_envs": 2,
        "env.max_steps": 4,
        "env.support": [0, 9e4],
        "evaluation.final_episodes": 1,
    }
    train(small(COUNTER, brief), path)
    return path


def loaded(made, spec, n_step=1):
    return dataset.load(made.dataset, spec, n_step=n_step, gamma=GAMMA, seed=0)


@pytest.mark.parametrize("n", [1, 3])
def test_every_transition_is_what_happened(n, counting, tmp_path):
    """Observations are (episode, t, last action), rewards 100 * episode + t; even episodes are terminated."""
    made = record(counting, tmp_path / "data", steps=61, epsilon=0.7, seed=3)
    assert made.dataset.steps == 62, "whole rows"
    replay = loaded(made, load(counting).spec, n)
    starts = torch.cartesian_prod(torch.arange(31), torch.arange(2))
    batch = replay.gather(Indices.of(starts[:, 0], starts[:, 1], num_envs=2))
    last_episode, last_t = batch.obs[-2:, 0].tolist(), batch.obs[-2:, 1].int().tolist()
    kinds = set()
    for row, env in starts.tolist():
        i = row * 2 + env
        episode, t, _ = (int(x) for x in batch.obs[i])
        length = min(3 + episode % 3, 4)
        terminated = episode % 2 == 0 and 3 + episode % 3 <= 4
        if episode == last_episode[env] and last_t[env] + 1 < length:  # cut at the end of the recording
            length, terminated = last_t[env] + 1, False
        steps = min(n, length - t)
        ends = t + steps == length
        kinds.add((ends, ends and terminated, steps))
        assert batch.reward[i] == sum(GAMMA**k * (100 * episode + t + 1 + k) for k in range(steps))
        assert batch.discount[i] == (0 if ends and terminated else GAMMA**steps)
        assert batch.next_obs[i, :2].tolist() == [episode, t + steps]
        if steps == 1:
            assert batch.next_obs[i, 2] == batch.action[i]
        assert (batch.next_action[i] == -1) == ends
    assert {(False, False, n), (True, True, 1), (True, False, 1)} <= kinds


def test_what_is_said_of_it(counting, tmp_path):
    """Episodes are in order, from the first; returns and cuts are counted."""
    made = record(counting, tmp_path / "data", steps=62, epsilon=0.7, seed=3)
    episodes = made.dataset.episodes()
    whole = [sum(e) for e in episodes if len(e) == min(3 + int(e[0]) // 100 % 3, 4)]
    assert sorted(made.returns) == sorted(whole)
    assert made.num_cut == len(episodes) - len(whole)
    about = made.dataset.description.about
    assert about["env"]["id"] == COUNTER
    assert (about["epsilon"], about["seed"], about["episodes"]) == (0.7, 3, len(made.returns))
    assert about["mean_return"] == pytest.approx(np.mean(made.returns))
    assert made.dataset.description.num_envs == 2


def test_nothing_ends_in_a_short_recording(run_dir, tmp_path):
    made = record(run_dir, tmp_path / "data", steps=5, epsilon=0.5, seed=0)
    assert (made.returns, made.num_cut) == ([], 1)
    assert made.dataset.description.about["mean_return"] is None
    assert made.dataset.episodes() == [[0.0] * 5]


def test_the_policy_and_its_share_of_random_actions(run_dir, tmp_path):
    """epsilon 0 is the greedy policy; 1 takes all actions equally often; the seed decides, and gives other episodes."""

    def actions(name, **options):
        made = record(run_dir, tmp_path / name, **{"steps": 300, "epsilon": 0.0, "seed": 0, **options})
        replay = loaded(made, load(run_dir).spec)
        obs = replay.observations.frames[:300, 0]
        return obs, replay.action[:300, 0]

    policy = load(run_dir)
    obs, action = actions("greedy")
    assert torch.equal(action, torch.from_numpy(policy.act(obs.numpy())))
    same, other = actions("same"), actions("other", seed=1)
    assert torch.equal(obs, same[0])
    assert not torch.equal(obs, other[0])
    counts = np.bincount(actions("random", epsilon=1.0)[1], minlength=3)
    assert counts.min() > 70, "300 / 3, four standard deviations of 8 less"


def test_masks_lie_beside_their_observations(small, tmp_path):
    train(small(MASKED, {"steps": 60, "env.num_envs": 2, "evaluation.max_steps": 20}), tmp_path / "run")
    made = record(tmp_path / "run", tmp_path / "data", steps=200, epsilon=0.5, seed=0)
    batch, _ = loaded(made, load(tmp_path / "run").spec, 2).sample(300)
    assert torch.equal(batch.mask, batch.obs.bool())
    assert torch.equal(batch.next_mask, batch.next_obs.bool())


def test_stacks_are_kept_once(small, tmp_path):
    config = small(overrides={"steps": 60, "env.frame_stack": 3, "env.num_envs": 2})
    train(config, tmp_path / "run")
    made = record(tmp_path / "run", tmp_path / "data", steps=100, epsilon=0.5, seed=0)
    assert made.dataset.description.stack == 3
    assert np.load(made.dataset.path / "obs.npy").shape == (50, 2, 10, 5)
    batch, _ = loaded(made, load(tmp_path / "run").spec).sample(100)
    assert batch.obs.shape == (100, 3, 10, 5)
    ball = batch.obs[:, :, :-1].argmax(2).amax(2)  # the row of the ball in each frame, 0 .. 8
    assert ((ball[:, 1:] - ball[:, :-1] == 1) | (ball[:, :-1] == 0)).all(), "frames in order"


def test_refused_before_anything_is_played(run_dir, recorded, monkeypatch, tmp_path):
    monkeypatch.setattr("agents.running.evaluation.play", None)
    with pytest.raises(ConfigError, match="is there already, and a data set is never changed"):
        record(run_dir, recorded, steps=5, epsilon=0.5, seed=0)
    monkeypatch.setattr(memory, "free_bytes", lambda place: 10_000)
    with pytest.raises(ConfigError, match=r"5,000 steps needs .* what fits is --steps \d+"):
        record(run_dir, tmp_path / "data", steps=5_000, epsilon=0.5, seed=0)
    assert not (tmp_path / "data").exists()
