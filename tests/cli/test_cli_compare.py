"""compare as one types it; runs are trained in this process, as tests/resume starts real ones."""

import csv
import json
import shutil
import signal
from pathlib import Path

import pytest

from agents.experiments import jobs
from agents.experiments.cohort import Cohort
from agents.running.trainer import train

TINY = [
    *("--steps", "60", "--torso.hidden", "[8]", "--output_layer.hidden", "8", "--agent.learn_after_steps", "20"),
    *("--agent.batch_size", "8", "--evaluation.every_steps", "20", "--evaluation.num_episodes", "2"),
    *("--evaluation.final_episodes", "2", "--log.every_steps", "20"),
]


@pytest.fixture
def trained(monkeypatch):
    """Directories of the runs that were trained, in their order; figures are for tests/running/test_report.py."""
    started = []

    def here(config, run_dir, init_from=None, give_up=None):
        started.append(run_dir)
        return train(config, run_dir).exit_code

    monkeypatch.setattr(jobs, "train_in_process", here)
    monkeypatch.setattr("agents.experiments.report.draw_all", lambda folder, score: [])
    return started


def rows_of(path):
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_comparison(classyq, trained, tmp_path):
    """Every head and seed once; the table, the files; the same line trains nothing again; a changed one is refused."""
    line = ["compare", "--heads", "mse,two_hot", "--envs", "catch", "--seeds", "2", "--head.num_bins", "11", *TINY]
    result = classyq_done(classyq, *line)
    out = tmp_path / "runs" / "compare-catch"
    assert [str(d.relative_to("runs/compare-catch/cells")) for d in trained] == [
        *("catch/mse/s1", "catch/two_hot/s1", "catch/mse/s2", "catch/two_hot/s2")
    ]
    assert "compare  heads mse, two_hot; environments catch; 2 seeds" in result
    assert "4 runs, 1 at a time, in runs/compare-catch   (presets: catch for catch)" in result
    assert "but for head.* and the seed" in result
    assert "(4 of 4 runs, 100% of all steps)" in result
    assert "P(beats mse)" in result
    assert sorted(p.name for p in (out / "results").iterdir()) == [
        f"catch+{head}+s{seed}.{end}" for head in ("mse", "two_hot") for seed in (1, 2) for end in ("csv", "json")
    ]
    assert [row["step"] for row in rows_of(out / "results" / "catch+mse+s1.csv")] == ["20", "40", "60"]
    (bins,) = [row for row in rows_of(out / "report" / "settings.csv") if row["setting"] == "head.num_bins"]
    assert (bins["mse"], bins["two_hot"]) == ("-", "11")
    report = (out / "report" / "report.md").read_text()
    assert f"`classyq compare {out.relative_to(tmp_path)}`" in report

    classyq_done(classyq, *line, "--jobs", "2")
    assert len(trained) == 4
    changed = classyq(*line[:5], "--seeds", "3", "--head.num_bins", "21", *TINY)
    assert (changed.code, len(trained)) == (2, 4)
    assert "runs/compare-catch holds another comparison: seeds is 2 there and 3 now; " in changed.err
    assert "overrides.head.num_bins is 11 there and 21 now. To begin another, give --out DIR" in changed.err

    # another machine has the manifest and the results
    shutil.rmtree(out / "cells")
    shutil.rmtree(out / "report")
    classyq_done(classyq, "compare", out.relative_to(tmp_path))
    assert (out / "report" / "report.md").read_text() == report
    (out / "results" / "catch+mse+s1.json").unlink()
    missing = classyq("compare", out.relative_to(tmp_path))
    assert "runs/compare-catch is not finished: 1 of 4 results are missing" in missing.err
    assert "its report is made of it alone" in classyq("compare", out, out).err
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["versions"]["torch"] = "1.0"
    (out / "manifest.json").write_text(json.dumps(manifest))
    assert "versions.torch is 1.0 there and" in classyq(*line).err


