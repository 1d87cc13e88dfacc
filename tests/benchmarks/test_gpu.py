"""Does the script for a GPU go through, without one? Of tiny sizes; of a GPU this says nothing."""

import json
import sys

import pytest
import torch

from benchmarks import gpu

SLOW = ("correctness", "update", "end_to_end", "pilot")
stages = [pytest.param(stage, marks=pytest.mark.slow if stage in SLOW else ()) for stage in gpu.STAGES]


def run(monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["gpu", *arguments])
    return gpu.main()


@pytest.mark.parametrize("stage", stages)
def test_a_stage_writes_its_report(monkeypatch, tmp_path, stage):
    assert run(monkeypatch, "--stage", stage, "--device", "cpu", "--out", str(tmp_path)) == 0
    report = json.loads((tmp_path / f"gpu_{stage}.json").read_text())
    assert (report["stage"], report["device"], report["tiny"]) == (stage, "cpu", True)
    assert report.get("passed", True)
    assert report.get("finished", True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(monkeypatch, tmp_path, capsys):
    assert run(monkeypatch, "--stage", "update", "--out", str(tmp_path / "out")) == 2
    assert "no CUDA device" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_weights_that_are_drawn_otherwise_are_noticed(monkeypatch):
    assert gpu.check_priorities(torch.device("cpu"), gpu.TINY)["passed"]
    monkeypatch.setattr(gpu.PrioritizedReplay, "draw", lambda replay, size: gpu.UniformReplay.draw(replay, size))
    assert not gpu.check_priorities(torch.device("cpu"), gpu.TINY)["passed"]
