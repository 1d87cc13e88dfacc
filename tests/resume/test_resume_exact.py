"""A run that is interrupted and goes on is equal, to the last bit, to one that never was."""

from pathlib import Path

import pytest
import torch

from agents.running import checkpoint

WORLDS = Path(__file__).with_name("resume_worlds.py")
NEVER = 10**9

# Catch has episodes of 9 steps; an update is made at 53, 55, ..., and a target sync at every tenth: 71, 91, ...
MOMENTS = {
    1: "the first step",
    31: "before learning starts",
    63: "an episode just ended",
    71: "the target was just synchronised",
    90: "a checkpoint was just saved",
    333: "nothing in particular",
}


@pytest.mark.parametrize("stop", MOMENTS, ids=lambda k: f"{k} {MOMENTS[k]}")
def test_interrupted_once(stop, tiny, train_in_pieces, assert_same_run, assert_same_course, tmp_path, once):
    straight = once("straight", lambda run_dir: train_in_pieces(tiny(), run_dir))
    pieces = train_in_pieces(tiny(), tmp_path / "pieces", [stop])
    assert pieces.summaries[0].step == stop
    assert_same_run(straight, pieces)
    assert_same_course(straight.run.run_dir, tmp_path / "pieces")


def test_the_moments_are_what_they_are_called(tiny, train_in_pieces, tmp_path):
    """The state saved at each moment, read from the checkpoint, not from the run."""
    stops = [31, 63, 71]
    train_in_pieces(tiny(overrides={"checkpoint.keep": 100}), tmp_path, stops)
    before, ended, synced = (torch.load(tmp_path / f"checkpoints/step-{k:012d}.pt", weights_only=True) for k in stops)
    assert before["agent"]["learner"]["num_updates"] == 0
    assert ended["statistics"]["lengths"] == [0]
    assert before["statistics"]["lengths"] != [0]
    learner = synced["agent"]["learner"]
    assert learner["num_updates"] == 10
    assert all(torch.equal(learner["online"][k], learner["target"][k]) for k in learner["online"])
    learner = ended["agent"]["learner"]
    assert not all(torch.equal(learner["online"][k], learner["target"][k]) for k in learner["online"])


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """once(name, make) is make(directory), made by the first test that asks for it."""
    made = {}

    def get(name, make):
        if name not in made:
            made[name] = make(tmp_path_factory.mktemp(name))
        return made[name]

    return get


