"""Ensembles: M members on one torso, each with output layers of its own, of any head and any output layer.

A member is a head like any other, and so is what it predicts: members are folded into the batch, member by member, so
that a head sees M*B states, and each layer the B of its own member.
Dimensions: M members, B batch, A actions, K atoms, F features, D raw outputs per action.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from value_heads.base import ActionValues, Atoms, Draws, Output, OutputLayer, ValueHead, in_part, of_part


@dataclass(frozen=True)
class EnsembleValues(ActionValues):
    """What M members predict: outputs [M, B, A, D], or [M, B, D] once selected. Target atoms are [M, B, K].

    Acting goes by the mean over members: it is what the ensemble expects of an action. The source lets members vote.
    """

    each: ActionValues  # the same of M*B states

    @classmethod
    def of(cls, each: ActionValues, members: int) -> Self:
        """Predictions [M*B, ...] as those of members."""
        return cls(each.outputs.unflatten(0, (members, -1)), each)

    def by_member(self) -> Tensor:
        return self.unfold(self.each.mean())

    def mean(self) -> Tensor:
        return self.by_member().mean(0)

    def distribution(self) -> Atoms:
        """The mixture of the members, [B, A, K] or [B, A, M*K]."""
        return self.mixture(self.each.distribution())

    def select(self, action: Tensor) -> Self:
        return self.of(self.each.select(torch.cat([action] * len(self.outputs))), len(self.outputs))

    def loss(self, target: Atoms) -> Tensor:
        """The mean over members of the loss of each against its own target: [B]."""
        return self.unfold(self.each.loss(folded(target))).mean(0)

    def error(self, target: Atoms) -> Tensor:
        """The mean over members, [B]."""
        return self.unfold(self.each.error(folded(target))).mean(0)

    def target_distribution(self, target: Atoms) -> Atoms:
        """The mixture of what the members are trained towards, [B, K] or [B, M*K]."""
        return self.mixture(self.each.target_distribution(folded(target)))

    def diagnostics(self, target: Atoms) -> dict[str, Tensor]:
        """Means over members, and ensemble_std: how far members disagree, their deviation of Q."""
        return {**self.each.diagnostics(folded(target)), "ensemble_std": self.by_member().std(0).mean()}

    def mixture(self, each: Atoms) -> Atoms:
        """Of the distributions of members: on their bins where those are the same, else all of their atoms."""
        values, probs = self.unfold(each.values), self.unfold(each.probs)
        if values.shape[-1] > 1 and (values == values[0]).all():
            return Atoms(values[0], probs.mean(0))
        return Atoms(values.movedim(0, -2).flatten(-2), probs.movedim(0, -2).flatten(-2) / len(values))

    def unfold(self, folded: Tensor) -> Tensor:
        """[M*B, ...] -> [M, B, ...]."""
        return folded.unflatten(0, (len(self.outputs), -1))


def folded(atoms: Atoms) -> Atoms:
    """[M, B, K] -> [M*B, K]."""
    return Atoms(atoms.values.flatten(0, 1), atoms.probs.flatten(0, 1))


class EnsembleOutput(Output):
    """M output layers, each for its own part of the rows: [M*B, ..., F] -> [M*B, ..., A, D]."""

    def __init__(self, output_layer: OutputLayer, members: int, in_features: int, num_actions: int, num_outputs: int):
        super().__init__()
        self.members = nn.ModuleList(output_layer(in_features, num_actions, num_outputs) for _ in range(members))

    def draw(self, generator: torch.Generator) -> Draws:
        parts = [in_part(str(m), member.draw(generator)) for m, member in enumerate(self.members)]  # pyright: ignore[reportCallIssue]
        return {name: value for part in parts for name, value in part.items()}

    def forward(self, features: Tensor, draws: Draws | None = None) -> Tensor:
        parts = enumerate(features.unflatten(0, (len(self.members), -1)))
        return torch.cat([self.members[m](part, of_part(str(m), draws)) for m, part in parts])

    def replace_last(self, layer: Callable[[int, int, int], nn.Linear]) -> None:
        for member in self.members:
            member.replace_last(layer)  # pyright: ignore[reportCallIssue]

    def init_bias(self, outputs: Tensor) -> None:
        for member in self.members:
            member.init_bias(outputs)  # pyright: ignore[reportCallIssue]


class EnsembleHead(ValueHead):
    """A head with an `EnsembleOutput`, for features that all members share: [B, F] -> EnsembleValues [B, A].

    What a head has before its output layer (the embedding of IQN) belongs to what is shared.
    Source: Osband et al. 2016, "Deep Exploration via Bootstrapped DQN".

    Args:
        each: sees every state once for each member.
        members: M.
    """

    def __init__(self, each: ValueHead, members: int):
        super().__init__()
        self.each, self.members = each, members

    def forward(self, features: Tensor, draws: Draws | None = None) -> EnsembleValues:
        return EnsembleValues.of(self.each(self.repeat(features), draws), self.members)

    def repeat(self, features: Tensor) -> Tensor:
        """Features for every member, [B, F] -> [M*B, F].

        The gradient that comes back is divided by M, as in the source: members add up in the torso, and a torso
        shall not learn M times as fast. The values are not touched, to the bit.
        """
        shared = features.detach()
        shared = shared + (features - shared) / self.members
        return shared.expand(self.members, *features.shape).flatten(0, 1)

    def draw(self, batch_size: int, generator: torch.Generator, *, bootstrap: bool) -> Draws:
        return self.each.draw(self.members * batch_size, generator, bootstrap=bootstrap)

    def noise(self, generator: torch.Generator) -> Draws:
        return self.each.noise(generator)
