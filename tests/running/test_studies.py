"""Does the page of a study say what its runs did, and is nothing trained twice?"""

import json

import pytest

from agents.config import ConfigError
from agents.experiments.curves import read_curve
from agents.experiments.studies import training_runs
from agents.experiments.study import Arm, Recorded, Study, data_dir, differing
from agents.experiments.study_page import report


@pytest.fixture
def study(small, monkeypatch):
    arms = [
        Arm("mse", {"head.name": "mse"}, range(1, 3)),
        Arm("c51", {"head.name": "c51"}, range(1, 2)),
    ]
    monkeypatch.setitem(training_runs.STUDIES, "tiny", Study("Does it?", "catch", arms, threshold=0.5))


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
    first, second, third = training_runs.cells("tiny", tmp_path)
    assert [(c.arm.label, c.seed, c.config.head.name) for c in (first, second, third)] == [
        ("mse", 1, "mse"),
        ("mse", 2, "mse"),
        ("c51", 1, "c51"),
    ]
    finish(first, 1.0, 0.25)
    finish(second, 0.0, -0.75)
    page = report("tiny", training_runs.find_study("tiny"), tmp_path, "the command")
    assert "| mse | 1 of 2 | 0.5 | -0.2 | 2.5 | 1 0 | 0 -1 |" in page
    assert "| mse | 6 (6 to 6) | 5 | 5 | 20 | 1.0% |" in page
    assert "30 steps; only the head differs.\n" in page.replace(f"{first.config.steps:,}", "30")
    assert "| c51" not in page
    assert "1 runs of this study are not finished" in page
    finish(third, 1.0, 1.0)
    assert "not finished" not in report("tiny", training_runs.find_study("tiny"), tmp_path, "the command")


def test_what_differs_beside_the_head_is_said(tmp_path, monkeypatch):
    """Tables B.1 and B.2 of the paper give every head a learning rate and an epsilon of its own."""
    assert differing(training_runs.cells("cartpole", tmp_path)) == []
    assert differing(training_runs.cells("pong", tmp_path)) == ["agent.adam_eps", "agent.lr"]
    page = report("pong", training_runs.find_study("pong"), tmp_path, "the command")
    assert "400,000 steps; only the head differs, and with it `agent.adam_eps` and `agent.lr`." in page
    assert "solved" not in page
    assert "2 runs of this study are not finished" in page


def test_what_is_finished_is_not_trained_again(study, tmp_path, monkeypatch, capsys):
    first, *rest = training_runs.cells("tiny", tmp_path)
    finish(first, 1.0, 1.0)

    def train_all(configs, run_dirs, jobs):
        assert list(run_dirs) == [cell.run_dir for cell in rest]
        for cell in rest:
            finish(cell, 0.0, 0.0)
        return 0

    monkeypatch.setattr(training_runs, "train_all", train_all)
    training_runs.answer("tiny", 1, tmp_path, tmp_path / "out")
    assert (tmp_path / "out" / "tiny.md").read_text().startswith("# Does it?\n")
    assert (tmp_path / "out" / "tiny.png").stat().st_size > 1000
    assert read_curve(first.run_dir / "metrics.csv") == ([20, 30], [1.0, 1.0])


def test_failures_end_the_study(study, tmp_path, monkeypatch):
    monkeypatch.setattr(training_runs, "train_all", lambda *arguments: 2)
    with pytest.raises(SystemExit, match="some runs failed"):
        training_runs.answer("tiny", 1, tmp_path, tmp_path / "out")


@pytest.mark.parametrize("name", training_runs.STUDIES)
def test_every_run_of_a_study_has_a_configuration(name, tmp_path):
    every = training_runs.cells(name, tmp_path)
    assert len({cell.run_dir for cell in every}) == len(every) > 1
    assert {cell.config.env.id for cell in every} <= {"CartPole-v1", "ALE/Pong-v5", "catch"}


def test_an_unknown_study():
    with pytest.raises(ConfigError, match=r"unknown study 'cartpol'. Did you mean cartpole\?"):
        training_runs.cells("cartpol", None)  # pyright: ignore


def test_a_study_of_recorded_data_records_them_first(tmp_path, monkeypatch):
    """The policy is trained once, its games recorded once, and every arm learns from them."""
    arms = [Arm("mse", {"head": "mse"}, range(1, 2)), Arm("hl_gauss", {"head": "hl_gauss"}, range(1, 2))]
    brief = {"steps": 600, "evaluation.every_steps": 300}
    arms = [arm._replace(overrides={**arm.overrides, **brief}) for arm in arms]
    source = Recorded("catch", {"seed": 1, **brief}, "study-offline/source", steps=200, epsilon=0.5)
    offline = Study("From data?", "cql_catch", arms, threshold=-1.0, data=source)
    monkeypatch.setitem(training_runs.STUDIES, "offline", offline)
    training_runs.answer("offline", 1, tmp_path, tmp_path / "out")
    cells = training_runs.cells("offline", tmp_path)
    assert {cell.config.plain()["agent"]["dataset"] for cell in cells} == {str(data_dir("offline", tmp_path))}
    page = (tmp_path / "out" / "offline.md").read_text()
    assert "Data: 200 steps of the best policy (greedy" in page
    assert "with 50% random actions; 22 whole episodes of mean return" in page
    assert "| mse | 1 of 1 |" in page
    assert "last 20" not in page
    monkeypatch.setattr(training_runs, "train_all", lambda *arguments: pytest.fail("trained again"))
    monkeypatch.setattr(training_runs, "record", lambda *arguments, **options: pytest.fail("recorded again"))
    training_runs.answer("offline", 1, tmp_path, tmp_path / "out")


def test_a_policy_that_cannot_be_trained_ends_the_study(tmp_path, monkeypatch):
    monkeypatch.setattr(training_runs, "train_all", lambda *arguments: 1)
    with pytest.raises(SystemExit, match=r"the run that is to be recorded failed: .*log\.txt"):
        training_runs.answer("offline_catch", 1, tmp_path, tmp_path / "out")
