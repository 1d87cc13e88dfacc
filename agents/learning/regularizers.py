"""Regularisers: what is added to the TD loss. Options are the keyword-only parameters of a class.

Dimensions: B batch, A actions, F features, K atoms.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from agents.learning.batch import Batch
from agents.networks.qnetwork import Network
from value_heads import ActionValues, Atoms


class Context(NamedTuple):
    """What a regulariser sees of an update; everything but the batch and the goal carries gradients."""

    batch: Batch
    features: Tensor  # [B, F], the torso's output for obs
    next_features: Tensor | None  # [B, F] for next_obs, of the online network; only where somebody wants them
    values: ActionValues  # [B, A]
    prediction: ActionValues  # [B], of the actions taken
    goal: Atoms  # [B, K]
    online: Network


class Regularizer(ABC):
    """A term of the loss. Importance weights correct the TD loss alone: a term is the plain mean over the batch."""

    wants_next_features = False

    @abstractmethod
    def __call__(self, context: Context) -> Tensor:
        """The term as it is added: a scalar, with its coefficient."""


class CQL(Regularizer):
    """Conservative Q-learning: alpha * mean_b (log sum_a exp Q(s, a) - Q(s, a_data)), over legal actions.

    It pushes down the values of actions that are not in the data, in proportion to softmax(Q), and is never negative.
    Q is the mean of the prediction, so it works on any head; the TD loss keeps the weight 1.
    Source: Kumar et al. 2020, eq. 4, CQL(H); alpha = 0.1 is `bc_coefficient` in Dopamine's offline agents. Equation
    2.4 of Farebrother et al. 2024 prints the next state in the log-sum-exp; their code has s, as here.

    Args:
        alpha: weight of the term.
    """

    def __init__(self, *, alpha: float = 0.1):
        self.alpha = check_weight("alpha", alpha)

    def __call__(self, context: Context) -> Tensor:
        q_values, mask = context.values.mean(), context.batch.mask
        if mask is not None:
            q_values = q_values.masked_fill(~mask, -torch.inf)
        return self.alpha * (q_values.logsumexp(-1) - context.prediction.mean()).mean()


class DR3(Regularizer):
    """Explicit regularisation of co-adapted features: coefficient * mean_b |phi(s) . phi(s')|.

    Gradients flow through both features, and terminal transitions count as any other, as in the authors' code
    (Dopamine's `offline_dr3_agent`), which also takes the absolute value; it changes nothing after a ReLU.
    Source: Kumar et al. 2022, "DR3", with phi(s, a) = phi(s) as actions share all but the last layer.

    Deviation: phi is the torso's output, the last representation that every head and every output layer has. In the
    source it is the 512 units before the last layer, which here belong to the output layer (dueling has two such
    layers, IQN one for each fraction). Both are the same where the output layer has no hidden layer. The product is
    a sum over F features, so a coefficient does not carry over from 512 units to the 3136 of a Nature torso.

    Args:
        coefficient: weight of the term; 0.1 in Dopamine's `jax_dr3.gin`.
    """

    wants_next_features = True

    def __init__(self, *, coefficient: float = 0.1):
        self.coefficient = check_weight("coefficient", coefficient)

    def __call__(self, context: Context) -> Tensor:
        assert context.next_features is not None
        return self.coefficient * (context.features * context.next_features).sum(-1).abs().mean()


def check_weight(name: str, weight: float) -> float:
    if weight < 0:
        raise ValueError(f"{name} must not be negative, got {weight}")
    return weight


REGULARIZERS: dict[str, type[Regularizer]] = {"cql": CQL, "dr3": DR3}
