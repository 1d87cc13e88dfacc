"""Configuration: frozen models, one complete TOML per recipe, dotted overrides, errors that name the nearest key.

Counts of environment steps end in _steps, of optimiser updates in _updates.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializeAsAny, ValidationError, field_validator, model_validator

from agents import AGENTS
from agents.components import (
    COMPONENTS,
    Component,
    ConfigError,
    HeadConfig,
    OutputLayerConfig,
    Table,
    TorsoConfig,
    chosen,
    component_schemas,
    nearest,
    parse_component,
)
from agents.learning.targets import TARGET_RULES
from agents.presets import expand, for_head, override, read_preset
from envs import is_atari
from envs.atari_protocol import PROTOCOLS


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


class AgentConfig(Table):
    name: str = Field(default="dqn", description=f"one of {', '.join(AGENTS)}, or `package.module:Name`")
    target_rule: str = Field(default="q_learning", description=f"one of {', '.join(TARGET_RULES)}")
    gamma: float = Field(default=0.99, ge=0, lt=1, description="discount per environment step")
    n_step: int = Field(default=1, ge=1, description="rewards summed before bootstrapping")
    lr: float = Field(default=2.5e-4, gt=0, description="Adam's learning rate")
    adam_eps: float = Field(default=1e-8, gt=0, description="Adam's epsilon")
    max_grad_norm: float | None = Field(default=None, gt=0, description="clip the gradient's norm to this")
    batch_size: int = Field(default=128, ge=1)
    replay_ratio: float = Field(default=0.25, gt=0, description="optimiser updates per environment step")
    learn_after_steps: int = Field(default=1_000, ge=1, description="environment steps before the first update")
    target_every_updates: int = Field(default=100, ge=1, description="target network follows every so many updates")
    target_tau: float = Field(default=1.0, gt=0, le=1, description="how far it follows; 1 is a copy")
    reward_clip: float | None = Field(default=None, gt=0, description="learn from rewards clipped to [-c, c]")
    normalize_obs: bool = Field(default=False, description="running mean and deviation of observations")
    normalize_reward: bool = Field(default=False, description="divide rewards by the deviation of returns")


class ExplorationConfig(Table):
    epsilon_start: float = Field(default=1.0, ge=0, le=1)
    epsilon_end: float = Field(default=0.05, ge=0, le=1)
    epsilon_steps: int = Field(default=10_000, ge=1, description="epsilon falls linearly over these steps")


class ReplayConfig(Table):
    capacity_steps: int = Field(default=100_000, ge=1, description="transitions kept, over all environments")
    device: str = Field(default="cpu", description="where replay lies: cpu, cuda, or same (as the networks)")
    share_frames: bool = Field(default=True, description="keep one frame a step where observations are stacks")
    map_dir: str | None = Field(default=None, description="keep frames in a file under this directory")


class EvaluationConfig(Table):
    every_steps: int = Field(default=5_000, ge=1)
    num_episodes: int = Field(default=10, ge=1)
    final_episodes: int = Field(default=20, ge=1, description="new episodes on which the best policy is scored")
    epsilon: float = Field(default=0.0, ge=0, le=1)
    max_steps: int = Field(default=30_000, ge=1, description="an episode longer than this is cut, and said to be")


class CheckpointConfig(Table):
    every_steps: int = Field(default=10_000, ge=1)
    keep: int = Field(default=2, ge=1, description="how many to keep, besides the best policy")


class LogConfig(Table):
    every_steps: int = Field(default=1_000, ge=1)
    histogram_every_steps: int = Field(default=5_000, ge=1, description="value distributions in TensorBoard")


class RunConfig(Table):
    """One run. It is stored with the run as config.json, with everything that was `auto` resolved."""

    seed: int = Field(default=1, ge=0)
    steps: int = Field(default=50_000, ge=1, description="environment steps (agent decisions) in all")
    device: str = Field(default="cpu", description="cpu, cuda, or auto (cuda where there is one)")
    num_threads: int = Field(default=1, ge=1, description="threads of torch on the CPU")
    env: EnvConfig
    head: Annotated[SerializeAsAny[HeadConfig], parse_component("head")] = chosen("hl_gauss")
    torso: Annotated[SerializeAsAny[TorsoConfig], parse_component("torso")] = chosen("auto")
    output_layer: Annotated[SerializeAsAny[OutputLayerConfig], parse_component("output_layer")] = chosen("linear")
    agent: AgentConfig = AgentConfig()
    exploration: ExplorationConfig = ExplorationConfig()
    replay: ReplayConfig = ReplayConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    log: LogConfig = LogConfig()

    @classmethod
    def parse(cls, data: Mapping[str, Any], source: str = "configuration") -> Self:
        """Validate nested tables.

        Raises:
            ConfigError: names the key, the source, what is allowed, and the nearest key for an unknown one.
        """
        data = {k: expand(k, v) for k, v in data.items()}
        check_keys(data, cls.model_fields, "", source)
        for key, value in data.items():
            if key in COMPONENTS and not isinstance(value, Mapping | Component):
                raise ConfigError(f"{source}: {key}: wanted a name or a table, got {value!r}")
            if isinstance(value, Mapping):
                check_keys(value, table_fields(key, value, source), f"{key}.", source)
        try:
            config = cls.model_validate(dict(data))
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"] if "[" not in str(part))
            raise ConfigError(f"{source}: {key}: {first['msg']}, got {first['input']!r}") from None
        if config.agent.target_rule not in TARGET_RULES:
            near = nearest(config.agent.target_rule, TARGET_RULES)
            raise ConfigError(f"{source}: agent.target_rule: unknown rule {config.agent.target_rule!r}{near}")
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
        return self.model_dump(mode="json")


def table_fields(key: str, table: Mapping[str, Any], source: str) -> Iterable[str]:
    """The keys that a table may have."""
    if key not in COMPONENTS:
        model = RunConfig.model_fields[key].annotation
        return model.model_fields if isinstance(model, type) and issubclass(model, Table) else table
    if "name" not in table:
        raise ConfigError(f"{source}: {key}.name is missing")
    if not isinstance(table["name"], str):
        raise ConfigError(f"{source}: {key}.name: wanted a name, got {table['name']!r}")
    try:
        return COMPONENTS[key](table).model_fields
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
