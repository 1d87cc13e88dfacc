"""The report of a comparison: a folder with a page, its figures, and every number in CSV files."""

import csv
import io
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from agents.experiments import results
from agents.experiments.figures import draw_all
from agents.experiments.page import Block, Grid, Heading, Picture, Text, html_page, markdown
from agents.experiments.records import MEASURES, Record, is_of_the_head, per_head_settings
from agents.experiments.results import Row, envs_of, heads_of, scale_of
from agents.experiments.statistics import CONFIDENCE, RESAMPLES
from agents.running.metrics import write_whole

SHORT = {"return": "return", "human": "human-normalised score", "range": "score scaled in every environment to 0 .. 1"}
ONE_SEED = "One seed says nothing about how much seeds vary, so there are no intervals; give --seeds 5 or more."


class Numbers(NamedTuple):
    """All tables of a comparison; each is a CSV file of its name."""

    aggregates: list[Row]
    environments: list[Row]
    curves: list[Row]
    profiles: list[Row]
    improvements: list[Row]
    costs: list[Row]
    scores: list[Row]
    settings: list[Row]
    sweep: list[Row]

    @classmethod
    def of(cls, records: Sequence[Record], per_head: Collection[str], sweep: list[Row]) -> "Numbers":
        return cls(
            results.aggregates(records),
            results.per_environment(records),
            results.curves(records),
            results.profiles(records),
            results.improvements(records),
            results.costs(records),
            results.scores(records),
            per_head_settings(records, per_head),
            sweep,
        )


