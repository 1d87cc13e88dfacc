"""What a comparison of heads is to do: a line that somebody typed, and the configurations that follow from it."""

import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple, Self

from agents.config import RunConfig
from agents.experiments.records import is_of_the_head
from agents.presets import flatten, preset_names, read_preset
from agents.running.progress import Silent
from agents.running.setup import build, resolve
from agents.tables import ConfigError, nearest
from value_heads import head_options

FIRST_SEED = 1
NOWHERE = Path("(a new directory)")


class Sweep(NamedTuple):
    """A setting that every head may have of its own: the factors on its value that are tried, with how many seeds."""

    key: str
    factors: list[float]
    seeds: int


class Line(NamedTuple):
    """What was asked for."""

    heads: list[str]
    envs: list[str]
    seeds: int
    preset: str | None
    overrides: dict[str, Any]
    sweep: Sweep | None

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Self:
        """From plain Python, as in the manifest."""
        sweep = plain["sweep"]
        return cls(**{**plain, "sweep": None if sweep is None else Sweep(**sweep)})

    def plain(self) -> dict[str, Any]:
        return self._asdict() | {"sweep": None if self.sweep is None else self.sweep._asdict()}


class Plan(NamedTuple):
    """A line, and what follows from it: the preset of every environment, what differs per head, a configuration each.

    `configs` are by environment and head, with the first seed, and nothing in them is `auto`.
    """

    line: Line
    presets: dict[str, str | None]
    per_head: list[str]
    configs: dict[tuple[str, str], RunConfig]


def preset_for(env: str) -> str | None:
    """The preset of an environment where none was named: that with its name, or for a game of Atari `atari`."""
    if env.startswith("ALE/"):
        return "atari"
    name = re.sub(r"-v\d+$", "", env).lower()
    return name if name in preset_names() and RunConfig.preset(name).env.id == env else None


def make_plan(line: Line) -> Plan:
    """All configurations of a comparison.

    Raises:
        ConfigError: one of them is wrong, or a name stands for nothing.
    """
    presets = {env: line.preset or preset_for(env) for env in line.envs}
    configs = {}
    for env, preset in presets.items():
        shared: dict[str, Any] = {}
        for head in line.heads:
            overrides = {"env.id": env, "head.name": head, "seed": FIRST_SEED, **for_this_head(line, head)}
            if preset is None:
                config = RunConfig.parse({"env": {"id": env}}).with_overrides(overrides)
            else:
                config = RunConfig.preset(preset, overrides)
            if not shared:  # found once, so that it is the same for every head and seed
                config = resolve(config, NOWHERE)[0]
                shared = {"env.support": list(config.env.support), "device": config.device}
            configs[env, head] = config.with_overrides(shared)
    per_head = {key for preset in presets.values() if preset for key in by_head_keys(preset, line.heads)}
    if line.sweep is not None:
        per_head.add(line.sweep.key)
    check_plan(configs, per_head)
    return Plan(line, presets, sorted(key for key in per_head if not key.startswith("head.")), configs)


def by_head_keys(preset: str, heads: Sequence[str]) -> set[str]:
    """The keys that a preset changes for one of the heads."""
    tables = read_preset(preset).get("by_head", {})
    return {key for head in heads for key in tables.get(head, {})}


def for_this_head(line: Line, head: str) -> dict[str, Any]:
    """The overrides without options of other heads: --head.num_bins is for those that have bins.

    Raises:
        ConfigError: an option that none of the heads has.
    """
    given = {k.removeprefix("head."): v for k, v in line.overrides.items() if k.startswith("head.")}
    parts = {k: v for k, v in given.items() if k in ("encoding", "loss")}
    has = {name: options_with(name, parts) for name in line.heads}
    for option in given:
        if not any(option in options for options in has.values()):
            known = sorted({o for options in has.values() for o in options})
            raise ConfigError(f"none of {', '.join(line.heads)} has head.{option}{nearest(option, known, 'head.')}")
    return {
        k: v for k, v in line.overrides.items() if not k.startswith("head.") or k.removeprefix("head.") in has[head]
    }


def options_with(head: str, parts: Mapping[str, Any]) -> set[str]:
    """The options of a head with an encoding and a loss, where it has those."""
    own = head_options(head)
    return set(head_options(head, **{k: v for k, v in parts.items() if k in own}))


def check_plan(configs: Mapping[tuple[str, str], RunConfig], per_head: set[str]) -> None:
    """Raise ConfigError where configurations of an environment differ in more than what belongs to the head."""
    first: dict[str, dict[str, Any]] = {}
    for (env, head), config in configs.items():
        own = {k: v for k, v in flatten(config.plain()).items() if not is_of_the_head(k, per_head)}
        expected = first.setdefault(env, own)
        if wrong := [key for key in own | expected if own.get(key) != expected.get(key)]:
            raise ConfigError(f"{head} on {env} differs from the first head in more than the head: {', '.join(wrong)}")


def try_to_build(plan: Plan) -> None:
    """Build every environment and every head once, so that what cannot be is said before anything is trained."""
    heads, envs = plan.line.heads, plan.line.envs
    for env, head in dict.fromkeys([*((env, heads[0]) for env in envs), *((envs[0], head) for head in heads)]):
        with closing(build(plan.configs[env, head], NOWHERE, Silent(1)).venv):
            pass


def base_value(config: RunConfig, key: str) -> float:
    """The number that a sweep multiplies.

    Raises:
        ConfigError: there is no such key, or it is no number.
    """
    flat = flatten(config.plain())
    if isinstance(flat.get(key), bool) or not isinstance(flat.get(key), int | float):
        numbers = [k for k, v in flat.items() if isinstance(v, float)]
        raise ConfigError(f"--sweep: {key} is {flat.get(key)!r}, wanted a number{nearest(key, numbers)}")
    return flat[key]
