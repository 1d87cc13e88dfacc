"""Is a verdict the one that the rule gives, and is a contrast the one that was written down?"""

import itertools

import numpy as np
import pytest

from agents.experiments.statistics import Estimate, bootstrap, mean
from agents.experiments.studies.paper import parse_question, read_question
from agents.experiments.studies.question import (
    Contrast,
    Row,
    merged,
    read_rows,
    smallest_detectable,
    write_rows,
)
from agents.tables import ConfigError


def contrast(**changes):
    return Contrast(**({"says": "a less b", "weights": {"a @ x": 1.0, "b @ x": -1.0}} | changes))


def estimate(low, high):
    return Estimate(np.array((low + high) / 2), np.array(low), np.array(high))


@pytest.mark.parametrize(
    ("interval", "more", "same"),
    [
        ((0.01, 0.5), "agrees", "agrees"),
        ((0.01, 2.0), "agrees", "undecided"),
        ((1.5, 2.0), "agrees", "disagrees"),
        ((-0.5, 0.5), "undecided", "agrees"),
        ((-2.0, 2.0), "undecided", "undecided"),
        ((-0.5, -0.1), "disagrees", "agrees"),
        ((-2.0, -1.5), "disagrees", "disagrees"),
        ((0.0, 1.0), "undecided", "undecided"),
    ],
)
def test_the_rule(interval, more, same):
    assert contrast().verdict(estimate(*interval)) == more
    assert contrast(expects="same", margin=1.0).verdict(estimate(*interval)) == same


def test_one_seed_decides_nothing():
    alone = Estimate(np.array(5.0), None, None)
    assert contrast().verdict(alone) == "undecided"
    assert smallest_detectable(alone) is None


def test_a_contrast_is_a_weighted_sum_within_each_seed_and_task():
    rng = np.random.default_rng(0)
    cells, tasks, seeds = ["a", "b", "c"], ["t", "u"], [4, 5, 6]
    value = {key: rng.normal() for key in itertools.product(cells, tasks, seeds)}
    rows = [Row(cell, "x", task, seed, value[cell, task, seed], 0.0) for cell, task, seed in value]
    rng.shuffle(rows)
    rows = [Row(*row) for row in rows]
    weights = {"a @ x": 0.5, "b @ x": 0.5, "c @ x": -1.0}
    found = contrast(weights=weights, tasks=tasks).per_seed(rows)
    by_hand = [[0.5 * value["a", t, s] + 0.5 * value["b", t, s] - value["c", t, s] for t in tasks] for s in seeds]
    np.testing.assert_allclose(found, by_hand)
    only = contrast(weights=weights, tasks=["u"])
    assert only.per_seed(rows).shape == (3, 1)
    assert only.estimate(rows).value == pytest.approx(np.mean(by_hand, 0)[1])
    with pytest.raises(ConfigError, match=r"a contrast names \('a @ x', 't', 4\), which was not measured"):
        contrast(weights=weights).per_seed([row for row in rows if row[:4] != ("a", "x", "t", 4)])


def test_what_can_be_detected_is_detected_in_four_studies_of_five():
    rng, num_seeds, num_studies = np.random.default_rng(0), 30, 300
    truth = 2.80 / num_seeds**0.5  # standard errors of a normal mean with deviation 1
    scores = rng.normal(truth, 1, (num_studies, num_seeds, 1))
    estimates = [bootstrap(one, mean, resamples=500) for one in scores]
    found = np.mean([contrast().verdict(e) == "agrees" for e in estimates])
    assert abs(found - 0.8) < 5 * (0.8 * 0.2 / num_studies) ** 0.5
    # the bootstrap's interval is narrower than that of a known deviation by sqrt(29 / 30)
    assert np.mean([smallest_detectable(e) for e in estimates]) == pytest.approx(truth, rel=0.05)


def test_rows_survive_being_written(tmp_path):
    rows = [Row("a, b", "m = 21", "task", 3, -1.25e-7, 12.5), Row("b", '"x"', "task", 4, 3.0, 0.0)]
    (tmp_path / "rows.csv").write_text(write_rows(rows))
    assert read_rows(tmp_path / "rows.csv") == rows


def test_tables_are_merged_deeply():
    old = {"a": 1, "t": {"x": 1, "y": {"z": 2}}}
    assert merged(old, {"a": 2, "t": {"y": {"w": 3}}, "n": {}}) == {
        "a": 2,
        "t": {"x": 1, "y": {"z": 2, "w": 3}},
        "n": {},
    }
    assert old == {"a": 1, "t": {"x": 1, "y": {"z": 2}}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "regresion"}, "unknown kind 'regresion'"),
        ({"seeds": 0}, "seeds: Input should be greater than or equal to 1, got 0"),
        ({"sedes": 3}, "sedes: Extra inputs are not permitted"),
        ({"primary": {"weights": {"mse @ b = 0": 1.0}}}, "weights must add up to 0, they add up to"),
        ({"primary": {"margin": 1.0}}, "a margin is for expects = 'same'"),
        ({"primary": {"expects": "same"}}, "a margin is for expects = 'same', which needs one"),
        ({"primary": {"tasks": ["syntetic"]}}, r"names 'syntetic'. Did you mean synthetic\?"),
        (
            {"primary": {"weights": {"mse @ b = 9": 0.5, "two_hot @ b = 8": -0.5}}},
            r"names 'mse @ b = 9'. Did you mean mse @ b = \d",
        ),
    ],
)
def test_what_is_wrong_in_settings_is_said_before_anything_is_measured(changes, message):
    data = read_question("plasticity").model_dump()
    with pytest.raises(ConfigError, match=f"here: .*{message}"):
        parse_question(merged(data, changes), "here")


def test_an_unknown_study():
    with pytest.raises(ConfigError, match=r"unknown study 'plastisity'. Did you mean plasticity\?"):
        read_question("plastisity")
