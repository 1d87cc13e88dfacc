"""Presets, the TOML files of configs/, and what is changed in them: tables of plain Python, not validated yet."""

import copy
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agents.components import KINDS, named, unused_tables
from agents.tables import ConfigError, nearest
from envs import is_atari

PRESETS = next(p for p in (Path(__file__).parent / "configs", Path(__file__).parents[1] / "configs") if p.is_dir())


def preset_names() -> list[str]:
    return sorted(p.stem for p in PRESETS.glob("*.toml"))


def read_preset(name: str) -> dict[str, Any]:
    """The tables of a preset by name, or of a .toml or .json file by path."""
    path = Path(name) if name.endswith((".toml", ".json")) else PRESETS / f"{name}.toml"
    if not path.is_file():
        raise ConfigError(f"unknown preset {name!r}{nearest(name, preset_names())}, or a .toml or .json file")
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: wanted tables, got {data!r}")
    return data


def override(data: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Tables with dotted keys replaced, in any order.

    A new name of a component drops the options of the old one, but for those that all of its kind have in common. A
    new environment drops all but num_envs: a range of returns belongs to its environment. Atari games have their
    protocol and their clipped rewards in common, so one takes the place of another and all stays. A new agent drops
    the tables that it has no use for. None in place of a table of `regularizers` takes it away.
    """
    data = {k: named(k, copy.deepcopy(v)) if k in KINDS else copy.deepcopy(v) for k, v in data.items()}
    overrides = {f"{k}.name" if k in KINDS and isinstance(v, str) else k: v for k, v in overrides.items()}
    for dotted in sorted(overrides, key=lambda k: (k.count("."), not k.endswith((".name", "env.id")))):
        *tables, key = dotted.split(".")
        at = data
        for table in tables:
            at = at.setdefault(table, {})
            if not isinstance(at, dict):
                raise ConfigError(f"{dotted}: {table} is not a table")
        if key == "name" and len(tables) == 1 and tables[0] in KINDS and at.get("name") != overrides[dotted]:
            for option in at.keys() - KINDS[tables[0]].common.model_fields.keys():
                del at[option]
        if dotted == "env.id" and not same_family(at.get("id"), overrides[dotted]):
            for option in at.keys() - {"num_envs"}:
                del at[option]
        if dotted == "agent.name" and isinstance(overrides[dotted], str):
            for table in unused_tables(overrides[dotted]):
                data.pop(table, None)
        at[key] = overrides[dotted]
        if tables == ["regularizers"] and at[key] is None:
            del at[key]
    return data


def same_family(old: Any, new: Any) -> bool:
    """Whether the options of one environment are as good for another."""
    return old in (None, new) or all(isinstance(env_id, str) and is_atari(env_id) for env_id in (old, new))


def for_head(data: Mapping[str, Any], overrides: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Tables with overrides, where the preset's `[by_head.NAME]` for the head that is chosen comes before those.

    The published recipes do not train every head with the same learning rate; what differs stands in such a table,
    with dotted keys.

    Raises:
        ConfigError: `by_head` is not a table of tables.
    """
    own = {key: value for key, value in data.items() if key != "by_head"}
    by_head = data.get("by_head", {})
    if not (isinstance(by_head, Mapping) and all(isinstance(table, Mapping) for table in by_head.values())):
        raise ConfigError(f"{source}: by_head: wanted a table [by_head.NAME] with dotted keys, got {by_head!r}")
    asked = override(own, overrides)
    chosen = asked.get("head", {})
    changes = by_head.get(chosen.get("name"), {}) if isinstance(chosen, Mapping) else {}
    return override(override(asked, changes), overrides)  # after the head, whose options go with its name


def flatten(tables: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in tables.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
