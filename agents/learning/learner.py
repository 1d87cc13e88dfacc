"""The learner: batches in, better weights out. The eager path here is the definition of an update."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from agents.learning.augmentation import Augmentation
from agents.learning.batch import Batch, SequenceBatch
from agents.learning.ensembles import compare_members
from agents.learning.optimizers import Optimizer
from agents.learning.recorded import recorded
from agents.learning.regularizers import Context, Regularizer, TrainedRegularizer
from agents.learning.targets import TargetRule
from agents.networks.qnetwork import Network, QNetwork
from value_heads import ActionValues, Atoms, Draws
from value_heads.base import in_part
from value_heads.ensemble import EnsembleHead


class Update(NamedTuple):
    """What one update saw, on the device and detached; nothing is computed for people until it is asked for."""

    loss: Tensor  # scalar, with its graph: the sum of the terms
    terms: dict[str, Tensor]  # scalars: td_loss, and each regulariser by its name
    losses: Tensor  # [B], before weights
    td_error: Tensor  # [B], mean of the target minus predicted mean
    prediction: ActionValues  # selected, [B]
    goal: Atoms  # [B, K]; of an ensemble [M, B, K]


class TDLoss(nn.Module):
    """The loss of a batch. It holds both networks, so compilation and `torch.func` wrap this, never a network alone."""

    recordable = True  # see agents.learning.recorded

    def __init__(
        self,
        online: QNetwork,
        target: QNetwork,
        target_rule: TargetRule,
        regularizers: Mapping[str, Regularizer] | None = None,
    ):
        super().__init__()
        self.online, self.target, self.target_rule = online, target, target_rule
        self.regularizers = dict(regularizers or {})
        self.trained = nn.ModuleList(r for r in self.regularizers.values() if isinstance(r, TrainedRegularizer))

    def forward(self, batch: Any, draws: Draws | None = None, target_draws: Draws | None = None) -> Update:
        return self.compare(self.online, self.target, batch, draws, target_draws)

    def compare(
        self, online: Network, target: Network, batch: Batch, draws: Draws | None, target_draws: Draws | None
    ) -> Update:
        """The prediction of `online` with its goal; where it is an ensemble, that of every member with its own."""
        if isinstance(online.head, EnsembleHead):
            return compare_members(self.compare, online, target, batch, draws, target_draws)
        with torch.no_grad():
            goal = self.target_rule(online, target, batch, target_draws)  # Atoms [B, K]
        features = online.features(batch.obs)  # [B, F]
        values = online.head(features, draws)  # ActionValues [B, A]
        prediction = values.select(batch.action)  # ActionValues [B]
        losses = prediction.loss(goal)
        if losses.shape != batch.weight.shape:
            raise ValueError(f"losses {tuple(losses.shape)} do not match weights {tuple(batch.weight.shape)}")
        td_loss = (batch.weight * losses).mean()
        context = Context(batch, features, self.next_features(online, batch), values, prediction, goal, online, target)
        extra = {name: regularizer(context) for name, regularizer in self.regularizers.items()}
        terms = {name: term.detach() for name, term in {"td_loss": td_loss, **extra}.items()}
        td_error = (goal.mean() - prediction.mean()).detach()
        seen = replace(prediction, outputs=prediction.outputs.detach())
        return Update(sum(extra.values(), td_loss), terms, losses.detach(), td_error, seen, goal)

    def next_features(self, online: Network, batch: Batch) -> Tensor | None:
        """The online torso's output for next_obs, where a regulariser wants it: it costs a forward and a backward."""
        wanted = any(regularizer.wants_next_features for regularizer in self.regularizers.values())
        return online.features(batch.next_obs) if wanted else None

    def future_steps(self) -> int:
        """How many steps of the future a batch must have."""
        return max((regularizer.future_steps for regularizer in self.regularizers.values()), default=0)


class Gradient(NamedTuple):
    """What an update saw, and what the weights are to be changed by."""

    update: Update
    gradients: list[Tensor]  # of each parameter, or of all in one piece: see `Optimizer.as_stepped`
    norm: Tensor | None  # of all, where they are to be clipped


