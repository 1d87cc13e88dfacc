"""Do the statistics keep what they must, do intervals cover the truth as often as they say, and what is refused?"""

import numpy as np
import pytest

from agents.experiments.statistics import (
    area_under_curve,
    bootstrap,
    human_normalized,
    iqm,
    mean,
    median,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
)

RNG = np.random.default_rng(0)
SCORES = RNG.gamma(2.0, size=(8, 3))
AGGREGATES = (iqm, median, mean)


def ends(estimate):
    return np.array([estimate.value, estimate.low, estimate.high])


@pytest.mark.parametrize("statistic", AGGREGATES)
def test_scale_and_shift(statistic):
    """Scores in other units give the same estimate in other units, for the same draws."""
    expected = 100 * ends(bootstrap(SCORES, statistic)) - 7
    np.testing.assert_allclose(ends(bootstrap(100 * SCORES - 7, statistic)), expected, rtol=1e-12)


@pytest.mark.parametrize("statistic", [*AGGREGATES, optimality_gap])
def test_the_order_of_seeds_and_tasks_says_nothing(statistic):
    """Seeds are shuffled within each task, which would mix up runs of one seed if anything depended on them."""
    shuffled = RNG.permuted(SCORES, axis=0)[:, RNG.permutation(3)]
    assert statistic(shuffled) == pytest.approx(statistic(SCORES), rel=1e-12)
    one, other = (ends(bootstrap(x, statistic, resamples=20_000)) for x in (SCORES, shuffled))
    np.testing.assert_allclose(one, other, atol=0.03 * (one[2] - one[1]))


@pytest.mark.parametrize("statistic", [*AGGREGATES, optimality_gap])
def test_what_stands_before_is_computed_for_itself_with_the_same_draws(statistic):
    many = np.stack([SCORES, 2 * SCORES, SCORES])
    np.testing.assert_array_equal(statistic(many), [statistic(x) for x in many])
    estimate, alone = bootstrap(many, statistic), bootstrap(2 * SCORES, statistic)
    np.testing.assert_allclose(ends(estimate)[:, 1], ends(alone), rtol=1e-12)
    np.testing.assert_array_equal(ends(estimate)[:, 0], ends(estimate)[:, 2])


def test_a_stratum_is_a_task():
    """Where the seeds of each task are alike, no resample differs, however far the tasks are apart."""
    estimate = bootstrap(np.tile([0.0, 100.0], (5, 1)), mean)
    assert estimate.value == estimate.low == estimate.high == 50.0


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_the_interval_covers_the_truth_as_often_as_it_says(confidence):
    """300 experiments of 30 seeds of two tasks; 2% too rarely is what a percentile interval of 30 seeds misses, and the
    standard error of a share of 300 is 2.3% at most: three of them on each side."""
    rng = np.random.default_rng(5)
    covered = []
    for _ in range(300):
        estimate = bootstrap(
            rng.normal([0.0, 5.0], [1.0, 2.0], size=(30, 2)), mean, resamples=300, confidence=confidence
        )
        assert estimate.low is not None
        assert estimate.high is not None
        covered.append(estimate.low <= 2.5 <= estimate.high)
    error = 3 * (confidence * (1 - confidence) / 300) ** 0.5
    assert confidence - 0.02 - error < np.mean(covered) < confidence + error


def test_more_seeds_make_it_narrower():
    """Sixteen times as many: a quarter as wide, within a quarter of that."""
    few, many = (ends(bootstrap(RNG.normal(size=(n, 4)), iqm)) for n in (20, 320))
    assert (many[2] - many[1]) / (few[2] - few[1]) == pytest.approx(0.25, rel=0.25)


def test_one_seed_has_no_interval():
    """However many tasks: without a second seed nobody knows how much seeds vary."""
    for estimate in (
        bootstrap(SCORES[:1], iqm),
        probability_of_improvement(SCORES[:1], SCORES),
        probability_of_improvement(SCORES, SCORES[:1]),
        performance_profile(SCORES[:1], np.array([0.5, 1.0])),
    ):
        assert estimate.low is None
        assert estimate.high is None
        assert np.isfinite(estimate.value).all()


def test_the_same_seed_draws_the_same():
    assert (ends(bootstrap(SCORES, iqm, seed=3)) == ends(bootstrap(SCORES, iqm, seed=3))).all()
    assert (ends(bootstrap(SCORES, iqm, seed=3)) != ends(bootstrap(SCORES, iqm, seed=4))).any()


def test_probabilities_of_improvement_of_two_sum_to_one():
    """For whole numbers, with many ties; and every increasing function of the scores leaves them as they are."""
    x, y = RNG.integers(0, 4, size=(6, 2)), RNG.integers(0, 4, size=(9, 2))
    there, back = probability_of_improvement(x, y), probability_of_improvement(y, x)
    assert there.value + back.value == pytest.approx(1.0)
    np.testing.assert_array_equal(ends(there), ends(probability_of_improvement(np.exp(x), np.exp(y))))
    assert probability_of_improvement(x, x).value == 0.5
    assert (ends(probability_of_improvement(x + 10, y)) == 1.0).all()


def test_a_profile_falls_from_one_to_zero_and_its_area_is_the_mean():
    """For scores in [0, 1] the integral of P(x > tau) over tau is their mean."""
    scores, taus = RNG.uniform(size=(6, 2)), np.linspace(-1e-9, 1, 4_001)
    profile = performance_profile(scores, taus, resamples=50)
    assert (profile.value[0], profile.value[-1]) == (1.0, 0.0)
    assert (np.diff(profile.value) <= 0).all()
    assert area_under_curve(taus, profile.value) == pytest.approx(scores.mean(), abs=1e-3)
    assert profile.low is not None
    assert profile.high is not None
    assert (profile.low <= profile.value).all()
    assert (profile.value <= profile.high).all()


def test_the_area_under_a_curve_does_not_depend_on_where_it_is_cut():
    """A straight line has its middle, however unevenly it is evaluated; several curves at once."""
    steps = np.array([0, 1, 5, 30, 100])
    np.testing.assert_allclose(area_under_curve(steps, np.stack([2.0 * steps, 7 - steps])), [100.0, -43.0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: iqm(np.zeros(3)), r"scores \(3,\) are not \[\.\.\., seeds, tasks\]"),
        (lambda: mean(np.zeros((0, 3))), r"scores \(0, 3\) are not"),
        (lambda: median(np.array([[1.0, np.nan]])), "1 of 2 scores are not finite"),
        (lambda: bootstrap(SCORES, iqm, resamples=0), "resamples must be at least 1, got 0"),
        (lambda: bootstrap(SCORES, iqm, confidence=95), "confidence must be between 0 and 1, got 95"),
        (lambda: probability_of_improvement(SCORES, SCORES[:, :2]), r"\(8, 3\) and \(8, 2\) are not \[seeds, tasks\]"),
        (lambda: performance_profile(SCORES[None], np.zeros(2)), r"\(1, 8, 3\) and taus \(2,\) are not"),
        (lambda: area_under_curve(np.arange(3), np.zeros(2)), r"values \(2,\) do not match steps \(3,\)"),
        (lambda: area_under_curve(np.array([1, 1]), np.zeros(2)), r"steps do not increase: \[1.0, 1.0\]"),
        (lambda: human_normalized(["Pong"], np.zeros((2, 2))), r"scores \(2, 2\) do not match 1 games"),
        (lambda: human_normalized(["catch"], np.zeros((2, 1))), "'catch' has no published score of a human"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
