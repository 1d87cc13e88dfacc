"""How runs end, and what may follow: scored or not, signalled at the last step, with other settings, diverged."""

import json
import signal
import sys

import gymnasium
import numpy as np
import pytest
import torch

from agents import cli, load
from agents.config import ConfigError
from agents.dqn import DQN
from agents.networks.qnetwork import EnvSpec
from agents.running.metrics import batch_histogram
from agents.running.run import DivergedError, Run
from agents.running.setup import describe
from agents.running.stopwatch import Stopwatch
from agents.running.support import known_range, resolve_support
from agents.running.trainer import train
from envs.toy import Catch
from value_heads import Atoms


def test_a_run_that_died_before_it_was_scored_is_scored_by_resume(small, tmp_path, monkeypatch):
    whole = train(small(), tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    monkeypatch.setattr(sys, "argv", ["classyq", "resume", str(tmp_path / "run")])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 0
    again = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (again["finished"], again["best_return"]) == (True, whole.best_return)


def test_training_a_finished_run_again_changes_nothing(small, tmp_path):
    whole = train(small(), tmp_path / "run")
    files = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    assert train(small(), tmp_path / "run") == whole
    assert files == {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}


def signal_at(step, monkeypatch):
    """A scheduler's SIGTERM arrives as this step is made."""
    advance = Run.advance

    def signalled(run):
        advance(run)
        if run.step == step:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Run, "advance", signalled)


def test_a_signal_at_the_last_step_is_no_failure(small, tmp_path, monkeypatch):
    signal_at(300, monkeypatch)
    summary = train(small(), tmp_path / "run")
    assert (summary.finished, summary.exit_code) == (True, 0)


def test_seconds_are_those_of_all_sessions(small, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        signal_at(200, patch)
        first = train(small(), tmp_path / "run")
    assert train(small(), tmp_path / "run").seconds > first.seconds > 0


@pytest.mark.parametrize("other", [{"env.support": [-50.0, 50.0]}, {"device": "meta"}])
def test_another_support_or_device_is_another_run(small, tmp_path, other):
    train(small(), tmp_path / "run")
    with pytest.raises(ConfigError, match=f"another {next(iter(other))}"):
        train(small(overrides=other), tmp_path / "run")


def test_weights_for_another_support_mean_something_else(small, tmp_path):
    train(small(), tmp_path / "run")
    with pytest.raises(
        ConfigError, match=r"support \(-1.0, 1.0\).*\(-100.0, 100.0\), for which they mean something else"
    ):
        train(small(overrides={"env.support": [-100.0, 100.0]}), tmp_path / "other", init_from=tmp_path / "run")


def test_a_policy_of_a_future_that_was_given_up_is_taken_back(small, tmp_path):
    train(small(overrides={"checkpoint.keep": 9}), tmp_path / "run")
    first = next((tmp_path / "run" / "checkpoints").glob("*150.pt"))
    policy = torch.load(first, weights_only=True)["best"]
    run = Run(load(tmp_path / "run").config, tmp_path / "run", None)  # pyright: ignore
    run.load(first)
    held = torch.load(tmp_path / "run" / "best.pt", weights_only=True)
    assert (held["step"], held["score"]) == (policy["step"], policy["score"])
    assert held["step"] <= 150
    assert not (tmp_path / "run" / "summary.json").exists()


def test_a_loss_that_is_no_number_stops_the_run_with_a_sentence(small, tmp_path):
    diverging = small(overrides={"head.name": "mse", "agent.lr": 1e30, "agent.max_grad_norm": None})
    with pytest.raises(DivergedError, match=r"the loss is (nan|inf) at step \d+: lower agent.lr"):
        train(diverging, tmp_path / "run")


def test_quantiles_that_happen_to_be_equal_in_all_rows_are_no_bins():
    edges, mass = batch_histogram(Atoms(torch.tensor([[3.0, 1.0, 2.0]]), torch.full((1, 3), 1 / 3)))
    assert (np.diff(edges) > 0).all()
    assert (edges[0], edges[-1]) == (1.0, 3.0)
    assert mass.sum() == pytest.approx(1)


def test_observations_at_the_start_of_episodes_are_normalised_with(small, tmp_path):
    """Identity's episodes have one step: every observation that is acted on is the one of a reset."""
    train(small("identity", {"agent.normalize_obs": True}), tmp_path / "run")
    mean = load(tmp_path / "run").network.normalizer.mean
    # 300 draws from 4 classes: a share of 1/4 with a deviation of 0.025; five of them.
    np.testing.assert_allclose(mean, 0.25, atol=0.125)


def test_no_burst_of_updates_when_replay_fills_later_than_learning_may_begin(small):
    config = small(overrides={"env.num_envs": 64, "agent.n_step": 10, "agent.replay_ratio": 0.25})
    agent = DQN(config, EnvSpec((3,), "float32", 2, False), Stopwatch())
    assert agent.first_update_after() == 704
    agent.step = 704
    assert agent.updates_due() == 0


@pytest.mark.parametrize(("factor", "expected"), [(None, (-1.0, 1.0)), (100.0, None)])
def test_a_range_holds_only_for_rewards_as_they_are(factor, expected):
    env = Catch() if factor is None else gymnasium.wrappers.TransformReward(Catch(), lambda r: factor * r)
    assert known_range(env) == expected


def test_support_of_normalised_and_clipped_rewards(small):
    open_support = {"env.support": "auto"}
    normalised = resolve_support(small(overrides=open_support | {"agent.normalize_reward": True}))[0]
    clipped = resolve_support(small(overrides=open_support | {"agent.reward_clip": 1.0, "agent.gamma": 0.9}))[0]
    assert normalised.env.support == (-10.0, 10.0)
    assert clipped.env.support == pytest.approx((-10.0, 10.0))


@pytest.mark.parametrize("mask", [np.array([1, 0, 1], np.int8), [True, False, True]])
def test_masks_as_environments_give_them(small, tmp_path, mask):
    train(small(), tmp_path / "run")
    policy = load(tmp_path / "run")
    assert policy.act(np.zeros((10, 5)), mask) in (0, 2)
    assert policy.act(np.zeros((2, 10, 5)).tolist(), [[0, 1, 0]] * 2).tolist() == [1, 1]


@pytest.mark.parametrize("mask", [[0, 0, 0], [1, 1]])
def test_masks_that_are_none(small, tmp_path, mask):
    train(small(), tmp_path / "run")
    with pytest.raises(ValueError, match=r"the mask must be \[1, 3\] with a legal action in every row"):
        load(tmp_path / "run").act(np.zeros((10, 5)), mask)


def test_a_directory_that_is_no_run_is_left_alone(small, tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(ConfigError, match=r"is no run, and not empty \(thesis.txt\)"):
        train(small(), tmp_path)
    with pytest.raises(ConfigError, match=r"thesis.txt cannot be made"):
        train(small(), tmp_path / "thesis.txt")
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_run_too_short_to_learn_says_so(small):
    config = small(overrides={"steps": 40})
    run = Run(config, None, None)  # pyright: ignore
    assert "warning: no update before step 50: nothing is learned" in describe(config, run, "given")
