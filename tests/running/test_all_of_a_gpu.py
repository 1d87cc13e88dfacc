"""Is a run with all that there is for a GPU the run without it, and does it go on exactly? On a CPU, without graphs."""

import pytest
import torch

from agents import acting, dqn
from agents.acting import NewestFrames
from agents.running.progress import Silent
from agents.running.setup import build
from agents.whole_updates import WholeUpdates

OVERRIDES = {
    "agent.acting_network": "lagged",
    "agent.n_step": 2,
    "agent.replay_ratio": 1.5,
    "agent.normalize_reward": True,
    "agent.target_every_updates": 10,
    "env.frame_stack": 3,
    "env.num_envs": 2,
    "exploration.epsilon_steps": 200,
    "head": "iqn",
    "output_layer": {"name": "noisy", "hidden": 8},
    "replay": {"name": "prioritized", "capacity_steps": 150},
}


@pytest.fixture
def make_run(small, tmp_path, monkeypatch):
    """A run, and with all of it: launches of whole updates, acting on stacks of which the newest frames were sent."""
    monkeypatch.setattr(acting, "sent", lambda value, device: value.clone())

    def make(all_of_it: bool):
        choose = (lambda agent: WholeUpdates(agent, 3, after=2)) if all_of_it else (lambda agent: None)
        monkeypatch.setattr(dqn, "whole_updates", choose)
        run = build(small(overrides=OVERRIDES), tmp_path, Silent(1))
        if all_of_it:
            run.agent.newest_frames = NewestFrames(run.agent.replay, torch.device("cpu"))
        return run

    return make


def advance(run, steps):
    for _ in range(steps):
        run.advance()


def check_equal(run, other):
    ours, theirs = run.agent.state_dict(), other.agent.state_dict()
    for part in ("learner", "replay", "lagged"):
        torch.testing.assert_close(ours[part], theirs[part], rtol=0, atol=0)
    assert ours["exploration"] == theirs["exploration"]
    assert (run.obs == other.obs).all()


def test_it_is_the_run_without(make_run):
    plain, run = make_run(False), make_run(True)
    for each in (plain, run):
        advance(each, 120)
        each.venv.close()
    assert run.agent.learner.num_updates > 200
    assert run.agent.replay.rows > run.agent.replay.num_rows
    assert set(run.agent.whole_updates.graphs) == {1, 3}
    check_equal(run, plain)


def test_it_goes_on_from_a_checkpoint(make_run):
    whole = make_run(True)
    advance(whole, 90)
    path = whole.save()
    advance(whole, 30)
    resumed = make_run(True)
    resumed.load(path)
    advance(resumed, 30)
    check_equal(resumed, whole)
    for run in (whole, resumed):
        run.venv.close()
