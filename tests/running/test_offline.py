"""Learning from recorded data: is nothing played, is what is configured applied to the data, and does it matter?"""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from agents.agent import Transition
from agents.config import ConfigError
from agents.normalization import RewardScale
from agents.replay.rows import Indices
from agents.running import run as running
from agents.running.evaluation import load
from agents.running.progress import Silent
from agents.running.record import record
from agents.running.setup import build, describe
from agents.running.support import resolve_support
from agents.running.trainer import train
from envs.toy import Catch
from envs.value_range import suggest_support

MASKED = f"{Path(__file__).with_name('test_masks_learned_from.py')}:Marked"
STIFF = f"{__file__}:Stiff"


class Stiff(Catch):
    """Can be looked at, and breaks when it is played."""

    def __init__(self):
        super().__init__()
        self.return_range = None

    def step(self, action):
        raise AssertionError("somebody played")


def table_of(run_dir: Path) -> list[dict[str, str]]:
    with (run_dir / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def updated(config, num_updates):
    """An agent after some updates, made by its run."""
    run = build(config, Path("nowhere"), Silent(1))
    for _ in range(num_updates):
        run.advance()
    return run.agent


def weights(agent):
    return torch.cat([p.flatten() for p in agent.online.parameters()])


def test_an_environment_is_never_stepped(offline):
    agent = updated(offline(STIFF, {"agent.n_step": 3}), 20)
    assert (agent.step, agent.learner.num_updates) == (20, 20)


def test_a_run(offline, monkeypatch, tmp_path):
    """A step is an update; no episodes but those of evaluations, and these are played in other environments."""
    make = running.make_training_env

    def stiff(config):
        venv = make(config)
        venv.send = venv.recv = None
        return venv

    monkeypatch.setattr(running, "make_training_env", stiff)
    summary = train(offline(), tmp_path)
    assert (summary.step, summary.finished) == (60, True)
    rows = table_of(tmp_path)
    assert [int(row["step"]) for row in rows] == [20, 30, 40, 60]
    assert float(rows[-1]["replay/updates"]) == 60
    assert float(rows[-1]["replay/size"]) == 400
    columns = set(rows[0])
    assert {"eval/episodic_return", "losses/td_loss", "charts/SPS", "value/frac_target_clipped"} <= columns
    assert not [c for c in columns if "episodic" in c and not c.startswith("eval/")]
    assert not {"charts/frames", "charts/epsilon", "value/bias"} & columns
    assert load(tmp_path).act(np.zeros((10, 5), np.float32)) in range(3)
    assert not (tmp_path / "replay").exists(), "the data are not copied"


def test_it_says_what_a_step_is(offline, recorded):
    config = offline()
    text = describe(config, build(config, Path("nowhere"), Silent(1)), "given")
    plan = "60 steps, each of them 1 update of 16 and none in an environment; each of the 400 recorded steps "
    assert plan + f"({recorded}) is learned from 2.4 times" in text


def test_frames_of_an_emulator_are_not_counted(offline, monkeypatch):
    run = build(offline(), Path("nowhere"), Silent(1))
    monkeypatch.setattr(run.venv, "frames_per_step", 4)
    run.advance()
    assert "charts/frames" not in run.scalars(1.0)
    run.agent.acts = True
    assert run.scalars(1.0)["charts/frames"] == 4


def test_it_stores_nothing(offline):
    agent = updated(offline(), 0)
    nothing = np.zeros(1)
    with pytest.raises(TypeError, match="cql learns from a data set, which nothing is added to"):
        agent.observe(Transition(*[nothing] * 6, None, None))


def test_the_regulariser_matters(offline, run_dir, tmp_path):
    """With it the values of actions that are not in the data are pushed down: the gap that it penalises is smaller."""
    data = record(run_dir, tmp_path / "data", steps=400, epsilon=0.0, seed=0).dataset
    greedily = {"agent.dataset": str(data.path), "agent.lr": 1e-2}
    gaps, ends = [], []
    for alpha in (0.0, 1.0):
        agent = updated(offline(overrides=greedily | {"regularizers": {"cql": {"alpha": alpha}}}), 60)
        batch = agent.data.gather(Indices(torch.arange(400), num_envs=1))
        with torch.no_grad():
            q_values = agent.online(batch.obs).mean()
        gaps.append(float((q_values.logsumexp(-1) - q_values.gather(1, batch.action[:, None]).squeeze(1)).mean()))
        ends.append(weights(agent))
        assert agent.metrics()["losses/cql"] == pytest.approx(alpha * gaps[-1], rel=0.3), "of the last batch"
    assert not torch.equal(*ends)
    assert gaps[1] < gaps[0] - 0.02
    assert torch.equal(weights(updated(offline(overrides=greedily), 60)), ends[0]), "a weight of 0 is none"


def test_the_future_is_recorded_too(offline, tmp_path):
    """Self-prediction from a data set: its last steps are sampled as well, with a mask."""
    config = offline(overrides={"regularizers.self_prediction.steps": 3, "output_layer.hidden": 8})
    agent = updated(config, 3)
    batch, _ = agent.data.sample(64)
    assert batch.future_mask.shape == (64, 3)
    assert 0 < batch.future_mask.float().mean() < 1
    assert agent.last_update.terms["self_prediction"] > 0
    assert len(agent.data) == agent.data.rows * agent.data.num_envs


def test_masks_reach_the_learner(small, offline, tmp_path):
    train(small(MASKED, {"steps": 60, "evaluation.max_steps": 20}), tmp_path / "run")
    data = record(tmp_path / "run", tmp_path / "data", steps=300, epsilon=1.0, seed=0).dataset
    config = offline(MASKED, {"agent.dataset": str(data.path), "regularizers": {"cql": {"alpha": 1.0}}})
    agent = updated(config, 1)
    batch, _ = agent.data.sample(200)
    assert torch.equal(batch.mask, batch.obs.bool())
    assert torch.equal(batch.next_mask, batch.next_obs.bool())
    assert batch.mask.gather(1, batch.action[:, None]).all()
    update = agent.learner.update(batch)
    # log sum_a exp Q - Q(s, a) over the legal actions alone would be greater if illegal ones were in the sum
    with torch.no_grad():
        gap = update.terms["cql"]
    agent.learner.set_lr(0.0)
    open_gap = agent.learner.update(batch._replace(mask=None)).terms["cql"]
    assert gap < open_gap


def test_rewards_are_clipped_then_normalised(offline, tmp_path, small):
    """Once and over the whole data set, by the statistics that a run in the environment would have at its end."""
    train(small("CartPole-v1", {"steps": 60, "env.num_envs": 2, "evaluation.max_steps": 20}), tmp_path / "run")
    data = record(tmp_path / "run", tmp_path / "data", steps=300, epsilon=1.0, seed=0).dataset
    options = {"agent.dataset": str(data.path), "agent.reward_clip": 0.5, "agent.gamma": 0.9}
    clipped = updated(offline("CartPole-v1", options), 2)
    assert clipped.data.reward[:150].unique().tolist() == [0.5]
    assert clipped.reward_factor() == 1.0
    agent = updated(offline("CartPole-v1", options | {"agent.normalize_reward": True}), 2)
    scale = RewardScale(2, 0.9)
    for row in range(150):
        scale.update(np.full(2, 0.5), agent.data.episode_end[row].numpy())
    running_returns = [
        sum(0.9**k * 0.5 for k in range(t)) for episode in data.episodes() for t in range(1, len(episode) + 1)
    ]
    assert len(running_returns) == 300
    factor = 1 / np.std(running_returns)
    assert agent.reward_factor() == pytest.approx(factor, rel=1e-6)
    assert agent.reward_factor() == scale.factor()
    assert agent.data.reward[:150].unique().tolist() == [pytest.approx(0.5 * factor, rel=1e-6)]
    assert agent.metrics()["replay/reward_scale"] == agent.reward_factor()
    policy = train(offline("CartPole-v1", options | {"agent.normalize_reward": True}), tmp_path / "offline").run_dir
    assert load(policy).reward_factor == agent.reward_factor()


def test_observations_are_normalised_by_all_rows(offline, recorded, monkeypatch):
    """In parts, none left out and the final ones not among them; both networks see the same."""
    monkeypatch.setattr("agents.cql.STATISTICS_BATCH", 37)
    agent = updated(offline(overrides={"agent.normalize_obs": True}), 1)
    normalizer, obs = agent.online.normalizer, np.load(recorded / "obs.npy").reshape(400, 10, 5)
    assert agent.learner.target.normalizer is normalizer
    assert normalizer.count == 400
    np.testing.assert_allclose(normalizer.mean, obs.mean(0, dtype=np.float64), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(normalizer.var, obs.var(0, dtype=np.float64), rtol=1e-10, atol=1e-14)


def test_the_range_of_returns_is_that_of_the_data(offline, recorded, small):
    auto = {"env.support": "auto", "agent.gamma": 0.9}
    config, source = resolve_support(offline(STIFF, auto))
    assert source == f"auto: from the returns in {recorded}"
    rewards = [(-1.0) ** (np.load(recorded / "reward.npy")[i : i + 9].sum() < 0) for i in range(0, 396, 9)]
    assert config.env.support == suggest_support([[0.0] * 8 + [r] for r in rewards] + [[0.0] * 4], 0.9)
    assert resolve_support(offline("catch", auto))[1] == "auto: the environment"
    with pytest.raises(ConfigError, match=r"^agent.dataset is missing"):
        resolve_support(offline(STIFF, auto | {"agent.dataset": ""}))


def test_data_of_another_environment(offline):
    with pytest.raises(ConfigError, match=r"^agent.dataset: .* it has obs_shape \(10, 5\) instead of \(4,\), num"):
        build(offline("CartPole-v1"), Path("nowhere"), Silent(1))


def test_tables_without_a_use(offline):
    for table in ("exploration", "replay"):
        with pytest.raises(ConfigError, match=rf"agent 'cql' has no use for \[{table}\]: leave it out"):
            offline(overrides={f"{table}.name": "uniform" if table == "replay" else "greedy"})
