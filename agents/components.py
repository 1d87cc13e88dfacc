"""Parts of a configuration that are chosen by name: their options are the keyword arguments of what builds them.

So a new head, loss, encoding, torso, output layer, target rule, exploration or replay needs no entry here. An agent
has too many for that, and a class of settings: its attribute `Config`.
"""

import inspect
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, get_origin

from pydantic import BeforeValidator, Field, create_model

from agents import AGENTS
from agents.exploration import EXPLORATIONS
from agents.learning.regularizers import REGULARIZERS
from agents.learning.targets import TARGET_RULES
from agents.networks.output_layers import OUTPUT_LAYERS
from agents.networks.torsos import TORSOS
from agents.replay import REPLAYS
from agents.replay.uniform import UniformReplay
from agents.tables import Component, ConfigError
from value_heads import HEADS, head_options
from value_heads.registry import names, options_of, resolve


class HeadConfig(Component):
    """The value head; `classyq list heads` shows the names, the options depend on the name."""

    members: int = Field(default=1, ge=1, description="of an ensemble, each with its own output layer and targets")


class TorsoConfig(Component):
    """The encoder of observations; `auto` is `nature` or `cnn` for images, else `mlp`."""


class OutputLayerConfig(Component):
    """What maps features to actions x outputs; `hidden` is the width of the layer before it."""


class AgentConfig(Component):
    """What every agent has: what it learns from, and its optimiser. `tables` are the others that it uses."""

    tables: ClassVar[tuple[str, ...]] = ()
    gamma: float = Field(default=0.99, ge=0, lt=1, description="discount per environment step")
    lr: float = Field(default=2.5e-4, gt=0, description="the optimiser's learning rate")
    optimizer: Literal["adam", "radam"] = Field(default="adam", description="Adam, or rectified Adam")
    adam_eps: float = Field(default=1e-8, gt=0, description="Adam's epsilon")
    weight_decay: float = Field(default=0.0, ge=0, description="decoupled, as in AdamW")
    max_grad_norm: float | None = Field(default=None, gt=0, description="clip the gradient's norm to this")
    reward_clip: float | None = Field(default=None, gt=0, description="learn from rewards clipped to [-c, c]")
    normalize_obs: bool = Field(default=False, description="running mean and deviation of observations")
    normalize_reward: bool = Field(default=False, description="divide rewards by the deviation of returns")
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32", description="of the encoder's products; weights, heads, targets and losses are float32"
    )


class TargetRuleConfig(Component):
    """What predictions are trained towards."""


class ExplorationConfig(Component):
    """How actions are chosen in training."""


class ReplayConfig(Component):
    """Where transitions are kept, and how they are sampled."""

    capacity_steps: int = Field(default=100_000, ge=1, description="transitions kept, over all environments")
    device: str = Field(
        default="same", description="where replay lies: cpu, cuda, or same as the networks if it fits there, else cpu"
    )
    share_frames: bool = Field(default=True, description="keep one frame a step where observations are stacks")
    map_dir: str | None = Field(default=None, description="keep frames in a file under this directory")


class RegularizerConfig(Component):
    """A term of the loss; its name is that of its table, `[regularizers.NAME]`."""


class Kind(NamedTuple):
    """A kind of component, in words; the settings that all of it have in common; the built-in ones."""

    words: str
    common: type[Component]
    registry: Mapping[str, Any]
    default: str | None = None  # what a table without a name means
    given: frozenset[str] = frozenset()  # keyword arguments that the agent gives, and so no options

    @property
    def group(self) -> str:
        """The entry points of other distributions."""
        return f"classyq.{self.words.replace(' ', '_')}s"

    def find(self, name: str) -> Any:
        """What is called `name`: built in, an entry point, or `package.module:Name`."""
        found = resolve(self.registry, name, kind=self.words, group=self.group)
        return resolve({}, found, kind=self.words, group="") if isinstance(found, str) else found