def number(value: float) -> str:
    """Two to four digits that count."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}"


def estimate(row: Mapping[str, Any]) -> str:
    """0.93 [0.90, 0.96], or the value alone."""
    interval = "" if row["low"] is None else f" [{number(row['low'])}, {number(row['high'])}]"
    return number(row["value"]) + interval


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Rows with the columns of all of them."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)))
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, text.getvalue())


def headline(numbers: Numbers) -> Grid:
    """What a reader wants to know first, a row for each head: final score, area under the curve, and who beats whom."""
    heads = list(dict.fromkeys(row["head"] for row in numbers.aggregates))
    final = [r for r in numbers.aggregates if r["measure"] == "final"]
    statistics = list(dict.fromkeys(r["statistic"] for r in final))
    beats = {r["head"]: r for r in numbers.improvements if (r["measure"], r["than"]) == ("final", heads[0])}
    rows = []
    for head in heads:
        of_head = {r["statistic"]: r for r in final if r["head"] == head}
        auc = next(r for r in numbers.aggregates if (r["measure"], r["statistic"], r["head"]) == ("auc", "IQM", head))
        row = [head, str(auc["seeds"]), *(estimate(of_head[s]) for s in statistics), estimate(auc)]
        rows.append([*row, estimate(beats[head]) if head in beats else ""] if beats else row)
    columns = ["head", "seeds", *statistics, "IQM of AUC", *([f"P(beats {heads[0]})"] if beats else [])]
    return Grid(columns, rows)


def by_environment(numbers: Numbers) -> Grid:
    """The IQM of raw returns of every head in every environment."""
    rows = []
    for env, head in dict.fromkeys((r["env"], r["head"]) for r in numbers.environments):
        of_measure = {r["measure"]: r for r in numbers.environments if (r["env"], r["head"]) == (env, head)}
        rows.append([env, head, *(estimate(of_measure[measure]) for measure in MEASURES)])
    return Grid(["environment", "head", "final return", "last return", "mean height of the curve"], rows)


def matrix(numbers: Numbers, measure: str, name: str) -> Grid:
    """How likely the head of a row beats the head of a column."""
    of = {(r["head"], r["than"]): r for r in numbers.improvements if r["measure"] == measure}
    heads = list(dict.fromkeys(head for head, _ in of))
    rows = [[head, *(estimate(of[head, than]) if head != than else "" for than in heads)] for head in heads]
    return Grid([f"{name}: row beats column", *heads], rows)


def settings_grid(numbers: Numbers) -> Grid:
    """What every head has of its own."""
    heads = list(dict.fromkeys(row["head"] for row in numbers.aggregates))
    return Grid(["setting", *heads], [[row["setting"], *(row[h] for h in heads)] for row in numbers.settings])


def sweep_grid(sweep: Sequence[Row]) -> Grid:
    rows = [[r["head"], f"x{r['factor']:g}", estimate(r), str(r["seeds"]), r["chosen"]] for r in sweep]
    return Grid(["head", "factor", "IQM of AUC", "seeds", ""], rows)


def cost_grid(costs: Sequence[Row]) -> Grid:
    columns = ["environment", "head", "wall s", "CPU s", "steps/s", "updates", "CPU ms per update"]
    keys = ("seconds", "cpu_seconds", "steps_per_second", "updates", "cpu_ms_per_update")
    return Grid(columns, [[r["env"], r["head"], *(number(r[k]) if k in r else "-" for k in keys)] for r in costs])


def common_settings(records: Sequence[Record], per_head: Collection[str]) -> list[Block]:
    """What all runs of an environment have in common, folded away: it is long."""
    blocks: list[Block] = []
    for env in envs_of(records):
        first = next(r for r in records if r.env == env)
        keys = [k for k in first.config if k != "seed" and not is_of_the_head(k, per_head)]
        rows = [[key, str(first.config[key])] for key in keys]
        blocks.append(Grid(["setting", "value"], rows, f"{len(keys)} settings of {env}, the same for every head"))
    return blocks


def circumstances(records: Sequence[Record]) -> str:
    """Seeds, versions, protocol and budget, in words."""
    by_head = {head: sorted({r.seed for r in records if r.head == head}) for head in heads_of(records)}
    texts = {head: ranges(seeds) for head, seeds in by_head.items()}
    alike = len(set(texts.values())) == 1
    seeds = next(iter(texts.values())) if alike else "; ".join(f"{t} ({h})" for h, t in texts.items())
    notes = records[0].notes
    versions = ", ".join(f"{name} {version}" for name, version in notes["versions"].items())
    steps = "; ".join(f"{next(r for r in records if r.env == e).summary['step']:,} in {e}" for e in envs_of(records))
    protocols = dict.fromkeys(r.notes["protocol"] for r in records if "protocol" in r.notes)
    protocol = f" Protocol: {'; '.join(protocols)}." if protocols else ""
    return f"Seeds {seeds}. Steps of a run: {steps}. Python {notes['python']}, {versions}.{protocol}"


def ranges(seeds: Sequence[int]) -> str:
    """1 to 5, or all of them where they are not in a row."""
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds))


def method(records: Sequence[Record]) -> str:
    return (
        "The *final score* of a run is the greedy mean return of the policy that evaluated best in training, over new "
        "episodes; *last* is that of its last policy, at its last evaluation; *AUC* is the mean height of its learning "
        "curve between the first and the last evaluation, by the trapezoid rule. *IQM* is the mean of the middle half "
        f"of all runs. [Brackets] and bands are {CONFIDENCE:.0%} percentile intervals of a stratified bootstrap with "
        f"{RESAMPLES:,} resamples, which draws seeds within every environment. P(X beats Y) is the probability that a "
        "run of X has a higher score than one of Y in an environment drawn at random, ties one half (Agarwal et al. "
        f"2021). {results.SCALES[scale_of(records)]} No run was left out."
    )


def compose(
    records: Sequence[Record], numbers: Numbers, per_head: Collection[str], drawn: Collection[str]
) -> list[Block]:
    """The page, from the result to what it rests on."""
    several = len(heads_of(records)) > 1
    blocks: list[Block] = [headline(numbers)]
    if any(row["low"] is None for row in numbers.aggregates):
        blocks.append(Text(f"**{ONE_SEED}**"))
    pictures = {
        "aggregates": "Final scores and area under the curve, with intervals",
        "curves": "Learning curves with bands",
        "profiles": "Performance profiles with bands",
        "improvements": "Probability of improvement, with intervals",
    }
    show = {name: [Picture(name, shows)] if name in drawn else [] for name, shows in pictures.items()}
    if not drawn:
        blocks.append(Text("There are no figures: matplotlib is missing (pip install 'classyq[plot]')."))
    blocks += [*show["aggregates"], Text(method(records))]
    blocks += [Heading("Learning curves"), *show["curves"]] if drawn else []
    blocks += [Heading("Performance profiles"), *show["profiles"]] if drawn else []
    if several:
        blocks += [Heading("Probability of improvement"), *show["improvements"]]
        blocks += [matrix(numbers, "final", "final score"), matrix(numbers, "auc", "AUC")]
    blocks += [Heading("Every environment"), Text("IQM of raw returns."), by_environment(numbers)]
    own = "All other settings are the same for every head; that was checked."
    blocks += [Heading("What belongs to a head"), Text(own), settings_grid(numbers)]
    if numbers.sweep:
        blocks += [Heading("Sweep"), Text("With seeds of its own and the same budget for every head:")]
        blocks.append(sweep_grid(numbers.sweep))
    blocks += [Heading("What is the same"), Text(circumstances(records)), *common_settings(records, per_head)]
    blocks += [
        Heading("Cost"),
        Text("Medians of the runs, all that a run does included; several may have run at once."),
    ]
    return [*blocks, cost_grid(numbers.costs)]


def write_report(
    records: Sequence[Record], folder: Path, *, command: str, per_head: Collection[str] = (), sweep: Sequence[Row] = ()
) -> Numbers:
    """Write report.md, report.html, the figures and the CSV files into a folder.

    Args:
        records: of runs that `check_alike` has let pass.
        folder: what it held of an earlier report is replaced.
        command: that makes the same report again.
        per_head: keys that belong to a head, besides those of the head itself.
        sweep: rows of `results.choose_factors`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    numbers = Numbers.of(records, per_head, list(sweep))
    for name, rows in numbers._asdict().items():
        write_csv(folder / f"{name}.csv", rows)
    try:
        drawn = draw_all(folder, SHORT[scale_of(records)])
    except ModuleNotFoundError:
        drawn = []
    title = f"{', '.join(heads_of(records))} on {', '.join(envs_of(records))}"
    blocks = compose(records, numbers, per_head, drawn)
    blocks += [
        Heading("Made by"),
        Text(f"`{command}`"),
        Text("Every number and every figure is in a CSV file beside this page."),
    ]
    write_whole(folder / "report.md", markdown(title, blocks))
    write_whole(folder / "report.html", html_page(title, blocks, folder))
    return numbers
