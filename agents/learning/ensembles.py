"""How an ensemble learns: each member like a network of its own, which shares its torso with the others.

A rule and a loss see M*B transitions, and know nothing of members: a target bootstraps from the target network's own
member, by that member's own best action.
Dimensions: M members, B batch, A actions, F features, K atoms.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from agents.learning.batch import Batch
from agents.networks.qnetwork import Network
from value_heads import ActionValues, Atoms, Draws
from value_heads.ensemble import EnsembleHead, EnsembleValues

if TYPE_CHECKING:
    from collections.abc import Callable

    from agents.learning.learner import Update

    Compare = Callable[..., Update]


class EachMember:
    """A network as all of its members: B observations -> ActionValues [M*B, A]."""

    def __init__(self, network: Network):
        assert isinstance(network.head, EnsembleHead)
        self.network, self.ensemble, self.head = network, network.head, network.head.each

    def features(self, obs: Tensor) -> Tensor:
        """[B, *shape] -> [M*B, F]; the torso sees an observation once."""
        return self.ensemble.repeat(self.network.features(obs))

    def __call__(self, obs: Tensor, draws: Draws | None = None) -> ActionValues:
        return self.head(self.features(obs), draws)


def for_each_member(batch: Batch, members: int) -> Batch:
    """The batch M times, member by member, but for observations: `EachMember` repeats what the torso makes of them.

    What is given by member, [B, M], is shared out: a reward that is a whole return, and the bootstrap mask, by which
    the weight of a transition is multiplied.
    """
    once = ("obs", "next_obs", "bootstrap_mask")
    given = {name: value for name, value in batch._asdict().items() if value is not None and name not in once}
    repeated = {name: torch.cat([value] * members) for name, value in given.items()}
    if batch.reward.dim() == 2:
        repeated["reward"] = batch.reward.T.flatten()
    if batch.bootstrap_mask is not None:
        repeated["weight"] = repeated["weight"] * batch.bootstrap_mask.T.flatten()
    return batch._replace(**repeated, bootstrap_mask=None)


def compare_members(
    compare: "Compare", online: Network, target: Network, batch: Batch, draws: Draws | None, target_draws: Draws | None
) -> "Update":
    """What `TDLoss.compare` says of an ensemble: losses and errors [B] are means over members.

    The loss that is minimised is the sum over members of what a single head minimises, so that the layers of a member
    learn as those of a single head would. Members that do not learn from a transition count in its loss and error as
    they are shown, and in its priority.
    """
    assert isinstance(online.head, EnsembleHead)
    members = online.head.members
    repeated = for_each_member(batch, members)
    update = compare(EachMember(online), EachMember(target), repeated, draws, target_draws)

    def unfold(folded: Tensor) -> Tensor:
        return folded.unflatten(0, (members, -1))

    return update._replace(
        loss=members * update.loss,
        losses=unfold(update.losses).mean(0),
        td_error=unfold(update.td_error).mean(0),
        prediction=EnsembleValues.of(update.prediction, members),
        goal=Atoms(unfold(update.goal.values), unfold(update.goal.probs)),
    )
