"""Parts of a configuration that are chosen by name: their options are the keyword arguments of their class.

So a new head, loss, encoding, torso or output layer needs no entry here.
"""

import difflib
import inspect
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model, model_validator

from agents.networks.output_layers import OUTPUT_LAYERS
from agents.networks.torsos import TORSOS
from value_heads import HEADS, head_options
from value_heads.registry import names, options_of, resolve


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


def component_model(base: type[Component], name: str, options: Mapping[str, inspect.Parameter]) -> type[Component]:
    """The model of one component: a field for each option, with its annotation and default."""
    fields: dict[str, Any] = {
        key: (field_type(p.annotation), ... if p.default is p.empty else p.default) for key, p in options.items()
    }
    return create_model(f"{base.__name__}:{name}", __base__=base, name=(Literal[name], name), **fields)  # pyright: ignore


def field_type(annotation: Any) -> Any:
    """An option's type as a field: anything where it has none, and one value may stand for a tuple of one."""
    if annotation is inspect.Parameter.empty:
        return Any
    if get_origin(annotation) is tuple:
        return Annotated[annotation, BeforeValidator(lambda v: v if isinstance(v, list | tuple) else (v,))]
    return annotation


class HeadConfig(Component):
    """The value head; `classyq list heads` shows the names, the options depend on the name."""


class TorsoConfig(Component):
    """The encoder of observations; `auto` is `nature` or `cnn` for images, else `mlp`."""


class OutputLayerConfig(Component):
    """What maps features to actions x outputs; `hidden` is the width of the layer before it."""


def head_model(table: Mapping[str, Any]) -> type[Component]:
    choices = {k: table[k] for k in ("encoding", "loss") if isinstance(table.get(k), str)}
    return component_model(HeadConfig, table["name"], head_options(table["name"], **choices))


def torso_model(table: Mapping[str, Any]) -> type[Component]:
    if table["name"] == "auto":
        return component_model(TorsoConfig, "auto", {})
    torso = resolve(TORSOS, table["name"], kind="torso", group="classyq.torsos")
    return component_model(TorsoConfig, table["name"], options_of(torso))


def output_layer_model(table: Mapping[str, Any]) -> type[Component]:
    layer = resolve(OUTPUT_LAYERS, table["name"], kind="output layer", group="classyq.output_layers")
    return component_model(OutputLayerConfig, table["name"], options_of(layer))


COMPONENTS = {"head": head_model, "torso": torso_model, "output_layer": output_layer_model}


def parse_component(key: str) -> BeforeValidator:
    """Validates a table of `key` with the model that belongs to its name."""
    return BeforeValidator(lambda v: v if isinstance(v, Component) else COMPONENTS[key](v).model_validate(v))


def chosen(name: str) -> Any:
    """A component's default, expanded to all its options."""
    return Field(default={"name": name}, validate_default=True)


def component_schemas() -> dict[str, dict[str, Any]]:
    """A JSON schema for each table of COMPONENTS: a built-in name, or a table with the options of one."""
    choices: dict[str, list[str]] = {
        "head": names(HEADS, "classyq.heads"),
        "torso": ["auto", *TORSOS],
        "output_layer": [*OUTPUT_LAYERS],
    }
    schemas = {key: [COMPONENTS[key]({"name": n}).model_json_schema() for n in choices[key]] for key in choices}
    return {key: {"anyOf": [{"enum": choices[key]}, *models]} for key, models in schemas.items()}
