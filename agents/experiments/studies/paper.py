"""Studies of the paper: settings from `configs/studies/`, cells measured once each, and the pages that report them.

A cell that is measured is not measured again, so a study that was interrupted goes on with the same command.
"""

import importlib
import json
from pathlib import Path
from typing import Any

import typer
from pydantic import ValidationError

from agents.experiments.studies.question import Question, Row, merged, read_rows, write_rows
from agents.presets import PRESETS, read_preset
from agents.running import machine
from agents.running.metrics import write_whole
from agents.tables import ConfigError, nearest

STUDIES = PRESETS / "studies"
SETTINGS = "measured_by.json"

KINDS: dict[str, str] = {
    "plasticity": "plasticity:Plasticity",
    "known_values": "known_values:KnownValues",
    "offline": "training:Offline",
    "online": "training:Online",
    "probing": "training:Probing",
}
"""What measures a question, `module:class` in this package, by its `kind`."""


def paper_studies() -> list[str]:
    """Names, sorted."""
    return sorted(path.stem for path in STUDIES.glob("*.toml"))


def read_question(name: str, *, tiny: bool = False) -> Question:
    """The settings of a study; with `tiny` those of its table `[tiny]` in their place.

    Raises:
        ConfigError: there is none of that name, or its file is wrong.
    """
    if name not in paper_studies():
        raise ConfigError(f"unknown study {name!r}{nearest(name, paper_studies())}")
    path = STUDIES / f"{name}.toml"
    return parse_question(read_preset(str(path)), str(path), tiny=tiny)


def parse_question(data: dict[str, Any], source: str, *, tiny: bool = False) -> Question:
    """Validate settings.

    Raises:
        ConfigError: naming the key that is wrong.
    """
    kind = data.get("kind")
    if kind not in KINDS:
        raise ConfigError(f"{source}: unknown kind {kind!r}{nearest(str(kind), KINDS)}")
    module, _, of_kind = KINDS[kind].partition(":")
    model: type[Question] = getattr(importlib.import_module(f"agents.experiments.studies.{module}"), of_kind)
    try:
        return model.model_validate(merged(data, data.get("tiny", {})) if tiny else data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{source}: {key}: {first['msg']}, got {first['input']!r}") from None


def measure_all(question: Question, folder: Path) -> list[Row]:
    """The rows of all cells, of which those that are missing are measured now.

    Raises:
        ConfigError: where the folder holds cells that were measured with other settings.
    """
    machine.prepare(1)
    folder.mkdir(parents=True, exist_ok=True)
    settings, stored = question.measured_by(), folder / SETTINGS
    if stored.exists() and json.loads(stored.read_text(encoding="utf-8")) != settings:
        raise ConfigError(f"{folder} was measured with other settings: give another --root, or delete it")
    write_whole(stored, json.dumps(settings, indent=1))
    rows: list[Row] = []
    for number, cell in enumerate(question.cells(), 1):
        name = cell.replace(" ", "_").replace("/", "+")
        path = folder / "cells" / f"{name}.csv"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            measured = question.measure(cell, folder / name)
            write_whole(path, write_rows(measured))
            spent = sum(row.cpu_seconds for row in measured)
            typer.echo(f"{number:>4} of {len(question.cells())}  {cell}  {spent:,.0f} s of CPU time")
        rows += read_rows(path)
    return rows


def answer(name: str, root: Path, out: Path, *, tiny: bool = False) -> None:
    """Measure what is missing of a study, and write its page, its numbers and its figure."""
    from agents.experiments.studies.page import index, page
    from agents.experiments.studies.picture import draw

    question = read_question(name, tiny=tiny)
    rows = measure_all(question, root / f"study-{name}{'-tiny' * tiny}")
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.csv").write_text(write_rows(rows), encoding="utf-8")
    draw(question, read_rows(out / f"{name}.csv"), out / f"{name}.png")
    command = f"classyq study {name}{' --tiny' * tiny}"
    (out / f"{name}.md").write_text(page(name, question, rows, command), encoding="utf-8")
    if not tiny:
        (out / "README.md").write_text(index(out), encoding="utf-8")
    typer.echo(f"primary  {question.primary.verdict(question.primary.estimate(rows))}: {question.primary.says}")
    typer.echo(f"wrote    {out / name}.md, .csv and .png")
