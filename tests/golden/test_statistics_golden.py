"""Statistics of scores against scipy, and against what a person computes by hand."""

import numpy as np
import pytest
import scipy.stats

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


@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (5, 1), (10, 4), (7, 57)])
def test_iqm_is_the_trimmed_mean_of_scipy(shape):
    """rliable computes its IQM with this function; all runs of all tasks are sorted together."""
    scores = np.random.default_rng(0).normal(size=(2, *shape))
    expected = [scipy.stats.trim_mean(x, 0.25, axis=None) for x in scores]
    np.testing.assert_allclose(iqm(scores), expected, rtol=1e-13)


def test_aggregates_by_hand():
    """Two seeds of four tasks. Sorted: 0 0 | 1 1 2 2 | 10 20; means of tasks: 1 1 1 15."""
    scores = np.array([[0.0, 1.0, 2.0, 10.0], [2.0, 1.0, 0.0, 20.0]])
    assert iqm(scores) == 1.5
    assert median(scores) == 1.0
    assert mean(scores) == 4.5
    assert optimality_gap(scores) == 0.25  # 2 of 8 runs miss 1 by 1, the others by 0
    assert optimality_gap(scores, target=10.0) == 10 - (0 + 1 + 2 + 10 + 2 + 1 + 0 + 10) / 8


def test_the_interval_of_one_task_is_that_of_scipy():
    """The generators differ, so the quantiles agree up to their error with 20,000 resamples, about 1% of the width."""
    x = np.random.default_rng(1).gamma(2.0, size=12)
    ours = bootstrap(x[:, None], mean, resamples=20_000)
    theirs = scipy.stats.bootstrap(
        (x,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    width = theirs.high - theirs.low
    assert abs(ours.low - theirs.low) < 0.03 * width
    assert abs(ours.high - theirs.high) < 0.03 * width


def test_the_interval_over_every_resample():
    """Two seeds of two tasks: the mean of a resample is (i + 10 j) / 4 with i and j 0, 1, 2 in the ratio 1 : 2 : 1.

    Its lowest are 0 (1/16) and 0.25 (2/16), its highest 5.5 and 5.25: a tenth lies in the second of each.
    """
    estimate = bootstrap(np.array([[0.0, 0.0], [1.0, 10.0]]), mean, resamples=20_000, confidence=0.8)
    assert estimate == (2.75, 0.25, 5.25)


def test_probability_of_improvement_is_mann_whitneys_u():
    """With ties, which count one half in both."""
    rng = np.random.default_rng(3)
    x, y = rng.integers(0, 6, size=(9, 3)).astype(float), rng.integers(0, 5, size=(7, 3)).astype(float)
    u = [scipy.stats.mannwhitneyu(x[:, task], y[:, task]).statistic for task in range(3)]
    assert probability_of_improvement(x, y).value == pytest.approx(np.mean(u) / 63, rel=1e-13)


def test_probability_of_improvement_by_hand():
    """1 beats 0 and ties with 1; 2 beats both: (1 + 1/2 + 1 + 1) / 4. The second task is lost altogether."""
    x, y = np.array([[1.0, 0.0], [2.0, 0.0]]), np.array([[0.0, 5.0], [1.0, 5.0]])
    assert probability_of_improvement(x, y).value == (7 / 8 + 0) / 2


def test_its_interval_is_that_of_drawing_seeds():
    """A naive loop that draws seeds of every task; the two agree up to the error of their quantiles."""
    rng = np.random.default_rng(4)
    x, y = rng.normal(0.5, size=(6, 2)), rng.normal(size=(5, 2))
    statistics = []
    for _ in range(4_000):
        p = []
        for task in range(2):
            a, b = rng.choice(x[:, task], 6), rng.choice(y[:, task], 5)
            p.append(np.mean([(i > j) + 0.5 * (i == j) for i in a for j in b]))
        statistics.append(np.mean(p))
    estimate = probability_of_improvement(x, y, resamples=4_000)
    np.testing.assert_allclose([estimate.low, estimate.high], np.quantile(statistics, [0.025, 0.975]), atol=0.025)


def test_a_profile_by_hand():
    scores = np.array([[0.0, 1.0], [2.0, 3.0]])
    profile = performance_profile(scores, np.array([-1.0, 0.0, 1.5, 3.0]))
    np.testing.assert_array_equal(profile.value, [1.0, 0.75, 0.5, 0.0])
    assert profile.low is not None
    assert (profile.low[[0, 3]] == [1.0, 0.0]).all(), "what every resample has in common is certain"


def test_the_area_under_a_curve_by_hand():
    """From 10 to 20 a mean of 1, from 20 to 40 of 3: (10 * 1 + 20 * 3) / 30."""
    assert area_under_curve(np.array([10, 20, 40]), np.array([0.0, 2.0, 4.0])) == pytest.approx(70 / 30)
    np.testing.assert_array_equal(area_under_curve(np.array([5]), np.array([[3.0], [4.0]])), [3.0, 4.0])


def test_human_normalized_scores_by_hand():
    """Pong: random -20.7, human 14.6; Freeway: 0 and 29.6; up to rounding."""
    scores = np.array([[-20.7, 29.6], [14.6, 14.8]])
    np.testing.assert_allclose(
        human_normalized(["ALE/Pong-v5", "Freeway"], scores), [[0.0, 1.0], [1.0, 0.5]], atol=1e-12
    )
