"""Does it learn from recorded data alone, better than what was recorded?"""

import pytest

from agents import RunConfig, train
from agents.running.record import record


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """10,000 steps of a trained policy that takes every other action at random: the ball is often missed."""
    path = tmp_path_factory.mktemp("played")
    train(RunConfig.preset("catch", {"seed": 11}), path / "run")
    made = record(path / "run", path / "data", steps=10_000, epsilon=0.5, seed=11)
    assert sum(made.returns) / len(made.returns) < 0.3
    return made.dataset.path


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("head", ["mse", "hl_gauss"])
def test_catch(head, seed, played, tmp_path):
    """The recipe catches the ball, up to one miss in twenty episodes, by its last policy and not only by its best."""
    overrides = {"head.name": head, "seed": seed, "agent.dataset": str(played)}
    summary = train(RunConfig.preset("cql_catch", overrides), tmp_path / "run")
    assert summary.best_return is not None
    assert summary.best_return >= 0.8
    assert summary.last_return is not None
    assert summary.last_return >= 0.8


CARTPOLE = {
    "env": {"id": "CartPole-v1", "num_envs": 16, "support": [-10.0, 10.0]},
    "agent.normalize_obs": True,
    "agent.normalize_reward": True,
}
PQN_ON_CARTPOLE = {
    "steps": 80_000,
    "torso.hidden": [120],
    "output_layer.hidden": 84,
    "agent.rollout_steps": 16,
    "agent.lr": 1e-3,
    "exploration.epsilon_steps": 20_000,
    "evaluation.every_steps": 10_000,
}
CQL_ON_CARTPOLE = {
    "steps": 10_000,
    "torso.hidden": [120],
    "output_layer.hidden": 84,
    "agent.n_step": 3,
    "agent.lr": 3e-4,
    "agent.target_every_updates": 200,
    "evaluation.every_steps": 2_500,
}


@pytest.fixture(scope="module")
def balanced(tmp_path_factory):
    """20,000 steps of a trained policy of which half of the actions are random, so that poles fall long before 500."""
    path = tmp_path_factory.mktemp("balanced")
    train(RunConfig.preset("pqn_catch", CARTPOLE | PQN_ON_CARTPOLE | {"seed": 11}), path / "run")
    made = record(path / "run", path / "data", steps=20_000, epsilon=0.5, seed=11)
    assert sum(made.returns) / len(made.returns) < 300
    return made.dataset.path


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("head", ["mse", "hl_gauss"])
def test_cartpole(head, seed, balanced, tmp_path):
    """The best policy balances the pole for 450 steps or more, on average over new episodes."""
    overrides = CARTPOLE | CQL_ON_CARTPOLE | {"head.name": head, "seed": seed, "agent.dataset": str(balanced)}
    summary = train(RunConfig.preset("cql_catch", overrides), tmp_path / "run")
    assert summary.best_return is not None
    assert summary.best_return >= 450
