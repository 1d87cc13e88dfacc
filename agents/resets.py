"""Resets: a network trained hard on little data loses the ability to learn, and fresh weights give it back.

Replay is kept, so that what is forgotten is learned again soon.
"""

from typing import TYPE_CHECKING

from agents.agent import make_regularizers
from agents.learning.learner import Learner
from agents.learning.regularizers import TrainedRegularizer
from agents.networks.base import shrink_and_perturb
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
        """New weights for the networks and what is trained beside them, and a new beginning for the optimiser."""
        learner, number = self.learner, self.count()
        for name, network in {"online": learner.online, "target": learner.target}.items():
            fresh = make_network(self.config, self.spec, f"weights of reset {number}: {name}").to(learner.device)
            shrink_and_perturb(network.torso, fresh.torso, self.shrink)
            network.head.load_state_dict(fresh.head.state_dict())
        part = f"weights of reset {number}: regularizers"
        regularizers = make_regularizers(self.config, learner.online, self.spec, part)
        for name, regularizer in learner.td_loss.regularizers.items():
            if isinstance(regularizer, TrainedRegularizer):
                regularizer.reset(regularizers[name], self.shrink)
        learner.optimizer.reset()
