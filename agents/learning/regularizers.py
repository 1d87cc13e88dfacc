"""Regularisers: what is added to the TD loss. Options are the keyword-only parameters of a class.

Dimensions: B batch, A actions, F features, K atoms; of self-prediction K steps, P outputs of the projection.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from agents.learning.batch import Batch
from agents.networks.base import renormalized, shrink_and_perturb
from agents.networks.qnetwork import EnvSpec, Network, QNetwork
from agents.networks.transition import TransitionModel
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
    target: Network


class Regularizer(ABC):
    """A term of the loss: the plain mean over the batch, as importance weights correct the TD loss alone.

    `SelfPrediction` is the exception, with its source.
    """

    wants_next_features = False
    future_steps = 0  # how many steps after a transition's first it wants to see

    @abstractmethod
    def __call__(self, context: Context) -> Tensor:
        """The term as it is added: a scalar, with its coefficient."""


class TrainedRegularizer(nn.Module, Regularizer):
    """A term with weights of its own: the learner's optimiser trains them, and they are part of its state."""

    @abstractmethod
    def build(self, network: QNetwork, spec: EnvSpec) -> None:
        """Make the weights for features and actions of `network`."""

    @abstractmethod
    def reset(self, fresh: Regularizer, shrink: float) -> None:
        """Take new weights from one that was just built, as `agents.resets` does with the networks."""


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


class SelfPrediction(TrainedRegularizer):
    """Self-predictive representations: what the features will be, as the target network will see them (SPR).

    weight * mean_b w_b 1/K sum_k real_bk (2 - 2 cos(p_bk, q_bk)), with w importance weights, where for k = 1 .. K
        z_0 = N(phi(s_t)),  z_k = N(h(z_k-1, a_t+k-1)),  p_k = predictor(projection(z_k)),
        q_k = projection'(N(phi'(s_t+k))) without gradient.
    N brings features to [0, 1] (`renormalized`), phi is the torso, h the transition model, the projection the first
    layer of the output layer without ReLU and noise, and a prime is the target network. `real` ends with the value or
    the episode: no step is predicted beyond. Any value head may be beside it.

    Source: Schwarzer et al. 2021 (SPR), s. 2.2 and appendix; weight, w and the plain projection as in the code of
    Schwarzer et al. 2023 (BBF), which also leaves out the last observation before an end. In the first, targets are
    those of the online network; there as here, they are augmented where `[augmentation]` says so.

    Args:
        weight: of the term.
        steps: K.
    """

    transition: TransitionModel
    predictor: nn.Linear

    def __init__(self, *, weight: float = 5.0, steps: int = 5):
        super().__init__()
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        self.weight, self.future_steps = check_weight("weight", weight), steps

    def build(self, network: QNetwork, spec: EnvSpec) -> None:
        self.transition = TransitionModel(network.torso, spec.num_actions)
        features = next(network.parameters()).new_zeros(1, network.torso.out_features)
        width = network.head.output.project(features).shape[-1]
        self.predictor = nn.Linear(width, width)

    def reset(self, fresh: Regularizer, shrink: float) -> None:
        """Shrink and perturb the transition model, and begin the predictor anew."""
        assert isinstance(fresh, SelfPrediction)
        shrink_and_perturb(self.transition, fresh.transition, shrink)
        self.predictor.load_state_dict(fresh.predictor.state_dict())

    def forward(self, context: Context) -> Tensor:
        batch, latent = context.batch, renormalized(context.features)
        assert batch.future_obs is not None
        assert batch.future_action is not None
        assert batch.future_mask is not None
        with torch.no_grad():
            features = context.target.features(batch.future_obs.flatten(0, 1))
            goals = context.target.head.output.project(renormalized(features))  # [B * K, P]
        predictions = []
        for action in batch.future_action.unbind(1):
            latent = self.transition(latent, action)
            predictions.append(self.predictor(context.online.head.output.project(latent)))
        predicted = torch.stack(predictions, 1)  # [B, K, P]
        cosine = functional.cosine_similarity(predicted, goals.view_as(predicted), dim=-1)
        losses = ((2 - 2 * cosine) * batch.future_mask).mean(-1)  # [B]
        return self.weight * (batch.weight * losses).mean()


def check_weight(name: str, weight: float) -> float:
    if weight < 0:
        raise ValueError(f"{name} must not be negative, got {weight}")
    return weight


REGULARIZERS: dict[str, type[Regularizer]] = {"cql": CQL, "dr3": DR3, "self_prediction": SelfPrediction}
