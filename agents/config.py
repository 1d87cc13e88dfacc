"""Configuration: frozen models, one complete TOML per recipe, dotted overrides, errors that name the nearest key.

Counts of environment steps end in _steps, of optimiser updates in _updates.
"""

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Field, SerializeAsAny, ValidationError, field_validator, model_validator

from agents.components import (
    KINDS,
    AgentConfig,
    ExplorationConfig,
    HeadConfig,
    OutputLayerConfig,
    RegularizerConfig,
    ReplayConfig,
    TargetRuleConfig,
    TorsoConfig,
    chosen,
    component_model,
    component_schemas,
    named,
    parse_component,
    parse_regularizers,
    unused_tables,
)
from agents.presets import for_head, override, read_preset
from agents.tables import Component, ConfigError, Table, nearest
from envs import is_atari
from envs.atari_protocol import PROTOCOLS
from value_heads.registry import names


class EnvConfig(Table):
    id: str = Field(description="a gymnasium id, a built-in, `package.module:Name`, or `./file.py:Class`")
    num_envs: int = Field(default=1, ge=1, description="environments stepped together")
    max_steps: int | None = Field(default=None, ge=1, description="own time limit: truncates an episode")
    frame_stack: int | None = Field(default=None, ge=2, description="stack this many observations, oldest first")
    support: Literal["auto"] | tuple[float, float] = Field(
        default="auto", description="(v_min, v_max): the range of discounted returns that bin heads cover"
    )
    protocol: str | None = Field(default=None, description=f"of an Atari game (ALE/...): {', '.join(PROTOCOLS)}")
    kwargs: dict[str, Any] = Field(default={}, description="keyword arguments for the environment")

    @field_validator("support")
    @classmethod
    def ordered(cls, support: Any) -> Any:
        if support != "auto" and not support[0] < support[1]:
            raise ValueError("support must be 'auto' or v_min, v_max with v_min < v_max")
        return support

    @model_validator(mode="after")
    def a_protocol_for_every_atari_game(self) -> Self:
        if self.protocol is not None and not is_atari(self.id):
            raise ValueError(f"protocol is for Atari games (ALE/...), and {self.id} is none")
        if self.protocol is not None and self.protocol not in PROTOCOLS:
            raise ValueError(f"unknown protocol{nearest(self.protocol, PROTOCOLS)}")
        if self.protocol is None and is_atari(self.id):
            object.__setattr__(self, "protocol", "machado")
        return self

    def arguments(self, **changes: Any) -> dict[str, Any]:
        """What `envs.make_vector` needs to know, but for how many and with which seed."""
        own = {
            "env_id": self.id,
            "max_steps": self.max_steps,
            "frame_stack": self.frame_stack,
            "protocol": self.protocol,
            "kwargs": self.kwargs,
        }
        return own | changes


class EvaluationConfig(Table):
    every_steps: int = Field(default=5_000, ge=1)
    num_episodes: int = Field(default=10, ge=1)
    final_episodes: int = Field(default=20, ge=1, description="new episodes on which the best policy is scored")
    epsilon: float = Field(default=0.0, ge=0, le=1)
    max_steps: int = Field(default=30_000, ge=1, description="an episode longer than this is cut, and said to be")


class AugmentationConfig(Table):
    """How images are changed before they are learned from, see `agents.learning.augmentation`."""

    shift_pixels: int = Field(default=4, ge=0, description="the largest random shift, in every direction")
    intensity: float = Field(default=0.05, ge=0, description="deviation of a random factor of brightness")


class ResetsConfig(Table):
    """Shrink-and-perturb resets of the networks, see `agents.resets`; without this table there are none."""

    every_updates: int = Field(default=40_000, ge=1, description="optimiser updates from one reset to the next")
    shrink: float = Field(default=0.5, ge=0, le=1, description="share of the encoder's old weights in the new ones")


class AnnealingConfig(Table):
    """Where n and gamma begin, at first and after every reset, on their way to `agent.n_step` and `agent.gamma`."""

    n_step_start: int = Field(default=10, ge=1)
    gamma_start: float = Field(default=0.97, ge=0, lt=1)
    over_updates: int = Field(default=10_000, ge=1, description="optimiser updates until they are there")


class CheckpointConfig(Table):
    every_steps: int = Field(default=10_000, ge=1)
    keep: int = Field(default=2, ge=1, description="how many to keep, besides the best policy")


class LogConfig(Table):
    every_steps: int = Field(default=1_000, ge=1)
    histogram_every_steps: int = Field(default=5_000, ge=1, description="value distributions in TensorBoard")


