"""Settings on the command line: `--table.key VALUE`."""

import tomllib
from typing import Any


def split_overrides(args: list[str]) -> tuple[dict[str, Any], list[str]]:
    """({"agent.lr": 1e-4}, everything else) of a command line."""
    overrides: dict[str, Any] = {}
    rest, waiting = [], list(args)
    while waiting:
        name, equals, value = waiting.pop(0).partition("=")
        if not (name.startswith("--") and "." in name):
            rest.append(name + equals + value)
            continue
        if not equals:
            has_value = waiting and not waiting[0].startswith("--")
            value = waiting.pop(0) if has_value else "true"
        overrides[name[2:].replace("-", "_")] = parse_value(value)
    return overrides, rest


def parse_value(text: str) -> Any:
    """A value as TOML has it; `none` for nothing, `a,b` for a list, and anything else as text."""
    if text.lower() in ("none", "null"):
        return None
    for candidate in (text, f"[{text}]") if text else ():
        try:
            return tomllib.loads(f"value = {candidate}")["value"]
        except tomllib.TOMLDecodeError:
            continue
    return text
