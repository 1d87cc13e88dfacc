"""Finding a component by name: built in, installed as an entry point, or written as `package.module:Name`."""

import difflib
import importlib
import inspect
from collections.abc import Iterable, Mapping
from importlib.metadata import entry_points
from typing import Any


class UnknownNameError(ValueError):
    """A name that stands for nothing; the message has the choices and the nearest of them."""

    def __init__(self, kind: str, given: str, choices: Iterable[str]):
        choices = sorted(choices)
        near = difflib.get_close_matches(given, choices, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        super().__init__(f"unknown {kind} {given!r}.{hint} Choose from: {', '.join(choices)}")


def names(registry: Mapping[str, Any], group: str) -> list[str]:
    """Every name that `resolve` knows without importing anything: built-ins first, then entry points."""
    return [*registry, *(e.name for e in entry_points(group=group) if e.name not in registry)]


def resolve(registry: Mapping[str, Any], name: str, *, kind: str, group: str) -> Any:
    """The component called `name`: a key of `registry`, an entry point of `group`, or `package.module:Name`.

    Raises:
        UnknownNameError: where `name` is none of the three.
    """
    if name in registry:
        return registry[name]
    for entry_point in entry_points(group=group):
        if entry_point.name == name:
            return entry_point.load()
    module_name, separator, attribute = name.partition(":")
    if not (separator and module_name and attribute):
        raise UnknownNameError(kind, name, names(registry, group))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ValueError(f"{kind} {name!r}: module {module_name!r} cannot be imported ({error})") from error
    if not hasattr(module, attribute):
        public = [n for n in vars(module) if not n.startswith("_")]
        raise UnknownNameError(f"{kind} in {module_name}", attribute, public)
    return getattr(module, attribute)


def options_of(component: Any) -> dict[str, inspect.Parameter]:
    """The options of a component: the keyword-only parameters of its constructor, with their defaults."""
    parameters = inspect.signature(component, eval_str=True).parameters.values()
    return {p.name: p for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
