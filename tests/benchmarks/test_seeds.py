"""Is it the same work alone and together? How long that takes is for the command to say."""

import pytest
import torch

from agents.learning.stacked import StackedLearner
from benchmarks import seeds


@pytest.mark.parametrize("preset", seeds.WORLDS)
def test_both_make_the_same_updates(preset, monkeypatch):
    monkeypatch.setattr(seeds, "UPDATES", 1)
    agents, made = [], []
    make_agent = seeds.DQN
    monkeypatch.setattr(seeds, "DQN", lambda *given: agents.append(make_agent(*given)) or agents[-1])
    monkeypatch.setattr(seeds, "StackedLearner", lambda learners: made.append(StackedLearner(learners)) or made[-1])
    operations = seeds.updates(preset, "mse", 4, seeds=2)
    before = agents[0].learner.online.state_dict()["head.output.last.weight"].clone()
    for operation in operations.values():
        operation()
    made[0].give()
    assert [agent.learner.num_updates for agent in agents] == [2] * 4
    weights = [agent.learner.online.state_dict()["head.output.last.weight"] for agent in agents]
    assert not torch.equal(weights[0], before)
    for alone, together in zip(weights[:2], weights[2:], strict=True):
        torch.testing.assert_close(alone, together, rtol=1e-3, atol=1e-4)


def test_both_make_the_same_steps(tmp_path, monkeypatch):
    monkeypatch.setattr(seeds, "LEARNING", 40)
    runs = []
    make_run = seeds.build
    monkeypatch.setattr(seeds, "build", lambda *given: runs.append(make_run(*given)) or runs[-1])
    changes = {"agent__learn_after_steps": 20, "replay__capacity_steps": 500, "agent__n_step": 1}
    operations = seeds.play("cartpole", 2, tmp_path, **changes)
    assert [run.step for run in runs] == [40] * 4
    for operation in operations.values():
        operation()
    assert [run.step for run in runs] == [40 + seeds.STEPS] * 4
    updates = [run.agent.learner.num_updates for run in runs]
    assert updates[0] > 20
    assert len(set(updates)) == 1


def test_a_row_has_the_ratio_of_what_they_cost():
    line = seeds.row("sums", {"alone": lambda: sum(range(90_000)), "together": lambda: sum(range(30_000))}, 0.1, 3)
    name, alone, together, times = (part.strip() for part in line.strip("|").split("|"))
    assert name == "sums"
    assert float(alone) > float(together)
    assert 1.5 < float(times.split()[0]) < 6
