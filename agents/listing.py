"""What can be chosen by name, with a line on each: `classyq list`."""

import inspect
import tomllib
from typing import Any

import envs
from agents.components import KINDS
from agents.presets import PRESETS, preset_names
from value_heads import ENCODINGS, HEADS, LOSSES, head_options
from value_heads.registry import names, resolve


def listing(what: str) -> list[str]:
    """Lines `name  description`, built-ins first."""
    if what == "heads":
        return [f"{n:14s} {head_line(n)}" for n in names(HEADS, "classyq.heads")]
    if what == "presets":
        return preset_table()
    if what == "losses":
        return loss_table()
    if what == "studies":
        return study_lines()
    if what == "envs":
        return envs.list_envs()
    kinds = {kind.group.removeprefix("classyq."): kind.registry for kind in KINDS.values()}
    registry = (kinds | {"encodings": ENCODINGS})[what]
    return [f"{n:18s} {first_line(registry.get(n))}" for n in names(registry, f"classyq.{what}")]


def head_line(name: str) -> str:
    """A head's options with their defaults."""
    return ", ".join(f"{k}={p.default}" for k, p in head_options(name).items()) or "no options"


def study_lines() -> list[str]:
    """The question of every study, those of training runs first."""
    from agents.experiments.studies.others import OTHERS
    from agents.experiments.studies.paper import paper_studies, read_question
    from agents.experiments.studies.training_runs import STUDIES, find_study

    questions = {name: find_study(name).question for name in STUDIES}
    questions |= {name: other.question for name, other in OTHERS.items()}
    questions |= {name: f"{(q := read_question(name)).question} ({q.source})" for name in paper_studies()}
    return [f"{name:18s} {question}" for name, question in questions.items()]


def first_line(component: Any) -> str:
    """What a built-in component says of itself first."""
    if component is None:
        return "(plug-in)"
    found = resolve({}, component, kind="component", group="") if isinstance(component, str) else component
    return (inspect.getdoc(found) or "").split("\n")[0]


def preset_table() -> list[str]:
    """A line for each preset under the names of the columns."""
    rows = [("preset", "what it is, and its source", "head", "environment", "weights", "replay")]
    rows += [preset_row(name) for name in preset_names()]
    return aligned(rows)


def loss_table() -> list[str]:
    """A line for each classification loss: where it is from, whether it learns the mean, and its cost in m bins."""
    rows = [("loss", "source", "calibrated", "cost in m bins")]
    for name in names(LOSSES, "classyq.losses"):
        loss = LOSSES.get(name)
        if loss is None:
            rows.append((name, "(plug-in)", "", ""))
        else:
            calibrated = "yes" if loss.learns == "mean" else f"no: {loss.learns}, with allow_biased"
            rows.append((name, loss.paper, calibrated, loss.cost))
    return aligned(rows)


def aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """Cells in columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell:{width}s}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def preset_row(name: str) -> tuple[str, str, str, str, str, str]:
    """A preset in six cells: what it says of itself in its second and third line, its head and its environment.

    The numbers of weights and bytes are those of its comment, which a test keeps true: to build all networks would
    take seconds.
    """
    text = (PRESETS / f"{name}.toml").read_text(encoding="utf-8")
    tables = tomllib.loads(text)
    _, what, size = (line.removeprefix("# ") for line in text.splitlines()[:3])
    weights, _, replay = size.partition(" weights, ")
    return name, what, tables["head"]["name"], tables["env"]["id"], weights, replay.removesuffix(" of replay")
