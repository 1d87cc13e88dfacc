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
        return [f"{n:14s} {preset_line(n)}" for n in preset_names()]
    if what == "envs":
        return envs.list_envs()
    kinds = {kind.group.removeprefix("classyq."): kind.registry for kind in KINDS.values()}
    registry = (kinds | {"encodings": ENCODINGS, "losses": LOSSES})[what]
    return [f"{n:18s} {first_line(registry.get(n))}" for n in names(registry, f"classyq.{what}")]


def head_line(name: str) -> str:
    """A head's options with their defaults."""
    return ", ".join(f"{k}={p.default}" for k, p in head_options(name).items()) or "no options"


def first_line(component: Any) -> str:
    """What a built-in component says of itself first."""
    if component is None:
        return "(plug-in)"
    found = resolve({}, component, kind="component", group="") if isinstance(component, str) else component
    return (inspect.getdoc(found) or "").split("\n")[0]


def preset_line(name: str) -> str:
    """What a preset says about itself in its comment, with its environment."""
    text = (PRESETS / f"{name}.toml").read_text(encoding="utf-8")
    comments = [line[1:].strip() for line in text.splitlines() if line.startswith("# ")]
    return f"{tomllib.loads(text)['env']['id']}: {comments[0] if comments else ''}"
