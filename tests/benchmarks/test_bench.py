"""Is a report of speed whole, and does it add up? How fast anything is, no test says."""

import json
import math
import os

import pytest
import torch

from agents.benchmarks.measure import Sample, Spread, interleaved
from agents.benchmarks.parts import Bench, vector_steps_of_a_cycle
from agents.benchmarks.report import as_json
from agents.benchmarks.speed import CACHE_DIR, Rate, bound_of, measure
from agents.config import RunConfig
from agents.dqn import DQN
from agents.replay.prioritized import PrioritizedReplay

SMALL = {"torso.hidden": [8], "output_layer.hidden": 8, "agent.learn_after_steps": 40}
DQN_PARTS = ["env", "act", "add", "sample", "update"]


def report_of(preset, overrides=None, **options):
    return measure(preset, RunConfig.preset(preset, overrides or {}), seconds=0.01, **options)


CASES = {
    "dqn": ("catch", SMALL, DQN_PARTS, 0.25),
    "normalised": ("catch", {**SMALL, "agent.normalize_obs": True}, ["env", "act", "normalizer", *DQN_PARTS[2:]], 0.25),
    "prioritised": (
        "catch",
        {**SMALL, "replay": "prioritized", "env.num_envs": 2, "agent.replay_ratio": 0.3},
        [*DQN_PARTS, "priorities"],
        0.3,
    ),
    "pqn": ("pqn_catch", {"torso.hidden": [8]}, ["env", "act", "add", "returns", "update"], 8 / 128),
    "r2d2": ("r2d2_recall", {"agent.lstm_size": 8}, [*DQN_PARTS, "priorities"], 0.2),
}


@pytest.mark.parametrize("case", CASES)
def test_a_report_is_whole_and_adds_up(case):
    preset, overrides, names, ratio = CASES[case]
    data = json.loads(as_json(report_of(preset, overrides, heads=["mse"])))
    assert [part["name"] for part in data["parts"]] == names
    assert [rate["name"] for rate in data["beside"]] == ["update, head mse"]
    for rate in (*data["parts"], *data["beside"], data["end_to_end"]):
        for key in ("cpu_us", "wall_us", "per_cpu_second", "per_second"):
            spread = rate[key]
            assert 0 < spread["low"] <= spread["median"] <= spread["high"] < math.inf
        assert rate["cpu_us"]["median"] * rate["per_cpu_second"]["median"] == pytest.approx(1e6)
    assert data["updates_per_step"] == pytest.approx(ratio)  # whole cycles only: nothing is owed at the end
    per_step = {part["name"]: part["per_step"] for part in data["parts"]}
    assert per_step["update"] == pytest.approx(ratio)
    assert per_step["env"] == 1 / data["config"]["env"]["num_envs"]
    microseconds = sum(part["per_step"] * part["cpu_us"]["median"] for part in data["parts"])
    assert data["bound"] == pytest.approx(1e6 / microseconds)
    assert data["share_of_bound"] == pytest.approx(data["end_to_end"]["per_cpu_second"]["median"] / data["bound"])
    assert data["in_training"].keys() == {"act", "env", "add", "sample", "learn", "log", "rest"}
    assert all(us > 0 for us in data["in_training"].values())
    assert data["start_up"].keys() == {"build", "warm-up to the third update"}
    assert data["peak_memory_gb"] > 0.05
    assert data["machine"]["threads"] == data["config"]["num_threads"] == 1


def rate(per_step, microseconds):
    return Rate("part", "one", per_step, *[Spread(microseconds, microseconds, microseconds)] * 4)


def test_the_bound_by_hand():
    # 4 environments at 80 us, an update of 1,000 us each 4 steps: 20 + 250 us a step
    assert bound_of([rate(1 / 4, 80.0), rate(0.25, 1_000.0)]) == pytest.approx(1e6 / 270)
    assert bound_of([rate(1.0, 50.0), rate(None, 1e9)]) == pytest.approx(20_000), "what training does not make is free"


