"""The page of a study of the paper: claim, rule, result, and what it cost; and the index of all such pages."""

import platform
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from agents.experiments.page import Grid, Heading, Picture, Text, markdown
from agents.experiments.statistics import Estimate, bootstrap, mean
from agents.experiments.studies.question import Contrast, Question, Row, read_rows, smallest_detectable


def page(name: str, question: Question, rows: Sequence[Row], command: str) -> str:
    """The page, in Markdown."""
    seeds = sorted({row.seed for row in rows})
    spent = sum(row.cpu_seconds for row in rows) / 60
    blocks = [
        Text(f"Made by `{command}` with `configs/studies/{name}.toml`; numbers in [{name}.csv]({name}.csv)."),
        Text(f"**The paper** ({question.source}): {question.claim}"),
        Text(f"**Here**: {question.ours}"),
        *([Text(f"**Tuning**: {question.tuning}")] if question.tuning else []),
        Text(
            f"**Primary measure**, fixed before the seeds below were run: {question.primary.says}. "
            f"Rule: {question.primary.rule()}."
        ),
        Text(f"**Result**: {sentence(question.primary, rows)}"),
        Picture(name, f"every cell: mean and 95 % interval of {len(seeds)} seeds"),
        Heading("Contrasts"),
        contrasts(question, rows),
        Text(
            "Intervals are of 95 %, by the bootstrap over seeds (of normal values, those of 8 seeds hold the truth in "
            "89 % of studies, of 30 in 94 %). *Detectable*: the smallest effect that a study with this spread finds in "
            "80 % of cases. Secondary contrasts were written down beforehand too; of twenty where nothing differs, one "
            "is beyond its interval by chance."
        ),
        Heading("Cells"),
        *(cells(question, rows, task) for task in tasks_of(rows)),
        Text(
            f"Mean [95 % interval] of seeds {seeds[0]} to {seeds[-1]}, none left out; {question.unit}. "
            f"{spent:,.1f} CPU-minutes on a shared machine ({platform.machine()}, one thread; planned: "
            f"{question.budget}). torch {torch.__version__}."
        ),
    ]
    return markdown(question.question, blocks)


def sentence(contrast: Contrast, rows: Sequence[Row]) -> str:
    """What was found, and whether it agrees."""
    estimate = contrast.estimate(rows)
    found = f"{shown(estimate)}: **{contrast.verdict(estimate)}**"
    least = smallest_detectable(estimate)
    return f"{found}." if least is None else f"{found}. An effect of {least:.2g} could have been detected."


def shown(estimate: Estimate, digits: int = 3) -> str:
    """A value with its interval."""
    if estimate.low is None or estimate.high is None:
        return f"{float(estimate.value):.{digits}g}"
    return " ".join(
        (
            f"{float(estimate.value):+.{digits}g}",
            f"[{float(estimate.low):+.{digits}g}, {float(estimate.high):+.{digits}g}]",
        )
    )


def contrasts(question: Question, rows: Sequence[Row]) -> Grid:
    """A row for every contrast, the primary one first."""
    lines = []
    for name, contrast in {"primary": question.primary, **question.secondary}.items():
        estimate = contrast.estimate(rows)
        least = smallest_detectable(estimate)
        expected = "> 0" if contrast.margin is None else f"within ±{contrast.margin:g}"
        detectable = "" if least is None else f"{least:.2g}"
        lines.append([f"{name}: {contrast.says}", expected, shown(estimate), detectable, contrast.verdict(estimate)])
    return Grid(["contrast", "the claim", "found [95 %]", "detectable", "verdict"], lines)


def cells(question: Question, rows: Sequence[Row], task: str) -> Grid:
    """A table of one task: arms down, conditions across."""
    conditions = list(dict.fromkeys(row.condition for row in rows if row.task == task))
    lines = []
    for arm in question.arms:
        of_arm = [row for row in rows if (row.arm, row.task) == (arm, task)]
        estimates = [of_cell([r for r in of_arm if r.condition == condition]) for condition in conditions]
        lines.append([arm, *("" if e is None else shown(e).replace("+", "") for e in estimates)])
    return Grid([task, *conditions], lines)


def of_cell(rows: Sequence[Row]) -> Estimate | None:
    """Mean over the seeds of one cell, with its interval."""
    return bootstrap(np.array([[row.value] for row in rows]), mean) if rows else None


def tasks_of(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row.task for row in rows))


def index(folder: Path) -> str:
    """A table of all studies of the paper whose numbers are in a folder."""
    from agents.experiments.studies.paper import paper_studies, read_question

    lines, claims = [], []
    for name in paper_studies():
        path = folder / f"{name}.csv"
        if path.exists():
            question, rows = read_question(name), read_rows(path)
            estimate = question.primary.estimate(rows)
            verdict, seeds = question.primary.verdict(estimate), str(len({row.seed for row in rows}))
            lines.append([f"[{name}]({name}.md)", question.source, seeds, shown(estimate), verdict])
            claims += [
                Heading(f"{name}: {verdict}"),
                Text(f"{question.claim} ({question.source})"),
                Text(f"Primary measure: {question.primary.says}."),
            ]
    return markdown(
        "The paper's questions",
        [
            Text(
                'Claims of Farebrother et al. 2024, "Stop Regressing", put to the test on small worlds: `classyq study '
                "NAME`. What is measured, and the rule by which it agrees or not, was written into `configs/studies/` "
                "before the reported seeds were run. *Undecided* is a result: the page says which effect would have "
                "been found."
            ),
            Grid(["study", "the paper", "seeds", "found [95 %]", "verdict"], lines),
            *claims,
        ],
    )
