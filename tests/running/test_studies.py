"""Does the page of a study say what its runs did, and is nothing trained twice?"""

import json

import pytest

from agents.config import ConfigError
from agents.experiments import studies
from agents.experiments.curves import read_curve


@pytest.fixture
def study(small, monkeypatch):
    arms = [
        studies.Arm("mse", {"head.name": "mse"}, range(1, 3)),
        studies.Arm("c51", {"head.name": "c51"}, range(1, 2)),
    ]
    monkeypatch.setitem(studies.STUDIES, "tiny", studies.Study("Does it?", "catch", arms, threshold=0.5))


def finish(cell, best, last):
    cell.run_dir.mkdir(parents=True)
    summary = {
        "finished": True,
        "best_return": best,
        "last_return": last,
        "step": 30,
        "seconds": 6.0,
        "cpu_seconds": 5.0,
        "time_logging": 0.01,
    }
    (cell.run_dir / "summary.json").write_text(json.dumps(summary))
    header = "step,eval/episodic_return,charts/episodic_return_20,charts/frames"
    rows = f"10,,9,40\n20,{last},8,80\n30,{best},{best + 2},120\n"
    (cell.run_dir / "metrics.csv").write_text(f"{header}\n{rows}")


def test_the_page_has_every_finished_run_and_counts_the_others(study, tmp_path):
    first, second, third = studies.cells("tiny", tmp_path)
    assert [(c.arm.label, c.seed, c.config.head.name) for c in (first, second, third)] == [
        ("mse", 1, "mse"),
        ("mse", 2, "mse"),
        ("c51", 1, "c51"),
    ]
    finish(first, 1.0, 0.25)
    finish(second, 0.0, -0.75)
    page = studies.report("tiny", tmp_path, "the command")
    assert "| mse | 1 of 2 | 0.5 | -0.2 | 2.5 | 1 0 | 0 -1 |" in page
    assert "| mse | 6 (6 to 6) | 5 | 5 | 20 | 1.0% |" in page
    assert "30 steps; only the head differs.\n" in page.replace(f"{first.config.steps:,}", "30")
    assert "| c51" not in page
    assert "1 runs of this study are not finished" in page
    finish(third, 1.0, 1.0)
    assert "not finished" not in studies.report("tiny", tmp_path, "the command")


def test_what_differs_beside_the_head_is_said(tmp_path, monkeypatch):
    """Tables B.1 and B.2 of the paper give every head a learning rate and an epsilon of its own."""
    assert studies.differing("cartpole", tmp_path) == []
    assert studies.differing("pong", tmp_path) == ["agent.adam_eps", "agent.lr"]
    page = studies.report("pong", tmp_path, "the command")
    assert "400,000 steps; only the head differs, and with it `agent.adam_eps` and `agent.lr`." in page
    assert "solved" not in page
    assert "2 runs of this study are not finished" in page


def test_what_is_finished_is_not_trained_again(study, tmp_path, monkeypatch, capsys):
    first, *rest = studies.cells("tiny", tmp_path)
    finish(first, 1.0, 1.0)

    def train_all(configs, run_dirs, jobs):
        assert list(run_dirs) == [cell.run_dir for cell in rest]
        for cell in rest:
            finish(cell, 0.0, 0.0)
        return 0

    monkeypatch.setattr(studies, "train_all", train_all)
    studies.main("tiny", 1, tmp_path, tmp_path / "out")
    assert (tmp_path / "out" / "tiny.md").read_text().startswith("# Does it?\n")
    assert (tmp_path / "out" / "tiny.png").stat().st_size > 1000
    assert read_curve(first.run_dir / "metrics.csv") == ([20, 30], [1.0, 1.0])


def test_failures_end_the_study(study, tmp_path, monkeypatch):
    monkeypatch.setattr(studies, "train_all", lambda *arguments: 2)
    with pytest.raises(SystemExit, match="some runs failed"):
        studies.main("tiny", 1, tmp_path, tmp_path / "out")


def test_an_unknown_study():
    with pytest.raises(ConfigError, match=r"unknown study 'cartpol'. Did you mean cartpole\?"):
        studies.cells("cartpol", None)  # pyright: ignore
