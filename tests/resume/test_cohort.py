"""Does a run that was trained in a cohort end as the same run trained alone, and can either go on with the other's?

In float64 the two differ by the order of sums alone, so 1e-9 tells an error from rounding as long as no action flips.
"""

import json
import signal
from pathlib import Path

import pytest
import torch

from agents.experiments import cohort_trainer
from agents.experiments.cohort import Cohort, check_cohort
from agents.experiments.cohort_trainer import train_cohort
from agents.running import checkpoint
from agents.running.evaluation import load
from agents.running.progress import Silent
from agents.running.run import Run
from agents.running.setup import build
from agents.running.trainer import train
from agents.tables import ConfigError

WORLDS = Path(__file__).with_name("resume_worlds.py")
ROOM = ("oldest_final", "finals_capacity")  # what replay has for final observations: it may be more
EACH = (
    {"seed": 3},
    {"seed": 8, "agent.lr": 3e-3},
    {"seed": 5, "agent.max_grad_norm": 0.1, "exploration.epsilon_end": 0.3},
)
CASES = {
    "cartpole": (
        "CartPole-v1",
        {
            "steps": 2_000,
            "agent.replay_ratio": 0.105,
            "agent.normalize_obs": True,
            "agent.normalize_reward": True,
            "target_rule.name": "double_q_learning",
        },
    ),
    "masks": (
        f"{WORLDS}:Masked",
        {"env.num_envs": 2, "env.max_steps": 7, "head.name": "c51", "agent.reward_clip": 0.5, "agent.target_tau": 0.1},
    ),
    "noise": (
        f"{WORLDS}:Pictures",
        {
            "env.num_envs": 3,
            "head.name": "iqn",
            "output_layer.name": "noisy",
            "agent.acting_network": "target",
        },
    ),
    "minatar": (
        "minatar/asterix",
        {"env.num_envs": 4, "env.max_steps": 20, "head.name": "hl_gauss", "target_rule.name": "double_q_learning"},
    ),
}


def unlike(left, right, place=""):
    """Places in nested states where numbers differ by more than 1e-9, or anything else at all."""
    if place.rsplit("/", 1)[-1] in ROOM:
        return []
    if isinstance(left, torch.Tensor) and isinstance(right, torch.Tensor):
        same = left.dtype == right.dtype and left.shape == right.shape
        return [] if same and torch.allclose(left.double(), right.double(), rtol=1e-9, atol=1e-9) else [place]
    if isinstance(left, dict) and left.keys() == right.keys():
        return [found for key in left for found in unlike(left[key], right[key], f"{place}/{key}")]
    if isinstance(left, list | tuple) and len(left) == len(right):
        return [
            found for i, (a, b) in enumerate(zip(left, right, strict=True)) for found in unlike(a, b, f"{place}/{i}")
        ]
    if isinstance(left, float):
        return [] if left == pytest.approx(right, rel=1e-9, abs=1e-9) else [place]
    return [] if left == right else [place]


def configs_of(tiny, case="cartpole", **overrides):
    env, options = CASES[case]
    return [tiny(env, options | overrides | own) for own in EACH]


def made(configs, folder):
    return [build(config, folder / str(i), Silent(1)) for i, config in enumerate(configs)]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.usefixtures("float64")
def test_every_run_is_in_the_state_that_it_would_be_in_alone(case, tiny, state_of, tmp_path):
    """CartPole for 2,000 steps and 204 updates; the others for 400 steps, in which replay goes round."""
    configs = configs_of(tiny, case)[1:]
    cohort, alone = Cohort(made(configs, tmp_path)), made(configs, tmp_path)
    while cohort.step < configs[0].steps:
        cohort.advance()
        for run in alone:
            run.advance()
    cohort.give()
    for run, expected in zip(cohort.runs, alone, strict=True):
        assert expected.agent.learner.num_updates > 100
        assert unlike(state_of(run), state_of(expected)) == []


