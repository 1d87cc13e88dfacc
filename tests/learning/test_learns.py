"""Does it learn from experience, through the whole loop, and not only on paper?"""

import numpy as np
import pytest

from agents import RunConfig, load, train
from envs.toy import Chain

ONE_ENV = {
    "steps": 4_000,
    "head.name": "hl_gauss",
    "env.id": "chain",
    "env.support": [-1.7, 1.7],
    "torso.hidden": [],
    "output_layer.hidden": None,
    "agent.lr": 3e-2,
    "agent.n_step": 1,
    "agent.gamma": 0.9,
    "agent.target_every_updates": 20,
    "agent.learn_after_steps": 200,
    "exploration.epsilon_end": 1.0,
    "evaluation.every_steps": 4_000,
}


def learned_q(run_dir) -> np.ndarray:
    return load(run_dir).q_values(np.eye(5, dtype=np.float32)).numpy()


@pytest.mark.parametrize("head", ["mse", "two_hot", "hl_gauss", "c51"])
def test_chain_from_experience(head, tmp_path):
    """Random behaviour, tabular features: Q* up to the noise of the last few hundred samples at this learning rate.

    Values span 2.8, and returns of one transition have a standard deviation of up to 0.6 (slips); with batches of
    32 and Adam's step of 0.03 the estimate wanders by about 0.1. The greedy policy has to be exactly right.
    """
    train(RunConfig.preset("catch", {**ONE_ENV, "head.name": head}), tmp_path / "run")
    best = Chain().optimal_q(0.9)
    q_values = learned_q(tmp_path / "run")
    assert np.abs(q_values - best).max() < 0.3
    assert (q_values.argmax(-1) == best.argmax(-1)).all()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("head", ["mse", "hl_gauss", "c51", "quantile"])
def test_catch(head, seed, tmp_path):
    """The preset catches the ball (best play +1, random play about -0.6) on new episodes."""
    summary = train(RunConfig.preset("catch", {"head.name": head, "seed": seed}), tmp_path / "run")
    assert summary.best_return is not None
    assert summary.best_return >= 0.8


@pytest.mark.slow
def test_cartpole(tmp_path):
    """The main promise: the default command solves CartPole."""
    summary = train(RunConfig.preset("cartpole"), tmp_path / "run")
    assert summary.best_return is not None
    assert summary.best_return >= 475


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("head", ["mse", "hl_gauss"])
def test_pqn_on_catch(head, seed, tmp_path):
    """Without replay and without a target network, on new episodes."""
    summary = train(RunConfig.preset("pqn_catch", {"head.name": head, "seed": seed}), tmp_path / "run")
    assert summary.best_return is not None
    assert summary.best_return >= 0.8


PQN_ON_CARTPOLE = {
    "steps": 80_000,
    "env": {"id": "CartPole-v1", "num_envs": 16, "support": [-10.0, 10.0]},
    "torso.hidden": [120],
    "output_layer.hidden": 84,
    "agent.rollout_steps": 16,
    "agent.lr": 1e-3,
    "agent.normalize_obs": True,
    "agent.normalize_reward": True,
    "exploration.epsilon_steps": 20_000,
    "evaluation.every_steps": 10_000,
}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_pqn_on_cartpole(seed, tmp_path):
    summary = train(RunConfig.preset("pqn_catch", PQN_ON_CARTPOLE | {"seed": seed}), tmp_path / "run")
    assert summary.best_return is not None
    assert summary.best_return >= 450


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_recall_with_a_memory(seed, tmp_path):
    """The preset answers right (best play +1, without a memory -0.5) on new episodes."""
    summary = train(RunConfig.preset("r2d2_recall", {"seed": seed}), tmp_path / "run")
    assert summary.best_return is not None
    assert summary.best_return >= 0.9


