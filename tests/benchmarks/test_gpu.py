"""Does the script for a GPU go through, without one? Of tiny sizes; of a GPU this says nothing."""

import json
import sys
import warnings

import pytest
import torch

from benchmarks import gpu, gpu_checks

SLOW = ("correctness", "update", "end_to_end", "pilot")
stages = [pytest.param(stage, marks=pytest.mark.slow if stage in SLOW else ()) for stage in gpu.STAGES]
CPU = torch.device("cpu")


def run(monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["gpu", *arguments])
    return gpu.main()


@pytest.mark.parametrize("stage", stages)
def test_a_stage_writes_its_report(monkeypatch, tmp_path, stage):
    assert run(monkeypatch, "--stage", stage, "--device", "cpu", "--out", str(tmp_path)) == 0
    report = json.loads((tmp_path / f"gpu_{stage}.json").read_text())
    assert (report["stage"], report["device"], report["tiny"], report["passed"]) == (stage, "cpu", True, True)
    assert len(report["found"]) > 1
    assert all(found.get("finished", True) for found in report["found"].values())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(monkeypatch, tmp_path, capsys):
    assert run(monkeypatch, "--stage", "update", "--out", str(tmp_path / "out")) == 2
    assert "no CUDA device" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_goes_wrong_is_written_and_the_rest_goes_on(monkeypatch, tmp_path):
    def stage(stage):
        stage.find("wrong", lambda: 1 / 0)
        stage.find("not so", lambda: {"passed": False})
        stage.find("right", lambda: {"ms": 1.0})
        stage.find("warned", lambda: warnings.warn("not captured", stacklevel=1) or {"ms": 1.0})
        monkeypatch.setattr(gpu, "SECONDS", 0)
        stage.find("late", lambda: {"ms": 1.0})

    monkeypatch.setitem(gpu.STAGES, "update", stage)
    assert run(monkeypatch, "--stage", "update", "--device", "cpu", "--out", str(tmp_path)) == 1
    report = json.loads((tmp_path / "gpu_update.json").read_text())
    assert "ZeroDivisionError" in report["found"]["wrong"]["error"]
    assert report["found"]["right"] == {"ms": 1.0}
    assert report["found"]["warned"] == {"ms": 1.0, "warnings": ["not captured"]}
    assert report["found"]["late"] == "not reached: no time left"
    assert not report["passed"]


def test_weights_that_are_drawn_otherwise_are_noticed(monkeypatch):
    assert gpu_checks.check_priorities(CPU, gpu_checks.TINY)["passed"]
    otherwise = gpu_checks.UniformReplay.draw
    monkeypatch.setattr(gpu_checks.PrioritizedReplay, "draw", lambda replay, size: otherwise(replay, size))
    assert not gpu_checks.check_priorities(CPU, gpu_checks.TINY)["passed"]


def test_launches_that_are_something_else_are_noticed(monkeypatch):
    size = gpu_checks.TINY._replace(updates=16)
    assert gpu_checks.check_whole("dqn", "mse", CPU, size)["passed"]
    prepare = gpu_checks.WholeUpdates.prepare

    def once_more(self, size):
        prepare(self, size)
        prepare(self, size)

    monkeypatch.setattr(gpu_checks.WholeUpdates, "prepare", once_more)
    assert not gpu_checks.check_whole("dqn", "mse", CPU, size)["passed"]