class RunConfig(Table):
    """One run. It is stored with the run as config.json, where env.support and device are not `auto` any more."""

    seed: int = Field(default=1, ge=0)
    steps: int = Field(default=50_000, ge=1, description="environment steps (agent decisions) in all")
    device: str = Field(default="cpu", description="cpu, cuda, or auto (cuda where there is one)")
    num_threads: int = Field(default=1, ge=1, description="threads of torch on the CPU")
    env: EnvConfig
    head: Annotated[SerializeAsAny[HeadConfig], parse_component("head")] = chosen("hl_gauss")
    torso: Annotated[SerializeAsAny[TorsoConfig], parse_component("torso")] = chosen("auto")
    output_layer: Annotated[SerializeAsAny[OutputLayerConfig], parse_component("output_layer")] = chosen("linear")
    agent: Annotated[SerializeAsAny[AgentConfig], parse_component("agent")] = chosen("dqn")
    target_rule: Annotated[SerializeAsAny[TargetRuleConfig], parse_component("target_rule")] = chosen("q_learning")
    regularizers: Annotated[dict[str, SerializeAsAny[RegularizerConfig]], BeforeValidator(parse_regularizers)] = {}
    exploration: Annotated[SerializeAsAny[ExplorationConfig], parse_component("exploration")] = chosen("epsilon_greedy")
    replay: Annotated[SerializeAsAny[ReplayConfig], parse_component("replay")] = chosen("uniform")
    augmentation: AugmentationConfig | None = None
    resets: ResetsConfig | None = None
    annealing: AnnealingConfig | None = None
    evaluation: EvaluationConfig = EvaluationConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    log: LogConfig = LogConfig()

    @classmethod
    def parse(cls, data: Mapping[str, Any], source: str = "configuration") -> Self:
        """Validate nested tables.

        Raises:
            ConfigError: names the key, the source, what is allowed, and the nearest key for an unknown one.
        """
        data = {k: named(k, v) if k in KINDS else v for k, v in data.items()}
        check_keys(data, cls.model_fields, "", source)
        for key, value in data.items():
            if key in KINDS and not isinstance(value, Mapping | Component):
                raise ConfigError(f"{source}: {key}: wanted a name or a table, got {value!r}")
            if isinstance(value, Mapping):
                check_keys(value, table_fields(key, value, source), f"{key}.", source)
                if key == "regularizers":
                    check_regularizers(value, source)
        with naming_the_key(source):
            config = cls.model_validate(dict(data))
        if useless := unused_tables(config.agent.name) & data.keys():
            raise ConfigError(f"{source}: agent {config.agent.name!r} has no use for [{min(useless)}]: leave it out")
        return config

    @classmethod
    def preset(cls, name: str, overrides: Mapping[str, Any] | None = None) -> Self:
        """A preset of configs/ (or a .toml or .json file) with dotted overrides, {"agent.lr": 1e-4}."""
        return cls.parse(for_head(read_preset(name), overrides or {}, name), source=name)

    def with_overrides(self, overrides: Mapping[str, Any]) -> Self:
        """A copy with dotted overrides."""
        return self.parse(override(self.plain(), overrides))

    def plain(self) -> dict[str, Any]:
        """Nested plain Python, as in config.json."""
        absent = {key for key, value in self if value is None}
        return self.model_dump(mode="json", exclude=unused_tables(self.agent.name) | absent)


def check_regularizers(tables: Mapping[str, Any], source: str) -> None:
    """Refuse what is wrong in one of the tables within `regularizers`, naming its key whole."""
    for name, table in tables.items():
        fields = component_model("regularizer", {"name": name}).model_fields
        check_keys(table if isinstance(table, Mapping) else {}, fields, f"regularizers.{name}.", source)
        with naming_the_key(source, f"regularizers.{name}."):
            parse_regularizers({name: table})


@contextlib.contextmanager
def naming_the_key(source: str, prefix: str = "") -> Iterator[None]:
    """Turns what pydantic finds wrong first into one sentence."""
    try:
        yield
    except ValidationError as error:
        first = error.errors()[0]
        key = prefix + ".".join(str(part) for part in first["loc"] if "[" not in str(part))
        raise ConfigError(f"{source}: {key}: {first['msg']}, got {first['input']!r}") from None


def table_fields(key: str, table: Mapping[str, Any], source: str) -> Iterable[str]:
    """The keys that a table may have."""
    if key == "regularizers":
        kind = KINDS["regularizer"]
        return [*names(kind.registry, kind.group), *(name for name in table if ":" in name)]
    if key not in KINDS:
        annotation = RunConfig.model_fields[key].annotation
        models = [m for m in (annotation, *get_args(annotation)) if isinstance(m, type) and issubclass(m, Table)]
        return models[0].model_fields if models else table
    if "name" not in table:
        raise ConfigError(f"{source}: {key}.name is missing")
    if not isinstance(table["name"], str):
        raise ConfigError(f"{source}: {key}.name: wanted a name, got {table['name']!r}")
    try:
        return component_model(key, table).model_fields
    except ValueError as error:
        raise ConfigError(f"{source}: {key}: {error}") from None


def check_keys(table: Mapping[str, Any], known: Iterable[str], prefix: str, source: str) -> None:
    for key in table:
        if key not in known:
            raise ConfigError(f"{source}: unknown key {prefix}{key}{nearest(key, known, prefix)}")


def json_schema() -> dict[str, Any]:
    """A JSON schema for editors, with the options of every built-in component."""
    schema = RunConfig.model_json_schema()
    schema["properties"] |= component_schemas()
    schema["properties"]["by_head"] = {
        "type": "object",
        "description": "[by_head.NAME]: dotted keys that differ where that head is chosen",
        "additionalProperties": {"type": "object"},
    }
    return schema


if __name__ == "__main__":
    print(json.dumps(json_schema(), indent=1))