def test_all_seeds_of_a_cell_together(classyq, trained, tmp_path, monkeypatch):
    """In this process: those of a sweep of a rate are one cohort too. What was stopped goes on with the same line."""
    cohorts, train_cohort = [], jobs.train_cohort

    def recorded(configs, run_dirs):
        cohorts.append([config.seed for config in configs])
        return train_cohort(configs, run_dirs)

    monkeypatch.setattr(jobs, "train_cohort", recorded)
    line = ["compare", "--heads", "mse,two_hot", "--envs", "catch", "--seeds", "2", "--sweep", "agent.lr=1,4"]
    line += ["--sweep-seeds", "1", "--together", *TINY]
    advance = Cohort.advance
    with monkeypatch.context() as patch:
        patch.setattr(Cohort, "advance", lambda self: (advance(self), signal.raise_signal(signal.SIGTERM)))
        stopped = classyq(*line)
    assert stopped.code == 1
    assert "not finished: 0 of 8 runs" in stopped.err
    assert "stopped; classyq resume runs/compare-catch/sweep/x1/catch/mse/s100001 goes on" in stopped.out
    assert "(8 of 8 runs, 100% of all steps)" in classyq_done(classyq, *line)
    assert cohorts == [[100_001] * 2, [100_001] * 2, [100_001] * 2, [1, 2], [1, 2]]
    assert trained == []
    assert len(list((tmp_path / "runs/compare-catch/results").glob("*.json"))) == 8
    assert (tmp_path / "runs/compare-catch/report/report.md").is_file()


def classyq_done(classyq, *line) -> str:
    """The output of a command that ends well: it ends without SystemExit(0) of its own."""
    result = classyq(*line)
    assert result.code == 0, result.err
    return result.out


def test_a_sweep_has_seeds_of_its_own_and_decides_for_the_reported(classyq, trained, tmp_path):
    line = ["compare", "--heads", "mse,two_hot", "--envs", "catch,chain", "--seeds", "1", "--sweep", "agent.lr=1,4"]
    out = classyq_done(
        classyq, *line, "--sweep-seeds", "1", "--out", "mine", *TINY, "--agent.lr", "0.001", "--torso.name", "mlp"
    )
    assert len(trained) == 2 * 2 * 2 + 2 * 2
    configs = {d: json.loads((d / "config.json").read_text()) for d in trained}
    tried = {d: c for d, c in configs.items() if d.parts[1] == "sweep"}
    assert {c["seed"] for c in tried.values()} == {100_001}
    assert {(d.parts[2], c["agent"]["lr"]) for d, c in tried.items()} == {("x1", 0.001), ("x4", 0.004)}
    rows = rows_of("mine/report/sweep.csv")
    chosen = {row["head"]: float(row["factor"]) for row in rows if row["chosen"]}
    assert len(rows) == 4
    assert {d.parts[3]: c["agent"]["lr"] for d, c in configs.items() if d not in tried} == {
        head: pytest.approx(0.001 * factor) for head, factor in chosen.items()
    }
    assert "One seed says nothing" in out
    assert "sweep of agent.lr" in out
    assert "agent.lr on chain: 0.001 (mse), 0.001 (two_hot)" in out
    assert "IQM of returns in every environment" in out
    assert "One seed says nothing" in Path("mine/report/report.md").read_text()


def test_runs_that_fail_are_tried_again_by_the_same_line(classyq, trained, monkeypatch, tmp_path):
    def fails(config, run_dir, init_from=None, give_up=None):
        run_dir.mkdir(parents=True)
        (run_dir / "log.txt").write_text("error: the cat\n")
        return 1

    line = ["compare", "--heads", "mse", "--envs", "catch", "--seeds", "1", *TINY]
    works = jobs.train_in_process
    monkeypatch.setattr(jobs, "train_in_process", fails)
    result = classyq(*line)
    assert result.code == 1
    assert "cells/catch/mse/s1  failed with exit code 1: error: the cat" in result.out
    assert "not finished: 0 of 1 runs, 0% of all steps; the same command goes on" in result.err
    monkeypatch.setattr(jobs, "train_in_process", works)
    assert "One seed says nothing" in classyq_done(classyq, *line)


@pytest.fixture
def two_runs(classyq, short, tmp_path):
    """Finished runs of two heads."""
    for head in ("mse", "hl_gauss"):
        assert classyq("train", *short, "--head", head, "--run-dir", f"runs/{head}").code == 0
    return tmp_path / "runs"


