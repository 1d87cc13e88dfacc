"""Are peers compared at one setting, turn by turn, and does the page say what the files say? No peer is run."""

import dataclasses
import json

import pytest

from agents.benchmarks import clock
from agents.benchmarks.clock import Seconds
from agents.benchmarks.report import as_json
from agents.benchmarks.speed import measure
from agents.config import RunConfig
from benchmarks import contenders, peers
from benchmarks.contenders import CONTENDERS, Marks, Setting
from benchmarks.peers import CASES, Result, compare, ratios, tables
from benchmarks.speed_page import page

TINY = dataclasses.replace(
    CASES["cartpole"][0], batch_size=8, replay_steps=200, learn_after_steps=20, warm_up_steps=60, steps=120, mlp=(8, 8)
)


@pytest.mark.parametrize(
    ("num_envs", "steps_per_update", "cycle"), [(1, 10, (10, 1)), (8, 10, (5, 4)), (8, 4, (1, 2)), (4, 4, (1, 1))]
)
def test_a_cycle_is_whole(num_envs, steps_per_update, cycle):
    setting = dataclasses.replace(TINY, num_envs=num_envs, steps_per_update=steps_per_update)
    assert setting.cycle() == cycle
    assert cycle[0] * num_envs == cycle[1] * steps_per_update


@pytest.mark.parametrize("head", ["huber", "c51", "hl_gauss", "quantile", "iqn"])
def test_ours_learns_at_the_setting_between_the_marks(head):
    setting = dataclasses.replace(TINY, outputs=5)
    marks = Marks(setting)
    CONTENDERS[f"classyq {head}"](setting, marks)
    result = marks.result()
    assert (result["steps"], result["updates"], result["all_steps"]) == (120, 12, 180)
    assert 0 < result["cpu_seconds"] < result["all_cpu_seconds"]
    assert 0 < result["wall_seconds"] < result["all_wall_seconds"]


def test_marks_are_the_ends_of_warm_up_and_of_all(monkeypatch):
    clocks = iter([Seconds(10.0, 5.0), Seconds(14.0, 7.0)])
    monkeypatch.setattr(contenders.clock, "now", lambda: next(clocks))
    marks = Marks(TINY)  # warm-up 60, then 120
    said = [marks.at(step, step // 10) for step in (8, 56, 64, 72, 176, 184)]  # 8 environments
    assert said == [False] * 5 + [True]
    result = marks.result()
    assert (result["steps"], result["updates"]) == (120, 12)
    assert (result["cpu_seconds"], result["wall_seconds"], result["all_cpu_seconds"]) == (2.0, 4.0, 7.0)


def record(steps, cpu, wall):
    return {
        "contender": "",
        "setting": {},
        "versions": {"torch": "2.0"},
        "steps": steps,
        "updates": steps // 10,
        "cpu_seconds": cpu,
        "wall_seconds": wall,
        "all_steps": 2 * steps,
        "all_cpu_seconds": 4 * cpu,
        "all_wall_seconds": 4 * wall,
        "peak_memory_gb": 0.5,
    }


MACHINE = {"cpu": "a processor", "cores": 2, "load": (1.0, 1.0, 1.0), "python": "3.11"}
TURNS = [
    {"classyq huber": record(100, 1.0, 4.0), "SB3 DQN": record(100, 2.0, 4.0)},
    {"classyq huber": record(100, 10.0, 20.0), "SB3 DQN": record(100, 40.0, 10.0)},  # when the machine was slow
    {"classyq huber": record(100, 1.0, 1.0), "SB3 DQN": record(100, 3.0, 3.0)},
]
RESULT = Result("cartpole", dataclasses.asdict(TINY), TURNS, MACHINE)


def test_ratios_are_within_a_turn():
    assert ratios(RESULT, "classyq huber", "SB3 DQN", "cpu_seconds") == pytest.approx((3.0, 2.5, 3.5))  # of 2, 4, 3
    assert ratios(RESULT, "classyq huber", "SB3 DQN", "wall_seconds") == pytest.approx((1.0, 0.75, 2.0))  # 1, 1/2, 3


def test_tables_have_medians_and_what_is_measured():
    text = tables(RESULT)
    assert "| classyq huber | 100 (55 to 100) | 25 (15 to 62) | 50 (28 to 50) | 0.50 | 0.1 |" in text
    assert "| classyq huber / SB3 DQN | 3.00 (2.50 to 3.50) | 1.00 (0.75 to 2.00) |" in text
    assert "steps a CPU-second" in text
    assert "3 turns" in text
    atari = RESULT._replace(setting=dataclasses.asdict(CASES["pong"][0]))
    assert "frames a CPU-second" in tables(atari)
    assert "| classyq huber | 400 (220 to 400) |" in tables(atari)


def test_contenders_take_turns_and_each_turn_is_handed_out(monkeypatch):
    order = []
    monkeypatch.setattr(peers, "run_one", lambda name, setting: order.append(name) or record(100, 1.0, 1.0))
    sizes = [len(result.turns) for result in compare("cartpole", TINY, ["a", "b"], 3)]
    assert (order, sizes) == (list("ababab"), [1, 2, 3])


def test_a_contender_that_fails_says_why(monkeypatch):
    monkeypatch.setattr(peers, "ROOT", peers.ROOT / "tests")  # where there is no package `benchmarks.contenders`
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    with pytest.raises(RuntimeError, match=r"nobody failed with exit code 1:\n[\s\S]*KeyError: 'nobody'|No module"):
        peers.run_one("nobody", TINY)


@pytest.mark.parametrize("case", CASES)
def test_every_case_has_ours_and_a_peer_and_measures_after_learning_began(case):
    setting, names = CASES[case]
    assert set(names) <= CONTENDERS.keys()
    ours = [name for name in names if name.startswith(peers.OURS)]
    assert 0 < len(ours) < len(names)
    assert setting.learn_after_steps < setting.warm_up_steps
    assert setting.target_every_steps % setting.steps_per_update == 0


def test_the_page_has_the_numbers_of_the_files(tmp_path):
    config = RunConfig.preset("catch", {"torso.hidden": [8], "agent.learn_after_steps": 40})
    report = measure("catch", config, seconds=0.01, heads=["mse"])
    (tmp_path / "bench-catch.json").write_text(as_json(report))
    (tmp_path / "peers-cartpole.json").write_text(json.dumps(RESULT._asdict()))
    text = page(tmp_path)
    assert f"of which end to end reaches {report.share_of_bound:.0%}" in text
    assert all(f"| {rate.name} |" in text for rate in (*report.parts, *report.beside))
    assert "| classyq huber / SB3 DQN | 3.00 (2.50 to 3.50) | 1.00 (0.75 to 2.00) |" in text
    assert peers.NOT_MATCHED in text


def test_the_clock_of_contenders_is_that_of_bench():
    assert contenders.clock is clock
    assert Setting(**json.loads(json.dumps(dataclasses.asdict(TINY)))).cycle() == TINY.cycle()
