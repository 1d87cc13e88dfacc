"""The loss of sequences: what came before them is run through first, then every step is a transition like any other.

Dimensions: T steps that are trained, L burn-in steps before them, B batch, H units of the LSTM.
"""

import torch
from torch import Tensor

from agents.learning.batch import SequenceBatch
from agents.learning.learner import TDLoss, Update
from agents.networks.recurrent import RecurrentQNetwork
from value_heads import ActionValues, Draws, ValueHead


class Unrolled:
    """A recurrent network that has seen sequences: to it an observation is the number of its place among them."""

    def __init__(self, head: ValueHead, seen: Tensor):
        self.head, self.seen = head, seen  # features [(T + 1)*B, H]

    def features(self, obs: Tensor) -> Tensor:
        """Places [B] -> [B, H]."""
        return self.seen[obs]

    def __call__(self, obs: Tensor, draws: Draws | None = None) -> ActionValues:
        return self.head(self.features(obs), draws)


class SequenceTDLoss(TDLoss):
    """1 / (T B) sum_b w_b sum_t loss(t, b) over the steps that are real, w_b being importance weights.

    Both networks begin in the state stored with a sequence and run through its burn-in, without gradient, so that
    the state at its first trained step is nearly that of their present weights. Heads and target rules see [T*B]
    transitions and know nothing of time. Source: Kapturowski et al. 2019, s. 3; as in Acme, losses are added up over
    the time of a sequence, up to the constant T, so that one cut short by its episode's end counts less.
    """

    recordable = False  # an LSTM's backward wants more than the tensors that a recording sees

    def forward(self, batch: SequenceBatch, draws: Draws | None = None, target_draws: Draws | None = None) -> Update:
        online = self.unroll(self.online, batch)
        with torch.no_grad():
            target = self.unroll(self.target, batch)
        return self.compare(online, target, batch.transitions(), draws, target_draws)

    def unroll(self, network: torch.nn.Module, batch: SequenceBatch) -> Unrolled:
        """What a network sees at the T + 1 observations after the burn-in."""
        assert isinstance(network, RecurrentQNetwork)
        obs, action, reward, state = batch.obs, batch.last_action, batch.last_reward, batch.state
        if burn_in := batch.burn_in:
            with torch.no_grad():
                _, burnt = network.unroll(obs[:burn_in], action[:burn_in], reward[:burn_in], state)
            state = torch.where(batch.burnt_in.unsqueeze(-1), burnt, state)
        features, _ = network.unroll(obs[burn_in:], action[burn_in:], reward[burn_in:], state)
        return Unrolled(network.head, features.flatten(0, 1))
