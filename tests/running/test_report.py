"""Is the report of a comparison whole, of itself, and true to its numbers?"""

import csv
import re
import sys

import numpy as np
import pytest

from agents.experiments import results, statistics
from agents.experiments.page import Grid, Heading, Picture, Text, html_page, markdown
from agents.experiments.report import write_report

FIGURES = ["aggregates", "curves", "profiles", "improvements"]


@pytest.fixture
def records(make_record):
    """Three heads, four seeds, two environments whose returns are of other sizes."""
    rng = np.random.default_rng(0)
    return [
        make_record(head, env, seed, (size * rng.uniform(0, 1, size=3)).tolist())
        for head in ("mse", "c51", "a|b<i>")
        for env, size in (("catch", 1.0), ("CartPole-v1", 500.0))
        for seed in (1, 2, 3, 4)
    ]


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_report_is_whole_and_needs_nothing_from_outside(records, tmp_path):
    write_report(records, tmp_path, command="classyq compare runs", sweep=[])
    for name in FIGURES:
        assert rows_of(tmp_path / f"{name}.csv")
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (tmp_path / f"{name}.svg").read_text()
    page = (tmp_path / "report.html").read_text()
    outside = re.sub(r'src="data:image/svg\+xml;base64,[A-Za-z0-9+/=]+"', "", page)
    assert page.count('src="data:image/svg+xml;base64,') == 4
    assert not re.search(r"https?:|//|<script|<link|@import|url\(|src=|href=", outside)
    assert "a|b&lt;i&gt;" in page
    assert "<i>" not in page
    text = (tmp_path / "report.md").read_text()
    assert set(re.findall(r"!\[[^]]+\]\((.+?)\)", text)) == {f"{name}.png" for name in FIGURES}
    assert "a\\|b<i>" in text
    assert "`classyq compare runs`" in text
    assert "Seeds 1 to 4. Steps of a run: 300 in catch; 300 in CartPole-v1. Python 3.11.9, torch 2.9.1" in text
    assert "2,000 resamples" in text


def test_the_same_numbers_make_the_same_report(records, tmp_path, monkeypatch):
    monkeypatch.setattr("agents.experiments.report.draw_all", lambda folder, score: [])
    for name in ("one", "two"):
        write_report(records, tmp_path / name, command="c")
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / n).iterdir()} for n in ("one", "two"))
    assert one == two


def test_numbers_are_those_of_the_statistics(records):
    """The scale of an environment is that of its worst and best run; a profile and an area are taken as they are."""
    envs = ("catch", "CartPole-v1")
    raw = {
        head: np.array(
            [[r.summary["best_return"] for r in records if (r.head, r.env) == (head, env)] for env in envs]
        ).T
        for head in ("mse", "c51", "a|b<i>")
    }
    every = np.concatenate(list(raw.values()))
    scaled = {head: (x - every.min(0)) / (every.max(0) - every.min(0)) for head, x in raw.items()}
    assert results.scale_of(records) == "range"
    row = next(
        r for r in results.aggregates(records) if (r["measure"], r["statistic"], r["head"]) == ("final", "IQM", "c51")
    )
    expected = statistics.bootstrap(scaled["c51"], statistics.iqm)
    assert (row["value"], row["low"], row["high"]) == pytest.approx(tuple(map(float, expected)))
    row = next(
        r for r in results.improvements(records) if (r["measure"], r["head"], r["than"]) == ("final", "c51", "mse")
    )
    assert row["value"] == pytest.approx(float(statistics.probability_of_improvement(raw["c51"], raw["mse"]).value))
    rows = [r for r in results.profiles(records) if r["head"] == "mse"]
    for row in rows:
        assert row["value"] == np.mean(results.scaled_scores(records, "final")["mse"] > row["score"])
    assert (rows[0]["value"], rows[-1]["value"]) == (1.0, 0.0)
    row = next(r for r in results.curves(records) if (r["env"], r["head"], r["step"]) == ("CartPole-v1", "mse", 200))
    of_step = np.array([r.returns[1] for r in records if (r.env, r.head) == ("CartPole-v1", "mse")])
    assert row["value"] == pytest.approx(np.sort(of_step)[1:3].mean())