def test_a_rate_is_the_median_of_samples():
    samples = [Sample(10, 2.0, 1.0), Sample(5, 2.0, 1.0), Sample(2, 2.0, 1.0)]
    got = Rate.of("part", "one", 1.0, samples, size=4)
    assert got.cpu_us.median == pytest.approx(1e6 / 20)
    assert got.wall_us.median == pytest.approx(2e6 / 20)
    assert got.per_cpu_second == pytest.approx((20.0, 14.0, 30.0))


def test_operations_take_turns_and_the_first_turn_is_thrown_away():
    calls = []
    samples = interleaved({name: lambda name=name: calls.append(name) for name in "abc"}, 1e-9, rounds=2)
    assert "".join(calls) == "abcabcabc"
    assert {name: len(s) for name, s in samples.items()} == {"a": 2, "b": 2, "c": 2}


@pytest.mark.parametrize(("seconds", "rounds"), [(0.0, 1), (1.0, 0)])
def test_no_time_to_measure(seconds, rounds):
    with pytest.raises(ValueError, match="wanted seconds > 0 and at least 1 round"):
        interleaved({}, seconds, rounds)


@pytest.mark.parametrize(
    ("num_envs", "ratio", "cycle"), [(1, 0.25, 4), (4, 0.25, 1), (1, 0.3, 10), (2, 0.3, 5), (8, 2.0, 1), (3, 0.25, 4)]
)
def test_a_cycle_has_whole_updates(num_envs, ratio, cycle):
    config = RunConfig.preset("catch", {**SMALL, "env.num_envs": num_envs, "agent.replay_ratio": ratio})
    assert vector_steps_of_a_cycle(Bench(config, 50).agent) == cycle
    assert cycle * num_envs * ratio == pytest.approx(round(cycle * num_envs * ratio))


def test_what_is_added_over_and_over_is_play_that_replay_can_share_the_frames_of():
    config = RunConfig.preset("catch", {**SMALL, "env.frame_stack": 3, "env.num_envs": 2, "agent.n_step": 1})
    bench = Bench(config, 50)
    assert isinstance(bench.agent, DQN)
    for _ in range(450):  # more than twice around
        bench.add()
    replay = bench.agent.replay
    assert replay.layout() == 3
    first, stop = replay.valid_rows()
    rows = torch.arange(first, stop).repeat_interleave(2)
    batch = replay.gather(type(replay.sample(1)[1])(rows, torch.arange(2).repeat(stop - first)))
    moved = batch.obs[:, 1:] == batch.next_obs[:, :-1]
    assert moved.all(), "each successor follows"


def test_another_head_learns_from_the_same_batches_and_leaves_the_agent_alone():
    bench = Bench(RunConfig.preset("catch", SMALL), 100)
    assert isinstance(bench.agent, DQN)
    before = {name: value.clone() for name, value in bench.agent.learner.weights().items()}
    update = bench.with_head("iqn")
    first = update()
    for _ in range(4):
        again = update()
    assert first.prediction.outputs.shape[0] == again.prediction.outputs.shape[0] == bench.agent.settings.batch_size
    assert all(torch.equal(before[name], value) for name, value in bench.agent.learner.weights().items())


def test_priorities_are_measured_where_there_are_some():
    config = RunConfig.preset("catch", {**SMALL, "replay": "prioritized"})
    bench = Bench(config, 100)
    assert isinstance(bench.agent, DQN)
    assert isinstance(bench.agent.replay, PrioritizedReplay)
    priorities = next(part for part in bench.parts() if part.name == "priorities")
    leaves = bench.agent.replay.state_dict()
    priorities.operation()
    assert json.dumps(str(leaves)) != json.dumps(str(bench.agent.replay.state_dict()))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # inductor's own, in torch 2.13
def test_a_compiled_update_is_measured_with_its_compilation():
    report = report_of("catch", SMALL, compiled=True)
    assert "classyq-bench" not in os.environ.get(CACHE_DIR, ""), "that directory is gone"
    assert [r.name for r in report.beside] == ["update, compiled"]
    assert report.start_up["compilation"].cpu > 0


def test_quartiles():
    assert Spread.of([4.0, 1.0, 3.0, 2.0, 5.0]) == Spread(3.0, 2.0, 4.0)