@pytest.mark.usefixtures("float64")
def test_what_is_left_of_a_run_is_what_it_leaves_alone(tiny, table_of, tmp_path):
    """Metrics, checkpoints, best policy, scores; and it is read like any other."""
    configs = configs_of(tiny, "masks", steps=260)
    folders = [tmp_path / "cohort" / str(i) for i in range(3)]
    summaries = train_cohort(configs, folders)
    for config, folder, summary in zip(configs, folders, summaries, strict=True):
        alone = tmp_path / "alone" / folder.name
        expected = train(config, alone)
        assert summary[1:6] == pytest.approx(expected[1:6], rel=1e-9)
        assert json.loads((folder / "summary.json").read_text())["best_return"] == summary.best_return
        assert json.loads((folder / "config.json").read_text()) == json.loads((alone / "config.json").read_text())
        rows, wanted = table_of(folder), table_of(alone)
        assert [row.keys() for row in rows] == [row.keys() for row in wanted]
        for row, right in zip(rows, wanted, strict=True):
            assert {k: float(v) for k, v in row.items()} == pytest.approx({k: float(v) for k, v in right.items()})
        names = [path.name for path in checkpoint.found(folder)]
        assert names == [path.name for path in checkpoint.found(alone)]
        files = [torch.load(at / "checkpoints" / names[-1], weights_only=True) for at in (folder, alone)]
        for file in files:
            del file["clock"]
        assert unlike(*files) == []
        assert unlike(load(folder).state_dict(), load(alone).state_dict()) == []
    assert train_cohort(configs, folders) == summaries  # nothing is left to do


def stop_at(step, advanced, patch):
    """From this step on, a scheduler's signal arrives in a `Run` or a `Cohort`."""
    advance = advanced.advance

    def watched(self):
        advance(self)
        if self.step >= step:
            signal.raise_signal(signal.SIGTERM)

    patch.setattr(advanced, "advance", watched)


def interrupted(configs, folders, stops, monkeypatch):
    """Train a cohort in pieces: it is stopped at every step of `stops`, and a fresh call goes on."""
    for stop in stops:
        with monkeypatch.context() as patch:
            stop_at(stop, Cohort, patch)
            pieces = train_cohort(configs, folders)
        assert [(piece.finished, piece.exit_code) for piece in pieces] == [(False, 85)] * len(configs)
    return train_cohort(configs, folders)


@pytest.mark.parametrize("case", ["noise", "minatar"])
def test_an_interrupted_cohort_ends_as_one_that_was_not(case, tiny, assert_same_course, tmp_path, monkeypatch):
    """To the bit: in float32, with the signal before learning and amid it, and not where a checkpoint is due."""
    configs = configs_of(tiny, case, steps=230)[1:]
    straight, pieces = ([tmp_path / kind / str(i) for i in range(2)] for kind in ("straight", "pieces"))
    expected = train_cohort(configs, straight)
    summaries = interrupted(configs, pieces, [30, 195], monkeypatch)
    assert [s[1:6] for s in summaries] == [s[1:6] for s in expected]
    for left, right in zip(straight, pieces, strict=True):
        assert_same_course(left, right)


@pytest.mark.usefixtures("float64")
def test_alone_and_together_are_ways_to_train_the_same_run(tiny, train_in_pieces, tmp_path, monkeypatch):
    """Each begins alone, goes on in a cohort, and ends alone."""
    configs = configs_of(tiny, "masks", steps=240)[1:]
    folders = [tmp_path / str(i) for i in range(2)]
    alone = [train_in_pieces(config, tmp_path / f"alone{i}") for i, config in enumerate(configs)]
    for config, folder in zip(configs, folders, strict=True):
        with monkeypatch.context() as patch:
            stop_at(110, Run, patch)
            assert not train(config, folder).finished
    with monkeypatch.context() as patch:
        stop_at(180, Cohort, patch)
        assert [summary.step for summary in train_cohort(configs, folders)] == [180] * 2
    for config, folder, expected in zip(configs, folders, alone, strict=True):
        assert train(config, folder)[1:6] == pytest.approx(expected.summary[1:6], rel=1e-9)
        states = [torch.load(checkpoint.found(at)[-1], weights_only=True) for at in (folder, expected.run.run_dir)]
        for state in states:
            del state["clock"], state["segments"]
        assert unlike(*states) == []