def test_scales(make_record):
    """Games have their human; one other environment its returns; and equal scores are no reason to divide by zero."""
    pong = [make_record("mse", "ALE/Pong-v5", s, [-20.7, 14.6]) for s in (1, 2)]
    assert results.scale_of(pong) == "human"
    assert results.scaled_scores(pong, "last")["mse"].tolist() == [[pytest.approx(1.0)]] * 2
    statistics_of = {r["statistic"] for r in results.aggregates(pong)}
    assert statistics_of == {"IQM", "mean", "optimality gap"}
    assert results.scale_of([make_record()]) == "return"
    equal = [make_record(env=e) for e in ("catch", "chain")]
    assert results.scaled_scores(equal, "final")["mse"].tolist() == [[1.0, 1.0]]


def test_costs(make_record):
    (row,) = results.costs([make_record(), make_record(seed=2)])
    assert (row["cpu_ms_per_update"], row["steps_per_second"], row["updates"]) == (40.0, 50.0, 50.0)
    (row,) = results.costs([make_record()._replace(updates=None)])
    assert "cpu_ms_per_update" not in row


def test_a_sweep_takes_the_largest_area_and_of_equals_the_first(make_record):
    heights = {
        ("mse", 1.0): 0.5,
        ("mse", 2.0): 0.7,
        ("mse", 4.0): 0.7,
        ("c51", 1.0): 0.9,
        ("c51", 2.0): 0.8,
        ("c51", 4.0): 0.1,
    }
    tries = {
        factor: [make_record(h, seed=s, returns=[heights[h, factor]] * 2) for h in ("mse", "c51") for s in (7, 8)]
        for factor in (1.0, 2.0, 4.0)
    }
    chosen, rows = results.choose_factors(tries)
    assert chosen == {"mse": 2.0, "c51": 1.0}
    assert [(r["head"], r["factor"], r["value"], r["seeds"]) for r in rows][:2] == [
        ("mse", 1.0, 0.5, 2),
        ("mse", 2.0, 0.7, 2),
    ]
    assert [r["chosen"] for r in rows] == ["", "chosen", "", "chosen", "", ""]


def test_one_head_with_one_seed(make_record, tmp_path):
    """No interval, and it says so; nobody to beat, so no figure of that; a curve of one point."""
    numbers = write_report([make_record(returns=[0.5])], tmp_path, command="c")
    assert {row["low"] for row in numbers.aggregates} == {None}
    assert "One seed says nothing about how much seeds vary" in (tmp_path / "report.md").read_text()
    assert "<strong>One seed" in (tmp_path / "report.html").read_text()
    assert not (tmp_path / "improvements.png").exists()
    assert "| mse | 1 | 0.50 | 0.50 | 0.50 |" in (tmp_path / "report.md").read_text()


def test_without_matplotlib_there_are_numbers(make_record, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    write_report([make_record(), make_record("c51")], tmp_path, command="c")
    assert "There are no figures: matplotlib is missing" in (tmp_path / "report.md").read_text()
    assert (tmp_path / "curves.csv").is_file()


def test_a_page_in_two_languages(tmp_path):
    (tmp_path / "f.svg").write_text("<svg/>")
    blocks = [
        Heading("H `x`"),
        Text("a *b* **c** 2*3*4 <"),
        Grid(["k", "v"], [["a", "1|2"]], "fold"),
        Picture("f", "what"),
    ]
    assert markdown("T", blocks) == (
        "# T\n\n## H `x`\n\na *b* **c** 2*3*4 <\n\n<details><summary>fold</summary>\n\n"
        "| k | v |\n| --- | ---: |\n| a | 1\\|2 |\n\n</details>\n\n![what](f.png)\n"
    )
    page = html_page("T", blocks, tmp_path)
    assert "<h2>H <code>x</code></h2>\n<p>a <em>b</em> <strong>c</strong> 2*3*4 &lt;</p>" in page
    assert '<details><summary>fold</summary><div class="scroll"><table>' in page
    assert '<img alt="what" src="data:image/svg+xml;base64,PHN2Zy8+">' in page
