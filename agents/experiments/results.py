"""The numbers of a comparison, as rows of tables: what is drawn and printed, and what is in the CSV files of a report.

N seeds, M environments. A row is a dict; `value`, `low` and `high` are an estimate, the last two None where it has no
interval.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from agents.experiments import statistics
from agents.experiments.records import MEASURES, Record
from agents.experiments.statistics import Estimate, bootstrap, human_normalized
from envs.atari_scores import human_normalized as human_score

Row = dict[str, Any]
STATISTICS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "IQM": statistics.iqm,
    "median": statistics.median,
    "mean": statistics.mean,
    "optimality gap": statistics.optimality_gap,
}
SCALES = {
    "return": "Returns are as the environment gives them.",
    "human": "Scores are human-normalised: 0 is random play, 1 a human (Mnih et al. 2015, Wang et al. 2016).",
    "range": "Environments have returns of other sizes, so before they are put together those of each are scaled: 0 is "
    "the worst and 1 the best of all runs compared in it. Such a score is relative to what is compared.",
}
NUM_TAUS = 201


def heads_of(records: Sequence[Record]) -> list[str]:
    return list(dict.fromkeys(r.head for r in records))


def envs_of(records: Sequence[Record]) -> list[str]:
    return list(dict.fromkeys(r.env for r in records))


def scale_of(records: Sequence[Record]) -> str:
    """One of SCALES: human-normalised for Atari games; raw for one environment; else relative to the runs compared."""
    envs = envs_of(records)
    if all(human_score(env, 0.0) is not None for env in envs):
        return "human"
    return "return" if len(envs) == 1 else "range"


def raw_scores(records: Sequence[Record], head: str, measure: str) -> np.ndarray:
    """Raw returns [N, M] of a head, seeds in order."""
    of_head = sorted((r for r in records if r.head == head), key=lambda r: r.seed)
    return np.array([[r.score(measure) for r in of_head if r.env == env] for env in envs_of(records)]).T


def scaled_scores(records: Sequence[Record], measure: str) -> dict[str, np.ndarray]:
    """Scores [N, M] of every head on the scale of `scale_of`; where all runs of an environment are equal, 1."""
    raw = {head: raw_scores(records, head, measure) for head in heads_of(records)}
    scale = scale_of(records)
    if scale == "human":
        return {head: human_normalized(envs_of(records), scores) for head, scores in raw.items()}
    if scale == "return":
        return raw
    together = np.concatenate(list(raw.values()))
    low, high = together.min(0), together.max(0)
    width = np.where(high > low, high - low, 1.0)
    return {head: np.where(high > low, (scores - low) / width, 1.0) for head, scores in raw.items()}


def spread(estimate: Estimate) -> Row:
    """The columns of an estimate that is one number."""
    low, high = (None if end is None else float(end) for end in (estimate.low, estimate.high))
    return {"value": float(estimate.value), "low": low, "high": high}


def points(name: str, at: Sequence[float] | np.ndarray, estimate: Estimate) -> list[Row]:
    """A row for each point of a curve."""
    ends = [[None] * len(at) if end is None else end.tolist() for end in (estimate.low, estimate.high)]
    return [
        {name: x, "value": value, "low": low, "high": high}
        for x, value, low, high in zip(at, estimate.value.tolist(), *ends, strict=True)
    ]


def aggregates(records: Sequence[Record]) -> list[Row]:
    """Every statistic of every measure of every head, over all environments."""
    wanted = dict(STATISTICS)
    if scale_of(records) != "human":
        del wanted["optimality gap"]  # there is no score that is good enough
    if len(envs_of(records)) < 3:
        del wanted["median"]  # over environments: of one or two it is their mean
    return [
        {
            "measure": measure,
            "statistic": name,
            "head": head,
            **spread(bootstrap(scores, statistic)),
            "seeds": len(scores),
        }
        for measure in MEASURES
        for name, statistic in wanted.items()
        for head, scores in scaled_scores(records, measure).items()
    ]


def per_environment(records: Sequence[Record]) -> list[Row]:
    """The IQM of raw returns in every environment by itself, and their mean."""
    rows = []
    for env, measure, head in itertools.product(envs_of(records), MEASURES, heads_of(records)):
        scores = raw_scores([r for r in records if r.env == env], head, measure)
        own = {"env": env, "measure": measure, "head": head}
        rows.append(
            {**own, **spread(bootstrap(scores, statistics.iqm)), "mean": float(scores.mean()), "seeds": len(scores)}
        )
    return rows


def curves(records: Sequence[Record]) -> list[Row]:
    """The IQM over seeds at every evaluation."""
    rows = []
    for env, head in itertools.product(envs_of(records), heads_of(records)):
        runs = [r for r in records if (r.env, r.head) == (env, head)]
        returns = np.array([r.returns for r in runs]).T[..., None]  # [T, N, 1]
        own = {"env": env, "head": head, "seeds": len(runs)}
        rows += [own | point for point in points("step", runs[0].steps, bootstrap(returns, statistics.iqm))]
    return rows


def profiles(records: Sequence[Record]) -> list[Row]:
    """The share of runs above a score, at the scores that there are (or NUM_TAUS of them), and beyond both ends."""
    scaled = scaled_scores(records, "final")
    together = np.concatenate([scores.ravel() for scores in scaled.values()])
    taus = np.unique(np.quantile(together, np.linspace(0, 1, NUM_TAUS), method="nearest"))
    margin = 0.03 * (taus[-1] - taus[0]) or 0.5
    taus = np.array([taus[0] - margin, *taus, taus[-1] + margin])
    return [
        {"head": head, **point}
        for head, scores in scaled.items()
        for point in points("score", taus, statistics.performance_profile(scores, taus))
    ]


def improvements(records: Sequence[Record]) -> list[Row]:
    """The probability that a run of one head beats one of another, for every two."""
    rows = []
    for measure in MEASURES:
        scaled = scaled_scores(records, measure)
        for head, than in itertools.permutations(scaled, 2):
            estimate = statistics.probability_of_improvement(scaled[head], scaled[than])
            rows.append({"measure": measure, "head": head, "than": than, **spread(estimate)})
    return rows


def costs(records: Sequence[Record]) -> list[Row]:
    """What a run of every head took in every environment: medians."""
    rows = []
    for env, head in itertools.product(envs_of(records), heads_of(records)):
        runs = [r for r in records if (r.env, r.head) == (env, head)]
        wall, cpu, steps = (np.array([r.summary[key] for r in runs]) for key in ("seconds", "cpu_seconds", "step"))
        row = {"env": env, "head": head, "seconds": float(np.median(wall)), "cpu_seconds": float(np.median(cpu))}
        row["steps_per_second"] = float(np.median(steps / wall))
        updates = [r.updates for r in runs if r.updates]
        if len(updates) == len(runs):
            row["updates"] = float(np.median(updates))
            row["cpu_ms_per_update"] = float(np.median(1e3 * cpu / np.array(updates)))
        rows.append(row)
    return rows


def scores(records: Sequence[Record]) -> list[Row]:
    """A row for each run."""
    return [
        {"env": r.env, "head": r.head, "seed": r.seed, **{measure: r.score(measure) for measure in MEASURES}}
        | {"steps": r.summary["step"], "updates": r.updates, "seconds": r.summary["seconds"]}
        | {"cpu_seconds": r.summary["cpu_seconds"]}
        for r in records
    ]


def choose_factors(by_factor: dict[float, list[Record]]) -> tuple[dict[str, float], list[Row]]:
    """For each head the factor with the largest IQM of the area under the learning curve, and a row for each try.

    All tries are on one scale. Of equals the first is taken.
    """
    tries = [r._replace(head=f"{r.head} x{factor:g}") for factor, records in by_factor.items() for r in records]
    scaled = scaled_scores(tries, "auc")
    chosen, rows = {}, []
    for head in heads_of(next(iter(by_factor.values()))):
        estimates = {factor: bootstrap(scaled[f"{head} x{factor:g}"], statistics.iqm) for factor in by_factor}
        chosen[head] = max(estimates, key=lambda factor: float(estimates[factor].value))
        seeds = {factor: len(scaled[f"{head} x{factor:g}"]) for factor in by_factor}
        rows += [
            {"head": head, "factor": f, **spread(e), "seeds": seeds[f], "chosen": "chosen" if f == chosen[head] else ""}
            for f, e in estimates.items()
        ]
    return chosen, rows
