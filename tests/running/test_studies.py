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
        "seconds": 7.0,
        "cpu_seconds": 6.0,
        "time_logging": 0.01,
    }
    (cell.run_dir / "summary.json").write_text(json.dumps(summary))
    (cell.run_dir / "metrics.csv").write_text(f"step,eval/episodic_return\n10,\n20,{last}\n30,{best}\n")


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
    assert "| mse | 1 of 2 | 0.5 | -0.2 | 1 0 | 0 -1 |" in page
    assert "| c51" not in page
    assert "1 runs of this study are not finished" in page
    finish(third, 1.0, 1.0)
    assert "not finished" not in studies.report("tiny", tmp_path, "the command")


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
