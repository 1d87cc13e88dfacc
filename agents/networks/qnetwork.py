"""The network of an agent: observation -> normalisation -> torso -> value head -> ActionValues."""

import functools
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from agents.networks.base import as_floats, set_precision
from agents.networks.output_layers import OUTPUT_LAYERS
from agents.networks.torsos import TORSOS, Torso, default_torso
from agents.normalization import ObservationNormalizer
from agents.seeding import child_seed, seeded
from value_heads import ActionValues, Draws, ValueHead, make_head
from value_heads.registry import resolve

if TYPE_CHECKING:
    from agents.config import RunConfig
    from envs import VectorEnv


class EnvSpec(NamedTuple):
    """What a network has to know of an environment."""

    obs_shape: tuple[int, ...]
    obs_dtype: str
    num_actions: int
    has_action_mask: bool

    @classmethod
    def of(cls, venv: "VectorEnv") -> "EnvSpec":
        space = venv.observation_space
        return cls(space.shape, str(space.dtype), venv.num_actions, venv.has_action_mask)


class Network(Protocol):
    """What predicts action values, as far as losses and target rules are concerned."""

    head: ValueHead

    def features(self, obs: Tensor) -> Tensor: ...
    def __call__(self, obs: Tensor, draws: Draws | None = None) -> ActionValues: ...


class QNetwork(nn.Module):
    """Observations as the environment gives them, [B, *shape] -> ActionValues [B, A]; bytes become [0, 1]."""

    def __init__(self, torso: Torso, head: ValueHead, normalizer: ObservationNormalizer | None = None):
        super().__init__()
        self.torso, self.head, self.normalizer = torso, head, normalizer

    def features(self, obs: Tensor) -> Tensor:
        """What the torso makes of observations: [B, *shape] -> [B, F]."""
        obs = as_floats(obs)
        if self.normalizer is not None:
            obs = self.normalizer(obs)
        return self.torso(obs)

    def forward(self, obs: Tensor, draws: Draws | None = None) -> ActionValues:
        return self.head(self.features(obs), draws)


def make_network(config: "RunConfig", spec: EnvSpec, part: str = "weights") -> QNetwork:
    """The network that a configuration describes, initialised from the run's seed and the name of the part alone.

    It has a memory where the agent has an `lstm_size`.

    Raises:
        ValueError, TypeError: for options that a torso, output layer or head refuses.
    """
    from agents.networks.recurrent import RecurrentQNetwork, make_lstm  # which are made of what is in this module

    lstm_size: int | None = getattr(config.agent, "lstm_size", None)
    torso_name = default_torso(spec.obs_shape) if config.torso.name == "auto" else config.torso.name
    make_torso = resolve(TORSOS, torso_name, kind="torso", group="classyq.torsos")
    make_output = resolve(OUTPUT_LAYERS, config.output_layer.name, kind="output layer", group="classyq.output_layers")
    if config.env.support == "auto":
        raise ValueError("env.support is still 'auto': resolve it first (agents.running.support)")
    with seeded(child_seed(config.seed, part)):
        torso = make_torso(spec.obs_shape, **config.torso.model_dump(exclude={"name"}))
        set_precision(torso, torso_name, config.agent.precision)
        lstm = None if lstm_size is None else make_lstm(torso.out_features, spec.num_actions, lstm_size)
        head = make_head(
            config.head.name,
            in_features=lstm_size or torso.out_features,
            num_actions=spec.num_actions,
            support=config.env.support,
            output_layer=functools.partial(make_output, **config.output_layer.model_dump(exclude={"name"})),
            **config.head.model_dump(exclude={"name"}),
        )
    normalizer = ObservationNormalizer(spec.obs_shape) if config.agent.normalize_obs else None
    if lstm is not None:
        return RecurrentQNetwork(torso, lstm, head, spec.num_actions, normalizer)
    return QNetwork(torso, head, normalizer)


def greedy(q_values: Tensor, mask: Tensor | None = None) -> Tensor:
    """The best action, among the legal ones where a mask [B, A] says which those are: [B, A] -> [B]."""
    if mask is not None:
        q_values = q_values.masked_fill(~mask, -torch.inf)
    return q_values.argmax(-1)
