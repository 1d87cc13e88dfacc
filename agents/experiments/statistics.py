"""Statistics of scores over seeds and tasks, with intervals that say how sure they are.

N seeds (runs of a task), M tasks, K seeds of another agent, T points of a curve, R resamples. Scores are [N, M]; where
[..., N, M] is said, anything may stand before them. A task is an environment; its runs are independent.

Source: Agarwal, Schwarzer, Castro, Courville and Bellemare, "Deep Reinforcement Learning at the Edge of the Statistical
    Precipice", NeurIPS 2021; where their library rliable decides something that the paper leaves open, so do we.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from envs.atari_scores import human_normalized as human_normalized_score

RESAMPLES = 2_000
CONFIDENCE = 0.95
Statistic = Callable[[np.ndarray], np.ndarray]  # [..., N, M] -> [...]


class Estimate(NamedTuple):
    """A statistic and its interval, all of one shape; no interval (None) where a task has a single seed."""

    value: np.ndarray
    low: np.ndarray | None
    high: np.ndarray | None


def checked(scores: np.ndarray) -> np.ndarray:
    """Scores [..., N, M] in float64.

    Raises:
        ValueError: fewer than two dimensions, no scores, or one that is no number.
    """
    scores = np.asarray(scores, np.float64)
    if scores.ndim < 2 or scores.size == 0:
        raise ValueError(f"scores {scores.shape} are not [..., seeds, tasks] with at least one of each")
    if not np.isfinite(scores).all():
        raise ValueError(f"{np.sum(~np.isfinite(scores))} of {scores.size} scores are not finite")
    return scores


def iqm(scores: np.ndarray) -> np.ndarray:
    """Interquartile mean: the mean of all runs without the lowest and the highest quarter.

        IQM = mean(x_(c+1), ..., x_(n-c)),  n = N M,  c = floor(n / 4)

    Args:
        scores: [..., N, M].

    Returns:
        [...]

    Raises:
        ValueError: see `checked`.

    Source: Agarwal et al. 2021, section 4.3; c is that of `scipy.stats.trim_mean`, which rliable uses.
    """
    scores = checked(scores)
    flat = np.sort(scores.reshape(*scores.shape[:-2], -1), axis=-1)
    cut = flat.shape[-1] // 4
    return flat[..., cut : flat.shape[-1] - cut].mean(-1)


def median(scores: np.ndarray) -> np.ndarray:
    """Median over tasks of the mean over seeds: scores [..., N, M] -> [...]. With one task it is the mean.

    Raises:
        ValueError: see `checked`.

    Source: the aggregate that Agarwal et al. 2021 argue against, as rliable computes it.
    """
    return np.median(checked(scores).mean(-2), axis=-1)


def mean(scores: np.ndarray) -> np.ndarray:
    """Mean over tasks of the mean over seeds: scores [..., N, M] -> [...].

    Raises:
        ValueError: see `checked`.
    """
    return checked(scores).mean((-2, -1))


def optimality_gap(scores: np.ndarray, target: float = 1.0) -> np.ndarray:
    """How much runs fall short of a target on average; what is above it makes up for nothing.

        gap = target - mean(min(x, target))

    Args:
        scores: [..., N, M], normalised.
        target: the score that is good enough; 1 is a human in human-normalised scores.

    Returns:
        [...], in the units of a score.

    Raises:
        ValueError: see `checked`.

    Source: Agarwal et al. 2021, section 4.3.
    """
    return target - np.minimum(checked(scores), target).mean((-2, -1))


def bootstrap(
    scores: np.ndarray,
    statistic: Statistic,
    *,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Estimate:
    """A statistic with its percentile interval of a stratified bootstrap.

    The strata are the tasks: a resample draws N of the N seeds with replacement, in each task for itself. The interval
    lies between the (1 - confidence) / 2 and the (1 + confidence) / 2 quantile of the statistic over resamples. What
    stands before [N, M], such as the points of a curve, is resampled together.

    Args:
        scores: [..., N, M].
        statistic: maps [..., N, M] to [...].
        resamples: R.
        confidence: between 0 and 1.
        seed: of the generator that draws.

    Returns:
        An estimate [...], without an interval where N is 1: a single seed says nothing about how much seeds vary.

    Raises:
        ValueError: see `checked`; fewer than one resample, or a confidence that is not between 0 and 1.

    Source: Agarwal et al. 2021, section 4.1; percentile intervals as in rliable.
    """
    scores = checked(scores)
    check_request(resamples, confidence)
    value = np.asarray(statistic(scores))
    num_seeds, num_tasks = scores.shape[-2:]
    if num_seeds == 1:
        return Estimate(value, None, None)
    drawn = np.random.default_rng(seed).integers(num_seeds, size=(resamples, num_seeds, num_tasks))
    tasks = np.arange(num_tasks)
    each = scores.reshape(-1, num_seeds, num_tasks)  # one after the other, because all at once can be gigabytes
    statistics = np.stack([statistic(one[drawn, tasks]) for one in each])
    return with_interval(value, statistics, confidence)


def check_request(resamples: int, confidence: float) -> None:
    """Raise ValueError for a bootstrap that cannot be."""
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")


def with_interval(value: np.ndarray, statistics: np.ndarray, confidence: float) -> Estimate:
    """A value [...] with the quantiles of its resamples [prod(...), R]."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(statistics, [tail, 1 - tail], axis=-1)
    return Estimate(value, low.reshape(value.shape), high.reshape(value.shape))


