"""What can be chosen by name, with a line on each: `classyq list`."""

import inspect
import tomllib
from typing import Any

import envs
from agents import AGENTS
from agents.networks.output_layers import OUTPUT_LAYERS
from agents.networks.torsos import TORSOS
from agents.presets import PRESETS, preset_names
from value_heads import ENCODINGS, HEADS, LOSSES, head_options
from value_heads.registry import names


def listing(what: str) -> list[str]:
    """Lines `name  description`, built-ins first."""
    if what == "heads":
        return [f"{n:14s} {head_line(n)}" for n in names(HEADS, "classyq.heads")]
    if what == "presets":
        return [f"{n:14s} {preset_line(n)}" for n in preset_names()]
    if what == "agents":
        return names(AGENTS, "classyq.agents")
    if what == "envs":
        return envs.list_envs()
    registries = {"encodings": ENCODINGS, "losses": LOSSES, "torsos": TORSOS, "output_layers": OUTPUT_LAYERS}
    registry: dict[str, Any] = registries[what]
    return [f"{n:14s} {first_line(registry.get(n))}" for n in names(registry, f"classyq.{what}")]


def head_line(name: str) -> str:
    """A head's options with their defaults."""
    return ", ".join(f"{k}={p.default}" for k, p in head_options(name).items()) or "no options"


def first_line(component: Any) -> str:
    return (inspect.getdoc(component) or "").split("\n")[0] if component is not None else "(plug-in)"


def preset_line(name: str) -> str:
    """What a preset says about itself in its comment, with its environment."""
    text = (PRESETS / f"{name}.toml").read_text(encoding="utf-8")
    comments = [line[1:].strip() for line in text.splitlines() if line.startswith("# ")]
    return f"{tomllib.loads(text)['env']['id']}: {comments[0] if comments else ''}"