@pytest.mark.slow
def test_recall_without_a_memory(tmp_path):
    """The same network without an LSTM stays at chance, within four standard errors of 200 episodes."""
    overrides = {
        "agent": {"name": "dqn", "n_step": 5, "lr": 2e-3, "learn_after_steps": 500},
        "replay": {"name": "uniform"},
    }
    summary = train(RunConfig.preset("r2d2_recall", overrides | {"evaluation.final_episodes": 200}), tmp_path / "run")
    assert summary.best_return is not None
    assert summary.best_return == pytest.approx(-0.5, abs=4 * 0.87 / 200**0.5)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_r2d2_on_catch(seed, tmp_path):
    """A memory does no harm where none is needed: the preset, on another world."""
    overrides = {"env.id": "catch", "steps": 8_000, "seed": seed}
    summary = train(RunConfig.preset("r2d2_recall", overrides), tmp_path / "run")
    assert summary.best_return is not None
    assert summary.best_return >= 0.8


R2D2_ON_CARTPOLE = {
    "steps": 30_000,
    "env": {"id": "CartPole-v1", "num_envs": 4, "support": [-10.0, 10.0]},
    "torso.hidden": [64],
    "agent.lr": 1e-3,
    "agent.normalize_obs": True,
    "agent.normalize_reward": True,
    "agent.learn_after_steps": 1_000,
    "agent.replay_ratio": 0.1,
    "replay.capacity_steps": 40_000,
    "replay.trace_steps": 20,
    "replay.period_steps": 10,
    "evaluation.every_steps": 5_000,
}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_r2d2_on_cartpole(seed, tmp_path):
    summary = train(RunConfig.preset("r2d2_recall", R2D2_ON_CARTPOLE | {"seed": seed}), tmp_path / "run")
    assert summary.best_return is not None
    assert summary.best_return >= 450


ENSEMBLE = {
    "head.members": 5,
    "agent.bootstrap_probability": 0.5,
    "exploration": {"name": "bootstrapped", "epsilon_start": 1.0, "epsilon_end": 0.05, "epsilon_steps": 3_000},
}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("preset", ["catch", "pqn_catch"])
def test_bootstrapped_on_catch(preset, seed, tmp_path):
    """Members with their own halves of the data, followed after a beginning at random (2 of 9 seeds want that)."""
    longer = {"steps": 60_000} if preset == "pqn_catch" else {}  # half of them is too few for 1 seed in 8
    summary = train(RunConfig.preset(preset, ENSEMBLE | longer | {"seed": seed}), tmp_path / "run")
    assert summary.best_return is not None
    assert summary.best_return >= 0.8


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_deep_sea(seed, tmp_path):
    """600 episodes of the preset find the one way in 1,024 that leads to the treasure; every seed is another sea."""
    summary = train(RunConfig.preset("deep_sea", {"seed": seed, "env.kwargs.mapping_seed": seed}), tmp_path / "run")
    assert summary.best_return == pytest.approx(0.99)


BBF_ON_CATCH = {
    "steps": 9_000,
    "head": "c51",
    "output_layer": {"name": "dueling", "hidden": 64, "shared_hidden": True},
    "agent.weight_decay": 0.1,
    "agent.replay_ratio": 0.5,
    "agent.target_every_updates": 1,
    "agent.target_tau": 0.05,
    "agent.acting_network": "target",
    "replay": {"name": "prioritized", "priority": "loss", "importance_exponent": 0.5},
    "exploration.epsilon_steps": 1_500,
    "resets.every_updates": 2_200,  # one, in the middle of the run
    "annealing": {"n_step_start": 9, "gamma_start": 0.9, "over_updates": 300},
    "evaluation.every_steps": 1_500,
}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("self_prediction", [False, True])
def test_bbf_on_catch(self_prediction, seed, tmp_path):
    """All parts of BBF but augmentation, small: solved by what was learned after the reset."""
    extra = {"regularizers.self_prediction.weight": 5.0} if self_prediction else {}
    summary = train(RunConfig.preset("catch", BBF_ON_CATCH | {"seed": seed} | extra), tmp_path / "run")
    assert summary.best_return is not None
    assert summary.best_return >= 0.8
    assert summary.last_return is not None
    assert summary.last_return >= 0.8