def test_a_cohort_goes_on_from_the_last_step_that_all_have_saved(tiny, assert_same_course, tmp_path):
    """As after a kill between two checkpoints of the same step, or before the first."""
    configs = configs_of(tiny, "masks", steps=200)[1:]
    straight, killed = ([tmp_path / kind / str(i) for i in range(2)] for kind in ("straight", "killed"))
    for folders in (straight, killed):
        train_cohort(configs, folders)
    for folder in killed:
        (folder / "summary.json").unlink(missing_ok=True)
    checkpoint.found(killed[1])[-1].unlink()
    assert cohort_trainer.last_of_all(killed) == checkpoint.found(straight[0])[0].name
    train_cohort(configs, killed)
    for left, right in zip(straight, killed, strict=True):
        assert_same_course(left, right)
    for path in checkpoint.found(killed[0]):
        path.unlink()
    for folder in killed:
        (folder / "summary.json").unlink(missing_ok=True)
    assert cohort_trainer.last_of_all(killed) is None
    train_cohort(configs, killed)
    for left, right in zip(straight, killed, strict=True):
        assert_same_course(left, right)


def test_those_that_are_finished_stay_so_while_the_others_go_on(tiny, tmp_path):
    configs, folders = configs_of(tiny, "masks", steps=100), [tmp_path / str(i) for i in range(3)]
    first = train(configs[1], folders[1])
    summaries = train_cohort(configs, folders)
    assert all(summary.finished for summary in summaries)
    assert summaries[1] == first
    assert [summary.run_dir for summary in summaries] == folders


def test_environments_that_are_not_deterministic_are_cut(tiny, tmp_path, monkeypatch):
    """What each says of it is what it says alone, and no transition spans the interruption."""
    said = []
    monkeypatch.setattr(Silent, "say", lambda self, line: said.append(line))
    configs = [
        tiny(f"{WORLDS}:Unseeded", {"seed": seed, "env.num_envs": 2, "agent.gamma": 1 - 1e-9}) for seed in (1, 2)
    ]
    folders = [tmp_path / str(seed) for seed in (1, 2)]
    interrupted(configs, folders, [130], monkeypatch)
    assert [line[:22] for line in said if "not deterministic" in line] == [
        "s1: note   environment",
        "s2: note   environment",
    ]
    for config, folder in zip(configs, folders, strict=True):
        run = build(config, folder, Silent(1))
        run.load(checkpoint.found(folder)[-1])
        batch = run.agent.replay.sample(200)[0]
        assert torch.equal(batch.obs[:, 1] + batch.reward, batch.next_obs[:, 1])  # a reward of 1 for each step of time


REFUSED = {
    "agent.name": ({"agent.name": "pqn"}, "agent.name: a cohort is of 'dqn', got 'pqn'"),
    "members": ({"head.members": 2}, "head.members: a cohort is of networks with one head, got 2"),
    "resets": ({"resets": {}}, "resets: a cohort has no such thing"),
    "annealing": ({"annealing": {}}, "annealing: a cohort has no such thing"),
    "augmentation": ({"augmentation": {}}, "augmentation: a cohort has no such thing"),
    "replay": ({"replay.name": "prioritized"}, "cohort: only uniform replays"),
    "atari": ({"env.id": "ALE/Pong-v5", "env.support": [-1, 1]}, "cohort: replays of stacked frames"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_cohort_refuses(case, tiny, tmp_path):
    overrides, message = REFUSED[case]
    config = tiny("catch")
    if case == "agent.name":
        config = type(config).parse({"env": {"id": "catch", "support": [-1, 1]}, "agent": "pqn"})
    else:
        config = config.with_overrides(overrides)
    with pytest.raises(ConfigError, match=message):
        train_cohort([config, config.with_overrides({"seed": 2})], [tmp_path / "1", tmp_path / "2"])
    assert not list(tmp_path.glob("*/*.json"))


def test_runs_that_differ_in_more_than_they_may(tiny):
    check_cohort([tiny(overrides={"seed": 1}), tiny(overrides={"seed": 2, "agent.lr": 0.1})])
    with pytest.raises(ConfigError, match=r"may differ in seed, agent.lr, .*; seed 2 has another agent.gamma"):
        check_cohort([tiny(overrides={"seed": 1}), tiny(overrides={"seed": 2, "agent.gamma": 0.5})])
    with pytest.raises(ConfigError, match=r"seed 2 has another env.support \(give one\)"):
        check_cohort([tiny(overrides={"seed": 1}), tiny(overrides={"seed": 2, "env.support": [-1, 2]})])


def test_a_directory_for_each(tiny, tmp_path):
    configs = [tiny(), tiny(overrides={"seed": 2})]
    for folders in ([tmp_path], [tmp_path, tmp_path], []):
        with pytest.raises(ConfigError, match="wants a directory for each run, got 2 runs"):
            train_cohort(configs, folders)
