"""Tables of the configuration: frozen pydantic models, and the error that names what is wrong with one."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, model_validator


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the key, what was given and what is allowed."""


def nearest(given: str, known: Iterable[str], prefix: str = "") -> str:
    """The end of an error message: the nearest choice, and all of them."""
    near = difflib.get_close_matches(given, list(known), n=1)
    hint = f". Did you mean {prefix}{near[0]}?" if near else "."
    return f"{hint} Choose from: {', '.join(known)}"


class Table(BaseModel):
    """One table of the configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def no_flag_for_a_number(cls, data: Any) -> Any:
        """Python takes true for 1; a number that was forgotten on the command line must not become one."""
        for key, value in data.items() if isinstance(data, Mapping) else ():
            field = cls.model_fields.get(key)
            kinds = () if field is None else (field.annotation, *get_args(field.annotation))
            if isinstance(value, bool) and (int in kinds or float in kinds) and bool not in kinds:
                raise ValueError(f"{key} wants a number, and has {str(value).lower()}: was its value left out?")
        return data


class Component(Table):
    """A part that is chosen by name; a subclass made for each name has its options."""

    name: str

    def __eq__(self, other: object) -> bool:
        """Equal options: the class says nothing, as every configuration makes its own."""
        return isinstance(other, Component) and self.model_dump() == other.model_dump()

    def options(self, without: Iterable[str] = ()) -> dict[str, Any]:
        """The keyword arguments of what it is built with."""
        return self.model_dump(exclude={"name", *without})
