"""Resets: a network trained hard on little data loses the ability to learn, and fresh weights give it back.

Replay is kept, so that what is forgotten is learned again soon.
"""

from typing import TYPE_CHECKING

import torch
from torch import nn

from agents.learning.learner import Learner
from agents.networks.qnetwork import EnvSpec, make_network

if TYPE_CHECKING:
    from agents.config import RunConfig


class Resets:
    """Every so many updates: theta <- shrink theta + (1 - shrink) theta_fresh in the torso, and a fresh value head.

    The online and the target network each get fresh weights of their own, and the optimiser begins anew with all of
    its state. Statistics of observations stay. Fresh weights come from the run's seed and the number of the reset,
    which is the number of updates divided by their distance, so there is no state to be kept.

    Source: D'Oro et al. 2023 (SR-SPR: shrink 0.8) and Schwarzer et al. 2023 (BBF: 0.5), there "shrink and perturb" of
    Ash & Adams 2020 for the encoder and the transition model, and full resets for the layers after them. Theirs count
    environment steps from the first one, ours updates. The code of BBF means to keep the optimiser's state of the
    encoder, but it copies by the keys of dictionaries, and optax keeps that state in tuples: nothing is kept there.

    Args:
        every_updates: from one reset to the next.
        shrink: share of the old weights of the torso in the new ones, in [0, 1].
    """

    def __init__(self, config: "RunConfig", spec: EnvSpec, learner: Learner, *, every_updates: int, shrink: float):
        self.config, self.spec, self.learner = config, spec, learner
        self.every_updates, self.shrink = every_updates, shrink

    def count(self) -> int:
        """Resets so far."""
        return self.learner.num_updates // self.every_updates

    def updates_since(self) -> int:
        """Updates since the last reset, or the beginning."""
        return self.learner.num_updates % self.every_updates

    def after_update(self) -> None:
        """Reset where it is time."""
        if self.updates_since() == 0:
            self.reset()

    def reset(self) -> None:
        """New weights for both networks, and a new beginning for the optimiser."""
        for name, network in {"online": self.learner.online, "target": self.learner.target}.items():
            fresh = make_network(self.config, self.spec, f"weights of reset {self.count()}: {name}")
            fresh = fresh.to(self.learner.device)
            shrink_and_perturb(network.torso, fresh.torso, self.shrink)
            network.head.load_state_dict(fresh.head.state_dict())
        self.learner.optimizer.state.clear()


@torch.no_grad()
def shrink_and_perturb(module: nn.Module, fresh: nn.Module, shrink: float) -> None:
    """theta <- shrink theta + (1 - shrink) theta_fresh for all parameters of `module`; buffers stay."""
    for old, new in zip(module.parameters(), fresh.parameters(), strict=True):
        old.mul_(shrink).add_(new, alpha=1 - shrink)