def wins(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """1 where x_i > y_j, 1/2 where they are equal, else 0: x [N], y [K] -> [N, K]."""
    return (x[:, None] > y) + 0.5 * (x[:, None] == y)


def probability_of_improvement(
    x: np.ndarray,
    y: np.ndarray,
    *,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Estimate:
    """How likely a run of X beats a run of Y in a task that is drawn at random.

        P(X > Y) = 1/M sum_m 1/(N K) sum_i sum_j [x_im > y_jm] + 1/2 [x_im = y_jm]

    which in each task is the U statistic of Mann and Whitney over N K. Both are resampled as in `bootstrap`.

    Args:
        x: scores [N, M].
        y: scores [K, M] of the same tasks.
        resamples: R.
        confidence: between 0 and 1.
        seed: of the generator that draws.

    Returns:
        An estimate of shape (), without an interval where N or K is 1.

    Raises:
        ValueError: see `bootstrap`; x or y is not of two dimensions, or they are of different numbers of tasks.

    Source: Agarwal et al. 2021, section 4.3.
    """
    x, y = checked(x), checked(y)
    check_request(resamples, confidence)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise ValueError(f"scores {x.shape} and {y.shape} are not [seeds, tasks] of the same tasks")
    tables = [wins(x[:, task], y[:, task]) for task in range(x.shape[1])]
    value = np.asarray(np.mean([table.mean() for table in tables]))
    if 1 in (len(x), len(y)):
        return Estimate(value, None, None)
    rng = np.random.default_rng(seed)
    total = np.zeros(resamples)
    for table in tables:  # how often each seed is drawn is all that a resample says
        times_x, times_y = (rng.multinomial(n, np.full(n, 1 / n), size=resamples) for n in table.shape)
        total += np.sum((times_x @ table) * times_y, -1) / table.size
    return with_interval(value, total[None] / len(tables), confidence)


def performance_profile(
    scores: np.ndarray,
    taus: np.ndarray,
    *,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Estimate:
    """The share of runs whose score is above tau: F(tau) = 1/M sum_m 1/N sum_n [x_nm > tau], with pointwise bands.

    Args:
        scores: [N, M].
        taus: [T].
        resamples: R.
        confidence: between 0 and 1.
        seed: of the generator that draws.

    Returns:
        An estimate [T], without bands where N is 1.

    Raises:
        ValueError: see `bootstrap`; scores or taus of other dimensions.

    Source: Agarwal et al. 2021, section 4.2, equation 1.
    """
    scores, taus = checked(scores), np.asarray(taus, np.float64)
    if scores.ndim != 2 or taus.ndim != 1:
        raise ValueError(f"scores {scores.shape} and taus {taus.shape} are not [seeds, tasks] and [points]")
    above = scores > taus[:, None, None]
    return bootstrap(above, mean, resamples=resamples, confidence=confidence, seed=seed)


def area_under_curve(steps: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Mean height of a learning curve between its first and its last evaluation, by the trapezoid rule.

        AUC = 1 / (s_T - s_1) sum_t (s_t+1 - s_t) (v_t + v_t+1) / 2

    A curve of one point is as high as that point.

    Args:
        steps: [T], increasing.
        values: [..., T].

    Returns:
        [...], in the units of a value.

    Raises:
        ValueError: other shapes, or steps that do not increase.
    """
    steps, values = np.asarray(steps, np.float64), np.asarray(values, np.float64)
    if steps.ndim != 1 or values.shape[-1:] != steps.shape or steps.size == 0:
        raise ValueError(f"values {values.shape} do not match steps {steps.shape}")
    widths = np.diff(steps)
    if (widths <= 0).any():
        raise ValueError(f"steps do not increase: {steps.tolist()}")
    if steps.size == 1:
        return values[..., 0]
    return ((values[..., 1:] + values[..., :-1]) / 2) @ widths / widths.sum()


def human_normalized(env_ids: Sequence[str], scores: np.ndarray) -> np.ndarray:
    """(score - random) / (human - random) of scores [..., M] in M Atari games.

    Raises:
        ValueError: another number of games, or one without published scores.

    Source: envs/atari_scores.py.
    """
    scores = np.asarray(scores, np.float64)
    if scores.shape[-1:] != (len(env_ids),):
        raise ValueError(f"scores {scores.shape} do not match {len(env_ids)} games")
    columns = []
    for env_id, score in zip(env_ids, np.moveaxis(scores, -1, 0), strict=True):
        zero, one = (human_normalized_score(env_id, value) for value in (0.0, 1.0))  # it is linear
        if zero is None or one is None:
            raise ValueError(f"{env_id!r} has no published score of a human")
        columns.append(zero + (one - zero) * score)
    return np.stack(columns, -1)
