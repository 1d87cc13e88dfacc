"""What all value heads share: atoms (what is bootstrapped from), action values (what is predicted), and the head.

Dimensions: B batch, A actions, K atoms, F features, D raw outputs per action.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

Draws = Mapping[str, Tensor]
"""Random numbers of one forward pass, by name: drawn by the learner or agent, so that no head owns a generator."""


def in_part(part: str, draws: Draws) -> dict[str, Tensor]:
    """`draws` as those of one part among several: {"noise": ...} -> {"part.noise": ...}."""
    return {f"{part}.{name}": value for name, value in draws.items()}


def of_part(part: str, draws: Draws | None) -> dict[str, Tensor]:
    """What `in_part` put into `draws`, under the names that it had."""
    start = f"{part}."
    return {name[len(start) :]: value for name, value in (draws or {}).items() if name.startswith(start)}


class Support(NamedTuple):
    """The range of returns that a head can represent, in units of return."""

    v_min: float
    v_max: float


class Atoms(NamedTuple):
    """A return distribution with finite support: mass `probs` at `values`, both [..., K]."""

    values: Tensor
    probs: Tensor

    @classmethod
    def at(cls, value: Tensor) -> "Atoms":
        """All mass at one value: [...] -> atoms [..., 1]."""
        return cls(value.unsqueeze(-1), torch.ones_like(value).unsqueeze(-1))

    def mean(self) -> Tensor:
        """sum_k p_k v_k, [...]."""
        weighted = self.values * self.probs
        return weighted.squeeze(-1) if weighted.shape[-1] == 1 else weighted.sum(-1)

    def backup(self, reward: Tensor, discount: Tensor) -> "Atoms":
        """The distribution of reward + discount * Z; `reward` and `discount` are [...], without K.

        `discount` is gamma**n * (1 - terminal): this is the one place where a Bellman target is formed.
        """
        expected = self.values.shape[:-1]
        if reward.shape != expected or discount.shape != expected:
            raise ValueError(
                f"reward {tuple(reward.shape)} and discount {tuple(discount.shape)} "
                f"must have the batch shape of the atoms, {tuple(expected)}"
            )
        return Atoms(reward.unsqueeze(-1) + discount.unsqueeze(-1) * self.values, self.probs)

    def mix(self, policy: Tensor, offset: Tensor | None = None) -> "Atoms":
        """The mixture over actions with mass `policy` [B, A], each action shifted by `offset` [B, A].

        [B, A, K] -> [B, A*K]; its mean is sum_a policy_a (mean_a + offset_a).
        """
        check_policy(self.values.shape[:-1], policy, offset)
        values = self.values if offset is None else self.values + offset.unsqueeze(-1)
        return Atoms(values.flatten(-2), (self.probs * policy.unsqueeze(-1)).flatten(-2))


def check_policy(expected: torch.Size, policy: Tensor, offset: Tensor | None) -> None:
    for name, given in (("policy", policy), ("offset", offset)):
        if given is not None and given.shape != expected:
            raise ValueError(f"{name} {tuple(given.shape)} must have the shape {tuple(expected)} of the action values")


@dataclass(frozen=True)
class ActionValues(ABC):
    """Predictions that know what their numbers mean. `outputs` is [B, A, D], or [B, D] once an action is selected."""

    outputs: Tensor

    @abstractmethod
    def mean(self) -> Tensor:
        """The action values Q, [B, A] (or [B] once selected): what acts."""

    def by_member(self) -> Tensor:
        """Q of every member of an ensemble, [M, B, A]; a single head is the only member."""
        return self.mean().unsqueeze(0)

    @abstractmethod
    def distribution(self) -> Atoms:
        """The predicted return distribution, for people to look at; probabilities in [0, 1] that sum to 1."""

    @abstractmethod
    def loss(self, target: Atoms) -> Tensor:
        """The loss of a selected prediction against target atoms [B, K]: [B], without weights or reduction."""

    def error(self, target: Atoms) -> Tensor:
        """How far a selected prediction is off, [B], for prioritised replay: |mean of the target - mean|."""
        return (target.mean() - self.mean()).abs()

    def atoms(self) -> Atoms:
        """What a target bootstraps from: the mean as one atom, unless a head says otherwise."""
        return Atoms.at(self.mean())

    def mix(self, policy: Tensor, offset: Tensor | None = None) -> Atoms:
        """What the policy with mass `policy` [B, A] bootstraps from: atoms [B, A*K], see `Atoms.mix`.

        A head that bootstraps its mean stays with one atom, [B, 1]: an encoding of A means is not that of their mean.
        """
        atoms = self.atoms()
        mixture = atoms.mix(policy, offset)
        return Atoms.at(mixture.mean()) if atoms.values.shape[-1] == 1 else mixture

    def average(self, policy: Tensor, offset: Tensor | None = None) -> Atoms:
        """The soft backup as it is published for a head: `mix`, or for quantiles their average over actions."""
        return self.mix(policy, offset)

    def select(self, action: Tensor) -> Self:
        """The prediction for `action`, int64 [B]: outputs [B, A, D] -> [B, D]."""
        if action.shape != self.outputs.shape[:1]:
            raise ValueError(f"action {tuple(action.shape)} does not match outputs {tuple(self.outputs.shape)}")
        index = action[:, None, None].expand(-1, 1, self.outputs.shape[-1])
        return replace(self, outputs=self.outputs.gather(1, index).squeeze(1))

    def target_distribution(self, target: Atoms) -> Atoms:
        """The target as this head sees it (a bin head: projected onto its bins), for people to look at."""
        return target

    def diagnostics(self, target: Atoms) -> dict[str, Tensor]:
        """Scalars worth watching about a selected prediction and its target, by name."""
        return {}

    def _check_target(self, target: Atoms) -> None:
        values, probs = target
        if self.outputs.dim() != 2 or values.shape[:-1] != self.outputs.shape[:1] or probs.shape != values.shape:
            raise ValueError(
                f"target atoms {tuple(values.shape)} with masses {tuple(probs.shape)} do not match selected outputs "
                f"{tuple(self.outputs.shape)}: wanted [B, K] twice and [B, D] (call select first)"
            )


class Output(nn.Module, ABC):
    """The last layers: features [..., F] -> [..., A, D]."""

    @abstractmethod
    def forward(self, features: Tensor, draws: Draws | None = None) -> Tensor:
        """`draws` are as `draw` makes them, perhaps among others; without them it is deterministic."""

    @abstractmethod
    def init_bias(self, outputs: Tensor) -> None:
        """Let every action start at `outputs` [D], up to the random weights."""

    def draw(self, generator: torch.Generator) -> Draws:
        """Random numbers for one forward pass; a batch shares them."""
        return {}

    def project(self, features: Tensor) -> Tensor:
        """Features [..., F] -> what the first layer makes of them before its ReLU, without noise: [..., P].

        Self-predictions are compared there. Without a hidden layer they are the features themselves.
        """
        return features

    def replace_last(self, layer: Callable[[int, int, int], nn.Linear]) -> None:
        """Put `layer`(in, A, D), [..., in] -> [..., A * D], in the place of the last linear map.

        Raises:
            ValueError: where the output is no such map of features alone: a sum of cosines or of hyperbolic distances
                is none, and noise in their weights has no such mean.
        """
        raise ValueError(
            f"{type(self).__name__} cannot have its last layer replaced, which this loss needs: streams that are added "
            "up and weights with noise mean something for linear maps only. Take the output layer 'linear'"
        )


OutputLayer = Callable[[int, int, int], Output]
"""What builds them: (in_features, num_actions, num_outputs) -> Output."""


class ValueHead(nn.Module, ABC):
    """Everything after the torso: features [B, F] -> ActionValues."""

    output: Output

    @abstractmethod
    def forward(self, features: Tensor, draws: Draws | None = None) -> ActionValues:
        """`draws` are random numbers of `draw` or `noise`; without them it is deterministic."""

    def draw(self, batch_size: int, generator: torch.Generator, *, bootstrap: bool) -> Draws:
        """Random numbers for one forward pass of a batch; `bootstrap` says that its result forms targets."""
        return self.noise(generator)

    def noise(self, generator: torch.Generator) -> Draws:
        """Random numbers of the output layer alone, for a pass that chooses actions."""
        return self.output.draw(generator)


class LinearOutput(Output):
    """Linear map from features to actions x outputs, after one optional hidden layer with ReLU.

    [..., F] -> [..., A, D]. The hidden layer is here and not in the torso because other output layers
    (dueling) have one in each stream.

    Args:
        hidden: width of the hidden layer.
        layer_norm: normalise the hidden layer before its ReLU.
    """

    def __init__(
        self,
        in_features: int,
        num_actions: int,
        num_outputs: int,
        *,
        hidden: int | None = None,
        layer_norm: bool = False,
    ):
        super().__init__()
        self.shape = (num_actions, num_outputs)
        self.hidden = nn.Linear(in_features, hidden) if hidden else None
        self.norm = hidden_norm(hidden) if layer_norm else None
        self.last = nn.Linear(hidden or in_features, num_actions * num_outputs)

    def replace_last(self, layer: Callable[[int, int, int], nn.Linear]) -> None:
        self.last = layer(self.last.in_features, *self.shape)

    def forward(self, features: Tensor, draws: Draws | None = None) -> Tensor:
        if self.hidden is not None:
            features = self.hidden(features)
            features = torch.relu(features if self.norm is None else self.norm(features))
        return self.last(features).unflatten(-1, self.shape)

    def project(self, features: Tensor) -> Tensor:
        return features if self.hidden is None else self.hidden(features)

    @torch.no_grad()
    def init_bias(self, outputs: Tensor) -> None:
        self.last.bias.copy_(outputs.repeat(self.shape[0]))


def hidden_norm(hidden: int | None) -> nn.LayerNorm:
    """The normalisation of a hidden layer, which must be there."""
    if not hidden:
        raise ValueError(f"layer_norm is for the hidden layer of the output layer, and hidden is {hidden}: give both")
    return nn.LayerNorm(hidden)