R2D2 = {
    "agent.name": "r2d2",
    "agent.lstm_size": 5,
    "agent.batch_size": 4,
    "agent.replay_ratio": 0.2,
    "env.num_envs": 2,
    "replay": {
        **{"name": "sequences", "capacity_steps": 100},  # wraps
        **{"burn_in_steps": 3, "trace_steps": 6, "period_steps": 4},
    },
}
CASES = {
    "c51, CartPole, 3 environments": ("CartPole-v1", {"head.name": "c51", "env.num_envs": 3}),
    "iqn draws": ("catch", {"head.name": "iqn"}),
    "noisy dueling, iqn, double": (
        "catch",
        {
            "head.name": "iqn",
            "output_layer.name": "noisy_dueling",
            "output_layer.hidden": 8,
            "target_rule": "double_q_learning",
            "exploration.epsilon_start": 0.1,
        },
    ),
    "noisy, hl_gauss": ("catch", {"output_layer.name": "noisy", "exploration.epsilon_start": 0.0}),
    "quantile, soft target, time limit": (
        "CartPole-v1",
        {
            "head.name": "quantile",
            "head.num_quantiles": 8,
            "agent.target_tau": 0.05,
            "agent.target_every_updates": 1,
            "env.max_steps": 9,
        },
    ),
    "everything normalised": (
        "CartPole-v1",
        {"agent.normalize_obs": True, "agent.normalize_reward": True, "env.num_envs": 3},
    ),
    "rewards and gradients clipped, double": (
        "CartPole-v1",
        {"agent.reward_clip": 0.5, "agent.max_grad_norm": 0.1, "target_rule": "double_q_learning"},
    ),
    "bools, games that share their chance": ("minatar/breakout", {"env.num_envs": 2}),
    "action masks": (f"{WORLDS}:Masked", {"env.num_envs": 2}),
    "spectral norm, sync by halves": (
        f"{WORLDS}:Pictures",
        {
            "env.frame_stack": 3,
            "torso": {"name": "impala", "spectral_norm": True},
            "output_layer.name": "dueling",
            "output_layer.hidden": 8,
            "agent.target_tau": 0.5,
            "agent.replay_ratio": 0.1,
        },
    ),
    "stacked pictures": (f"{WORLDS}:Pictures", {"env.frame_stack": 3, "env.num_envs": 2}),
    "evaluated with epsilon": ("catch", {"evaluation.epsilon": 0.3}),
    "priorities, Munchausen, regularisers": (
        "catch",
        {
            "replay.name": "prioritized",
            "replay.importance_steps": 300,
            "target_rule": "munchausen",
            "regularizers.cql.alpha": 0.1,
            "regularizers.dr3.coefficient": 0.01,
            "agent.weight_decay": 0.1,
        },
    ),
    "resets, annealing, the target network acts": (
        "CartPole-v1",
        {
            "head.name": "iqn",
            "output_layer.name": "noisy",
            "replay.name": "prioritized",
            "resets": {"every_updates": 50, "shrink": 0.7},  # the first is made at the first interruption
            "annealing": {"n_step_start": 6, "gamma_start": 0.9, "over_updates": 30},
            "agent.target_tau": 0.1,
            "agent.target_every_updates": 1,
            "agent.acting_network": "target",
            "agent.normalize_obs": True,
        },
    ),
    "self-prediction, augmentation, resets": (
        f"{WORLDS}:Pictures",
        {
            "env.frame_stack": 3,
            "torso": {"name": "impala", "renormalize": True},
            "output_layer": {"name": "dueling", "hidden": 8, "shared_hidden": True},
            "regularizers.self_prediction.steps": 4,
            "augmentation.shift_pixels": 2,
            "resets.every_updates": 15,
            "annealing.over_updates": 8,
            "agent.replay_ratio": 0.1,
            "agent.batch_size": 4,
        },
    ),
    "boltzmann": ("catch", {"exploration.name": "boltzmann"}),
    "an ensemble with masks, followed a member at a time": (
        "CartPole-v1",
        {
            "head.members": 3,
            "agent.bootstrap_probability": 0.5,
            "exploration.name": "bootstrapped",
            "replay.name": "prioritized",
            "env.num_envs": 2,
        },
    ),
    "r2d2, an ensemble with masks": (
        "CartPole-v1",
        R2D2 | {"head.members": 2, "agent.bootstrap_probability": 0.5, "exploration.name": "bootstrapped"},
    ),
    "r2d2, CartPole, 2 environments": ("CartPole-v1", R2D2 | {"head.name": "mse", "head.transform": "hyperbolic"}),
    "r2d2, action masks": (f"{WORLDS}:Masked", R2D2 | {"exploration.name": "apex"}),
    "r2d2, iqn, noisy, stacked pictures": (
        f"{WORLDS}:Pictures",
        R2D2 | {"env.frame_stack": 3, "head.name": "iqn", "output_layer.name": "noisy"},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_interrupted_twice(case, tiny, train_in_pieces, assert_same_run, assert_same_course, tmp_path):
    env, overrides = CASES[case]
    config = tiny(env, overrides)
    straight = train_in_pieces(config, tmp_path / "straight")
    pieces = train_in_pieces(config, tmp_path / "pieces", [152, 290])
    assert straight.run.agent.replay.rows > straight.run.agent.replay.num_rows, "the ring should wrap"
    assert_same_run(straight, pieces)
    assert_same_course(tmp_path / "straight", tmp_path / "pieces")


PQN = {
    "agent.name": "pqn",
    "agent.rollout_steps": 7,
    "agent.num_minibatches": 3,
    "agent.optimizer": "radam",
    "agent.lr_decay": True,
    "env.num_envs": 3,
}


@pytest.mark.parametrize(("env", "overrides"), [
    ("catch", {"output_layer.name": "noisy", "exploration.epsilon_start": 0.2}),
    ("CartPole-v1", {"env.max_steps": 9, "agent.normalize_obs": True, "agent.normalize_reward": True}),
    (f"{WORLDS}:Masked", {"head.name": "iqn"}),
    (
        "CartPole-v1",
        {"env.max_steps": 9, "head.members": 3, "agent.bootstrap_probability": 0.5, "exploration.name": "bootstrapped"},
    ),
])  # fmt: skip
def test_pqn(env, overrides, without_replay, train_in_pieces, assert_same_run, assert_same_course, tmp_path):
    """Stopped in the middle of a rollout, and where one has just been learned from."""
    config = without_replay(env, PQN | overrides)
    straight = train_in_pieces(config, tmp_path / "straight")
    pieces = train_in_pieces(config, tmp_path / "pieces", [3 * 17, 3 * 28])
    assert straight.run.agent.learner.num_updates == 6 * (400 // 21)
    assert_same_run(straight, pieces)
    assert_same_course(tmp_path / "straight", tmp_path / "pieces")


def test_stacks_that_stop_sharing_frames(tiny, train_in_pieces, assert_same_run, assert_same_course, tmp_path):
    """The replay's layout changes between two checkpoints, so that its rows are written anew."""
    config = tiny(f"{WORLDS}:Flickering", {"checkpoint.keep": 100, "replay.capacity_steps": 100, "seed": 5})
    straight = train_in_pieces(config, tmp_path / "straight")
    pieces = train_in_pieces(config, tmp_path / "pieces", [20, 160, 390])  # it happens at step 132
    layouts = [torch.load(p, weights_only=True)["layout"] for p in checkpoint.found(tmp_path / "pieces")]
    assert layouts == sorted(layouts, reverse=True)
    assert {layouts[0], layouts[-1]} == {3, 1}
    assert_same_run(straight, pieces)
    assert_same_course(tmp_path / "straight", tmp_path / "pieces")


def test_rows_in_many_files(tiny, train_in_pieces, assert_same_run, assert_same_course, monkeypatch, tmp_path):
    """Many new rows are written in pieces, of rows that take about SEGMENT_BYTES each."""
    config = tiny(f"{WORLDS}:Pictures", {"env.frame_stack": 3, "env.num_envs": 2, "checkpoint.every_steps": NEVER})
    straight = train_in_pieces(config, tmp_path / "straight")
    row = checkpoint.num_bytes(straight.run.agent.replay.segment(0, 1))
    monkeypatch.setattr(checkpoint, "SEGMENT_BYTES", 20 * row)
    pieces = train_in_pieces(config, tmp_path / "pieces", [290])  # 145 rows, the last 75 in the ring
    names = [sorted(p.name for p in (tmp_path / d / "replay").iterdir()) for d in ("straight", "pieces")]
    assert names[0] == ["3-000000000125-000000000200.pt"]
    assert len(names[1]) >= 4
    assert_same_run(straight, pieces)
    assert_same_course(tmp_path / "straight", tmp_path / "pieces")


def test_checkpoints_do_not_change_the_course(tiny, train_in_pieces, state_of, unequal, table_of, tmp_path):
    """Saving draws no random number and touches no state: often, and only at the end."""
    courses = []
    for period in (7, NEVER):
        config = tiny("CartPole-v1", {"head.name": "iqn", "checkpoint.every_steps": period})
        courses.append(train_in_pieces(config, tmp_path / f"{period}"))
    states = [state_of(course.run) for course in courses]
    for state in states:
        del state["policy"]["config"], state["best"]["policy"]["config"]
    assert unequal(*states) == []
    assert table_of(tmp_path / "7") == table_of(tmp_path / f"{NEVER}")


def test_metrics_right_after_resuming(tiny, train_in_pieces, table_of, tmp_path):
    """A row of metrics that is due before the next update tells of the last one, made before the interruption."""
    config = tiny(overrides={"agent.replay_ratio": 0.1, "log.every_steps": 5})
    train_in_pieces(config, tmp_path / "straight")
    train_in_pieces(config, tmp_path / "pieces", [201])
    assert table_of(tmp_path / "straight") == table_of(tmp_path / "pieces")