KINDS: dict[str, Kind] = {
    "head": Kind("head", HeadConfig, HEADS),
    "torso": Kind("torso", TorsoConfig, TORSOS),
    "output_layer": Kind("output layer", OutputLayerConfig, OUTPUT_LAYERS),
    "agent": Kind("agent", AgentConfig, AGENTS, "dqn"),
    "target_rule": Kind("target rule", TargetRuleConfig, TARGET_RULES, "q_learning"),
    "regularizer": Kind("regularizer", RegularizerConfig, REGULARIZERS),
    "exploration": Kind("exploration", ExplorationConfig, EXPLORATIONS, "epsilon_greedy"),
    "replay": Kind("replay", ReplayConfig, REPLAYS, "uniform", frozenset((*options_of(UniformReplay), "state_size"))),
}
"""By the name of their table in the configuration; that of a regulariser is a table within `regularizers`."""


def component_model(key: str, table: Mapping[str, Any]) -> type[Component]:
    """The model of table `key` for the name in it: a field for each option, with its annotation and default.

    Raises:
        ValueError: for a name that stands for nothing.
    """
    kind, name = KINDS[key], table["name"]
    base, options = kind.common, {}
    if key == "agent":
        base = kind.find(name).Config
    elif key == "head":
        options = head_options(name, **{k: table[k] for k in ("encoding", "loss") if isinstance(table.get(k), str)})
    elif (key, name) != ("torso", "auto"):
        options = options_of(kind.find(name))
    fields: dict[str, Any] = {
        option: (field_type(p.annotation), ... if p.default is p.empty else p.default)
        for option, p in options.items()
        if option not in kind.given
    }
    return create_model(f"{base.__name__}:{name}", __base__=base, name=(Literal[name], name), **fields)  # pyright: ignore


def field_type(annotation: Any) -> Any:
    """An option's type as a field: anything where it has none, and one value may stand for a tuple of one."""
    if annotation is inspect.Parameter.empty:
        return Any
    if get_origin(annotation) is tuple:
        return Annotated[annotation, BeforeValidator(lambda v: v if isinstance(v, list | tuple) else (v,))]
    return annotation


def named(key: str, table: Any) -> Any:
    """A table of `key` with a name in it, where the name alone, or none, was given."""
    if isinstance(table, str):
        return {"name": table}
    default = KINDS[key].default
    return {"name": default, **table} if default and isinstance(table, Mapping) else table


def unused_tables(agent: str) -> set[str]:
    """Tables that an agent has no use for: they say nothing about its runs, so they are not taken.

    Raises:
        ConfigError: for a name that stands for no agent.
    """
    try:
        used = KINDS["agent"].find(agent).Config.tables
    except ValueError as error:
        raise ConfigError(f"agent: {error}") from None
    return {"target_rule", "regularizers", "exploration", "replay", "augmentation", "resets", "annealing"} - set(used)


def parse_component(key: str) -> BeforeValidator:
    """Validates a table of `key` with the model that belongs to its name."""
    return BeforeValidator(lambda v: v if isinstance(v, Component) else component_model(key, v).model_validate(v))


def parse_regularizers(tables: Any) -> Any:
    """Validates the tables within `regularizers`, each with the model that belongs to its name."""
    if not isinstance(tables, Mapping):
        return tables
    given = {name: {"name": name, **table} if isinstance(table, Mapping) else table for name, table in tables.items()}
    return {
        name: v if isinstance(v, Component) else component_model("regularizer", {"name": name}).model_validate(v)
        for name, v in given.items()
    }


def chosen(name: str) -> Any:
    """A component's default, expanded to all its options."""
    return Field(default={"name": name}, validate_default=True)


def component_schemas() -> dict[str, dict[str, Any]]:
    """A JSON schema for each table of KINDS: a built-in name, or a table with the options of one."""
    schemas: dict[str, dict[str, Any]] = {}
    for key, kind in KINDS.items():
        choices = [*(["auto"] if key == "torso" else []), *names(kind.registry, kind.group)]
        models = {name: component_model(key, {"name": name}).model_json_schema() for name in choices}
        schemas[key] = {"anyOf": [{"enum": choices}, *models.values()]}
        if key == "regularizer":
            schemas["regularizers"] = {"type": "object", "properties": models}
    return {key: schema for key, schema in schemas.items() if key != "regularizer"}
