"""An environment that cannot be replayed: its episode ends as truncated where it was, and the run says so."""

import signal
from pathlib import Path

import torch

from agents.running.progress import Silent
from agents.running.run import Run
from agents.running.setup import build
from agents.running.trainer import train

ENV = f"{Path(__file__).with_name('resume_worlds.py')}:Unseeded"


def stopped_at(step, config, run_dir, monkeypatch):
    """A run stopped at `step`: the Run."""
    runs, advance = [], Run.advance

    def watched(run):
        runs.append(run)
        advance(run)
        if run.step >= step:
            signal.raise_signal(signal.SIGUSR1)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "advance", watched)
        train(config, run_dir)
    return runs[-1]


def resumed(config, run_dir):
    run = build(config, run_dir, Silent(1))
    run.load(sorted(run_dir.glob("checkpoints/*.pt"))[-1])
    return run


def test_it_says_so(tiny, train_in_pieces, tmp_path):
    course = train_in_pieces(tiny(ENV), tmp_path, [60])
    notes = [line for line in course.said if line.startswith("note")]
    assert len(notes) == 1
    assert "environments [0] are not deterministic" in notes[0]
    assert "not equal to an uninterrupted one" in notes[0]


def test_a_deterministic_one_says_nothing(tiny, train_in_pieces, tmp_path):
    assert not [line for line in train_in_pieces(tiny(), tmp_path, [60]).said if line.startswith("note")]


def test_the_interrupted_episode_is_truncated_at_its_true_last_observation(tiny, tmp_path, monkeypatch):
    """Episodes have 25 steps; after 60 the third is at its 10th. What is stored must survive further checkpoints."""
    config = tiny(ENV, {"agent.n_step": 1, "replay.capacity_steps": 300})
    run = stopped_at(60, config, tmp_path, monkeypatch)
    last_obs = torch.from_numpy(run.obs[0].copy())
    assert last_obs[1] == 10
    again = resumed(config, tmp_path)
    assert again.obs[0, 1] == 0, "a new episode began"
    assert again.statistics.state_dict() == {"returns": [0.0], "lengths": [0]}
    again.advance()
    again.advance()
    check_cut(again, last_obs)
    again.save()
    twice = resumed(config, tmp_path)
    check_cut(twice, last_obs)
    assert bool(twice.agent.replay.episode_end[61, 0]), "the second interruption is an end as well"
    twice.advance()
    twice.advance()
    twice.save()
    thrice = resumed(config, tmp_path)
    check_cut(thrice, last_obs)


def check_cut(run, last_obs):
    replay = run.agent.replay
    batch = replay.gather(type(replay.sample(1)[1])(torch.tensor([59]), torch.tensor([0])))
    assert bool(replay.episode_end[59, 0])
    assert not bool(replay.terminal[59, 0])
    assert torch.equal(batch.next_obs[0], last_obs)
    assert float(batch.discount) > 0.98, "a truncation is bootstrapped from"


def test_only_the_lost_ones_are_cut(tiny, tmp_path, monkeypatch):
    """Interrupted right after an episode ended there is nothing to cut."""
    config = tiny(ENV, {"agent.n_step": 1, "replay.capacity_steps": 300})
    stopped_at(75, config, tmp_path, monkeypatch)
    again = resumed(config, tmp_path)
    ends = again.agent.replay.episode_end[:75, 0].nonzero().flatten().tolist()
    assert ends == [24, 49, 74]
    assert bool(again.agent.replay.terminal[74, 0])