def edit(path, change):
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def test_runs_that_are_there(classyq, two_runs, trained):
    out = classyq_done(classyq, "compare", "runs")
    assert "catch: return, 95% intervals" in out
    assert "report runs/compared/report/report.html" in out
    assert "`classyq compare runs`" in Path("runs/compared/report/report.md").read_text()
    classyq_done(classyq, "compare", "mse", "runs/hl_gauss", "--out", "there")
    assert Path("there/report/scores.csv").read_text().count("\n") == 3

    edit(two_runs / "mse" / "config.json", lambda c: c | {"agent": c["agent"] | {"lr": 0.5}})
    refused = classyq("compare", "runs/mse", "runs/hl_gauss")
    assert refused.code == 2
    assert (
        "these runs differ in more than their heads: agent.lr: 0.5 (runs/mse), 0.00025 (runs/hl_gauss)" in refused.err
    )
    classyq_done(classyq, "compare", "runs/mse", "runs/hl_gauss", "--per-head", "agent.lr")
    edit(two_runs / "mse" / "summary.json", lambda s: s | {"finished": False})
    assert "runs/mse is not finished; to go on with it: classyq resume runs/mse" in classyq("compare", "runs").err
    assert "no run 'runs/mze'. Did you mean runs/mse?" in classyq("compare", "runs/mze").err


REFUSED = {
    "head": (("--heads", "mse,hl_gaus", "--envs", "catch"), "unknown head 'hl_gaus'. Did you mean 'hl_gauss'?"),
    "env": (("--heads", "mse", "--envs", "catch,cathc"), "unknown environment 'cathc'"),
    "env near": (("--heads", "mse", "--envs", "cathc"), "did you mean 'catch'?"),
    "env with a range": (("--heads", "mse", "--envs", "cathc", "--env.support", "-1,1"), "did you mean 'catch'?"),
    "preset": (("--heads", "mse", "--preset", "cach"), "unknown preset 'cach'. Did you mean catch?"),
    "key": (("--heads", "mse", "--envs", "catch", "--agent.gama", "1"), "Did you mean agent.gamma?"),
    "an option of no head": (
        ("--heads", "mse,c51", "--envs", "catch", "--head.num_bin", "9"),
        "none of mse, c51 has head.num_bin. Did you mean head.num_bins?",
    ),
    "a part of a head": (
        ("--heads", "two_hot", "--envs", "catch", "--head.num_bins", "1"),
        "num_bins must be at least 2",
    ),
    "option": (("--hedas", "mse"), "No such option: --hedas"),
    "nothing": ((), "nothing to compare: give --heads"),
    "no envs": (("--heads", "mse"), "--envs is missing"),
    "twice": (("--heads", "mse,mse", "--envs", "catch"), "--heads: mse is there twice"),
    "empty name": (
        ("--heads", "mse", "--envs", "catch,"),
        "--envs: wanted names with commas between them, got 'catch,'",
    ),
    "head.name": (
        ("--heads", "mse", "--envs", "catch", "--head.name", "c51"),
        "--head.name is what is compared: give --heads",
    ),
    "sweep": (
        ("--heads", "mse", "--envs", "catch", "--sweep", "agent.lr"),
        "--sweep: wanted a setting and different factors",
    ),
    "sweep of a head": (
        ("--heads", "c51", "--envs", "catch", "--sweep", "head.num_bins=1,2"),
        "--sweep: head.num_bins is an option of heads",
    ),
    "sweep of nothing": (
        ("--heads", "mse", "--envs", "catch", "--sweep", "agent.lrr=1,2"),
        "--sweep: agent.lrr is None, wanted a number. Did you mean agent.lr?",
    ),
    "sweep seeds": (("--heads", "mse", "--envs", "catch", "--sweep-seeds", "2"), "--sweep-seeds is for --sweep"),
    "per head": (("--heads", "mse", "--envs", "catch", "--per-head", "agent.lr"), "--per-head is for RUN..."),
    "together": (
        ("--heads", "mse", "--envs", "catch", "--together", "--jobs", "2"),
        "--together trains in one process, and --jobs 2 in several: leave out one of them",
    ),
    "both": (("runs/x", "--heads", "mse"), "--heads is for runs that are to be trained"),
    "both, dotted": (("runs/x", "--agent.lr", "1"), "--agent.lr is for runs that are to be trained"),
    "no run": (("runs/x",), "there are no runs in runs/ yet"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name, classyq, tmp_path, trained):
    arguments, message = REFUSED[name]
    result = classyq("compare", *arguments)
    assert result.code == 2
    assert message in result.err
    assert not list(tmp_path.iterdir()), "nothing is written"


def test_a_directory_with_something_else_in_it(classyq, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    result = classyq("compare", "--heads", "mse", "--envs", "catch", "--out", "mine")
    assert result.code == 2
    assert "mine is no comparison, and not empty; give a new directory with --out" in result.err
