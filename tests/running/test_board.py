"""Is what a comparison says of its progress so?"""

import json

import pytest
from rich.console import Console

from agents.experiments import board
from agents.experiments.study import Arm, Cell


@pytest.fixture
def cells(small, tmp_path):
    """Two runs of 300 steps, not begun."""
    return [Cell(Arm("mse", {}, range(2)), s, small(overrides={"seed": s}), tmp_path / f"s{s}") for s in (0, 1)]


def test_the_time_left_is_that_of_the_steps_since_it_was_made(cells, monkeypatch):
    """60 of 600 steps were there; 180 more took 6 s, so the other 360 take 12 s."""
    now = 100.0
    monkeypatch.setattr(board.time, "perf_counter", lambda: now)
    for cell in cells:
        cell.run_dir.mkdir()
    metrics = [cell.run_dir / "metrics.csv" for cell in cells]
    metrics[0].write_text("step,x\n20,1\n60,1\n")
    shown = board.Board(cells, Console())
    assert shown.line() == "0 of 2 runs, 10% of all steps"
    now = 106.0
    metrics[0].write_text("step,x\n" + "".join(f"{s},{'1' * 100}\n" for s in range(2, 242, 2)) + "24")
    assert shown.line() == "0 of 2 runs, 40% of all steps, about 12 s left"
    for cell, path in zip(cells, metrics, strict=True):
        path.write_text("step,x\n300,1\n")
        (cell.run_dir / "summary.json").write_text(json.dumps({"finished": True}))
    assert shown.line() == "2 of 2 runs, 100% of all steps"


def test_in_a_terminal_it_is_a_bar(cells, capsys):
    console = Console(force_terminal=True, width=100)
    shown = board.Board(cells, console)
    with shown.shown():
        shown.say("one line")
    out = capsys.readouterr().out
    assert "one line" in out
    assert "0 of 2 runs" in out


@pytest.mark.parametrize(("seconds", "text"), [(40, "40 s"), (720, "12 min"), (12_600, "3.5 h"), (2e5, "2.3 days")])
def test_durations(seconds, text):
    assert board.duration(seconds) == text
