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