class Learner:
    """One optimiser step per `update`, and the target network that follows the online network.

    `differentiate` is the definition of what a batch says about the weights. When it has been called often it
    is recorded on a CPU, and captured in a CUDA graph on a GPU, which changes nothing but the time that it takes.
    On a GPU what an update saw is overwritten by the next one.

    Args:
        online: the network to train; the target network starts as its copy.
        target_rule: what the prediction is trained towards, its options bound.
        td_loss: the class of the loss, which says what a batch is.
        regularizers: terms that are added to the loss, by the name under which they are shown.
        optimizer: `adam` or `radam`.
        weight_decay: decoupled from the gradient, as in AdamW: weights -= lr * weight_decay * weights.
        max_grad_norm: the gradient's norm is clipped to this, if given.
        target_every_updates, target_tau: every so many updates, target += tau (online - target); tau = 1 copies.
            Without the first there is no target network: the online network is its own.
        augmentation: what is done to observations before they are learned from.
        seed: of the generator of the random numbers of heads, output layers and augmentation.
    """

    def __init__(
        self,
        online: QNetwork,
        target_rule: TargetRule,
        *,
        td_loss: type[TDLoss] = TDLoss,
        regularizers: Mapping[str, Regularizer] | None = None,
        optimizer: str = "adam",
        weight_decay: float = 0.0,
        lr: float,
        adam_eps: float,
        max_grad_norm: float | None,
        target_every_updates: int | None = None,
        target_tau: float = 1.0,
        augmentation: Augmentation | None = None,
        seed: int,
    ):
        self.online = self.target = online
        if target_every_updates is not None:
            self.target = copy.deepcopy(online).requires_grad_(False)
            self.target.normalizer = online.normalizer  # both see observations the same way at all times
        self.td_loss = td_loss(self.online, self.target, target_rule, regularizers)
        self.parameters = [*online.parameters(), *self.td_loss.trained.parameters()]
        self.optimizer = Optimizer(optimizer, self.parameters, lr=lr, eps=adam_eps, weight_decay=weight_decay)
        self.max_grad_norm, self.target_tau, self.augmentation = max_grad_norm, target_tau, augmentation
        self.target_every_updates = target_every_updates
        self.device = next(online.parameters()).device
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.num_updates = 0
        self.gradient_of = recorded(self.differentiate, self.device) if td_loss.recordable else self.differentiate
        self.last: Gradient | None = None

    def update(self, batch: Batch | SequenceBatch) -> Update:
        """One optimiser step, without a host synchronisation."""
        self.last = gradient = self.step(batch, self.gradient_of)
        self.count()
        return gradient.update

    def step(self, batch: Batch | SequenceBatch, gradient_of: Callable[..., Gradient]) -> Gradient:
        """Change the weights once, by tensors alone: a CUDA graph may do it again."""
        if self.augmentation is not None:
            batch = self.augmentation(batch, self.generator)
        self.online.torso.before_update()
        draws = self.online.head.draw(batch.size, self.generator, bootstrap=False) or None
        target_draws = self.target_draws(batch.size)
        gradient = self.clip(gradient_of(batch, draws, target_draws))
        self.optimizer.step(gradient.gradients)
        return gradient

    def count(self) -> None:
        """Another update was made: it may be time for the target network to follow."""
        self.num_updates += 1
        if self.target_every_updates is not None and self.num_updates % self.target_every_updates == 0:
            self.sync_target()

    def differentiate(self, batch: Batch | SequenceBatch, draws: Draws | None, target_draws: Draws | None) -> Gradient:
        """The gradient of the loss of a batch in the weights."""
        update = self.td_loss(batch, draws, target_draws)
        found = torch.autograd.grad(update.loss, self.parameters, allow_unused=True, materialize_grads=True)
        gradients = self.optimizer.as_stepped(found)
        norm = None if self.max_grad_norm is None else total_norm(gradients)
        return Gradient(update._replace(loss=update.loss.detach()), gradients, norm)

    def clip(self, gradient: Gradient) -> Gradient:
        """The same gradient with a norm of at most max_grad_norm, as `torch.nn.utils.clip_grad_norm_` has it.

        On a CPU, where the norm can be looked at, nothing is multiplied by 1: that takes a tenth of a large update.
        """
        if gradient.norm is None or self.max_grad_norm is None:
            return gradient
        norm = float(gradient.norm.numpy()) if self.device.type == "cpu" else gradient.norm
        scale = self.max_grad_norm / (norm + 1e-6)
        if isinstance(scale, Tensor):
            scale = scale.clamp(max=1.0)
        elif scale >= 1:
            return gradient
        with torch.inference_mode():
            return gradient._replace(gradients=[part * scale for part in gradient.gradients])

    def target_draws(self, size: int) -> Draws | None:
        """Random numbers for the target's prediction, and under "choice" noise for the online network's actions."""
        head = self.online.head
        choice = in_part("choice", head.noise(self.generator))
        return {**head.draw(size, self.generator, bootstrap=True), **choice} or None

    @torch.no_grad()
    def sync_target(self) -> None:
        """target += tau (online - target) for parameters; buffers are copied."""
        for to, source in zip(self.target.parameters(), self.online.parameters(), strict=True):
            to.lerp_(source, self.target_tau)
        for to, source in zip(self.target.buffers(), self.online.buffers(), strict=True):
            to.copy_(source)

    @torch.no_grad()
    def grad_norm(self) -> float:
        """Norm of the last update's gradient before clipping, for people to look at."""
        if self.last is None:
            return 0.0
        return float(total_norm(self.last.gradients) if self.last.norm is None else self.last.norm)

    def set_lr(self, lr: float) -> None:
        """The learning rate of the next updates."""
        self.optimizer.lr = lr

    def weights(self) -> dict[str, Tensor]:
        """The online network's state."""
        return self.online.state_dict()

    def state_dict(self) -> dict[str, Any]:
        return {
            "online": self.online.state_dict(),
            "target": self.target.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "num_updates": self.num_updates,
        } | ({"regularizers": self.td_loss.trained.state_dict()} if len(self.td_loss.trained) else {})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.online.load_state_dict(state["online"])
        self.target.load_state_dict(state["target"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"].cpu())
        self.num_updates = state["num_updates"]
        if len(self.td_loss.trained):
            self.td_loss.trained.load_state_dict(state["regularizers"])


def total_norm(gradients: list[Tensor]) -> Tensor:
    """The norm of all of them as one vector."""
    return torch.linalg.vector_norm(gradients[0]) if len(gradients) == 1 else nn.utils.get_total_norm(gradients)
