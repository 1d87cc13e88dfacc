"""Many learners as one: their weights lie stacked, and one pass over a batch of batches is an update of each.

Dimensions: S learners, N environments of each, B batch, A actions, K atoms. A nested tensor of one learner is a row,
[i], of those here.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call, vmap

from agents.learning.batch import Batch
from agents.learning.learner import Gradient, Learner, Update
from agents.learning.optimizers import Optimizer
from agents.learning.recorded import recorded
from agents.networks.base import Torso
from agents.normalization import ObservationNormalizer
from value_heads import ActionValues, Atoms, Draws


class Seen(NamedTuple):
    """What `Update` has, of all learners at once; of the prediction only what is a tensor, by the name of its field."""

    loss: Tensor  # [S]
    terms: dict[str, Tensor]
    losses: Tensor  # [S, B]
    td_error: Tensor  # [S, B]
    prediction: dict[str, Any]
    goal: Atoms  # [S, B, K]


class StackedLearner:
    """S learners that differ in weights and rates alone: an update here is one of each, on its own batch and draws.

    The gradient of the sum of the S losses is in row i that of learner i alone, as no loss depends on the weights of
    another; so one backward pass serves all. Rates, Adam's epsilon, weight decay and clipping are those of each.
    What the learners know themselves is brought in with `take` and back with `give`; in between it is out of date,
    but for their generators, which are used here, and their numbers of updates.

    Raises:
        ValueError: learners that cannot be stacked.
    """

    def __init__(self, learners: Sequence[Learner]):
        self.learners, self.first = learners, learners[0]
        self.loss = self.first.td_loss  # lends its code: it is called with rows of `weights` in place of its own
        self.check()
        states = [state_of(learner) for learner in learners]
        self.weights = {name: stacked_weight([state[name].detach() for state in states]) for name in states[0]}
        self.names = [name for name, p in self.loss.named_parameters() if p.requires_grad]
        for name in self.names:
            self.weights[name].requires_grad_(True)
        self.networks = {part: self.part(part) for part in ("online", "target")}
        device = self.first.device
        self.gradient_of = recorded(self.differentiate, device)
        self.values_of = {part: recorded(self.predictor(part), device) for part in self.networks}
        self.merged = recorded(self.merge, device)
        self.optimizers = self.make_optimizers()
        self.max_norm = torch.tensor([learner.max_grad_norm or torch.inf for learner in learners])
        self.max_norm = self.max_norm.to(device)
        self.clips = any(learner.max_grad_norm is not None for learner in learners)
        self.seen: Seen | None = None  # of the last update
        self.prototype: ActionValues | None = None  # of its predictions: what in them is no tensor
        self.norms: Tensor | None = None  # [S], of its gradients before clipping
        self.take_optimizers()

    def check(self) -> None:
        """Raise ValueError for learners that cannot be stacked."""
        torso, wanted = type(self.first.online.torso), shapes_of(self.first)
        if len(self.loss.trained):
            raise ValueError("regularizers with weights of their own (self_prediction) cannot be stacked")
        if torso.before_update is not Torso.before_update:
            raise ValueError(f"{torso.__name__} changes before each update (spectral norm), and cannot be stacked")
        if self.first.augmentation is not None:
            raise ValueError("learners with an augmentation cannot be stacked")
        for learner in self.learners:
            if shapes_of(learner) != wanted or learner.num_updates != self.first.num_updates:
                raise ValueError("learners with other weights, or another number of updates, cannot be stacked")

    def make_optimizers(self) -> list[tuple[slice, Optimizer]]:
        """Those of the learners on rows of the stacked weights; neighbours with the same settings share one."""
        settings = [(le.optimizer.name, le.optimizer.rates()) for le in self.learners]
        optimizers, start = [], 0
        for (name, rates), members in itertools.groupby(settings):
            rows = slice(start, start := start + len(list(members)))
            params = [transposed(self.weights[name].detach()[rows]) for name in self.names]
            optimizers.append((rows, Optimizer(name, params, **rates, in_one_piece=False)))  # views of the weights
        return optimizers

    def part(self, part: str) -> dict[str, Tensor]:
        """The stacked weights of one of the networks, under the names that they have there."""
        names = {id(tensor): name for name, tensor in state_of(self.first).items()}
        own = getattr(self.loss, part).state_dict(keep_vars=True)
        return {name: self.weights[names[id(tensor)]].detach() for name, tensor in own.items()}

    @torch.no_grad()
    def q_values(self, part: str, obs: Tensor, draws: Sequence[Draws]) -> Tensor:
        """Action values [S, N, A] that each `online` or `target` network gives its observations [S, N, *shape]."""
        return self.values_of[part](obs, stacked(draws))

    def predictor(self, part: str) -> Callable[[Tensor, Draws], Tensor]:
        """What maps observations and random numbers to the action values of a network."""
        network, own = getattr(self.loss, part), self.networks[part]

        def one(weights: dict[str, Tensor], obs: Tensor, draws: Draws) -> Tensor:
            return functional_call(network, weights, (obs, draws or None), tie_weights=False).mean()

        return lambda obs, draws: vmap(one)(own, obs, draws)

    def update(self, batch: Batch) -> None:
        """One optimiser step of every learner, each on its row of a batch [S, B, ...]."""
        size, learners = batch.action.shape[1], self.learners
        draws = [le.online.head.draw(size, le.generator, bootstrap=False) for le in learners]
        target_draws = [le.target_draws(size) or {} for le in learners]
        given = {name: value for name, value in batch._asdict().items() if value is not None}
        self.seen, gradients = self.gradient_of(given, stacked(draws), stacked(target_draws))
        self.step(gradients)
        for learner in learners:
            learner.num_updates += 1
        every = self.first.target_every_updates
        if every is not None and self.first.num_updates % every == 0:
            self.sync_target()

    def differentiate(
        self, given: dict[str, Tensor], draws: Draws, target_draws: Draws
    ) -> tuple[Seen, tuple[Tensor, ...]]:
        """What an update sees of batches [S, B, ...], and the gradient of each weight of `names`, [S, ...]."""
        seen = vmap(self.losses_of)(self.weights, given, draws, target_draws)
        gradients = torch.autograd.grad(seen.loss.sum(), [self.weights[name] for name in self.names])
        return seen._replace(loss=seen.loss.detach()), gradients

    def losses_of(
        self, weights: dict[str, Tensor], given: dict[str, Tensor], draws: Draws, target_draws: Draws
    ) -> Seen:
        """The loss of one learner, with rows of `weights` for weights; `vmap` makes it that of all."""
        arguments = (Batch(**given), draws or None, target_draws or None)
        update: Update = functional_call(self.loss, weights, arguments, tie_weights=False)
        fields = {k: v for k, v in vars(update.prediction).items() if isinstance(v, Tensor | Mapping)}
        self.prototype = replace(update.prediction, **dict.fromkeys(fields))
        return Seen(update.loss, update.terms, update.losses, update.td_error, fields, update.goal)

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor]) -> None:
        """Clip each learner's gradient and let the optimiser make its step."""
        norms = [torch.linalg.vector_norm(g, dim=tuple(range(1, g.dim()))) for g in gradients]
        self.norms = torch.stack(norms).norm(dim=0)
        if self.clips:
            factor = (self.max_norm / (self.norms + 1e-6)).clamp(max=1.0)  # as nn.utils.clip_grad_norm_
            gradients = [g * factor.view(-1, *[1] * (g.dim() - 1)) for g in gradients]
        for rows, optimizer in self.optimizers:
            optimizer.step([transposed(gradient[rows]).contiguous() for gradient in gradients])

    @torch.no_grad()
    def sync_target(self) -> None:
        """As `Learner.sync_target`."""
        trained = dict(self.first.target.named_parameters())
        for name, to in self.networks["target"].items():
            source = self.networks["online"][name]
            to.lerp_(source, self.first.target_tau) if name in trained else to.copy_(source)

    @torch.no_grad()
    def normalize(self, obs: Tensor) -> None:
        """Take observations [S, N, *shape] into each network's running statistics, where it has them."""
        if self.first.online.normalizer is None:
            return
        for statistic, value in zip(self.statistics(), self.merged(obs), strict=True):
            statistic.copy_(value)

    def statistics(self) -> list[Tensor]:
        """Mean, variance and count of the normalisers."""
        return [self.networks["online"][f"normalizer.{name}"] for name in ("mean", "var", "count")]

    def merge(self, obs: Tensor) -> tuple[Tensor, ...]:
        """What they are with observations [S, N, *shape] taken in."""
        mean, var, count = self.statistics()
        return vmap(ObservationNormalizer.merged)(mean, var, count, obs)

    def update_of(self, i: int) -> Update:
        """What the last update of learner i saw."""
        assert self.seen is not None
        assert self.prototype is not None
        seen = row(i, self.seen)
        return Update(*seen._replace(prediction=replace(self.prototype, **seen.prediction)))

    @torch.no_grad()
    def take(self) -> None:
        """Go on from what the learners know."""
        for i, learner in enumerate(self.learners):
            for name, tensor in state_of(learner).items():
                self.weights[name][i] = tensor
        self.take_optimizers()

    @torch.no_grad()
    def take_optimizers(self) -> None:
        """The state of the learners' optimisers."""
        for rows, optimizer in self.optimizers:
            members = [learner.optimizer for learner in self.learners[rows]]
            for k, step in enumerate(optimizer.steps):
                step.copy_(members[0].steps[k])
                optimizer.exp_avgs[k].copy_(transposed(torch.stack([m.exp_avgs[k] for m in members])))
                optimizer.exp_avg_sqs[k].copy_(transposed(torch.stack([m.exp_avg_sqs[k] for m in members])))

    @torch.no_grad()
    def give(self) -> None:
        """Bring the learners up to date."""
        for i, learner in enumerate(self.learners):
            for name, tensor in state_of(learner).items():
                tensor.copy_(self.weights[name][i])
            if self.norms is not None:
                learner.last = Gradient(self.update_of(i), [], self.norms[i])
        for rows, optimizer in self.optimizers:
            for i, learner in enumerate(self.learners[rows]):
                for k, step in enumerate(optimizer.steps):
                    learner.optimizer.steps[k].copy_(step)
                    learner.optimizer.exp_avgs[k].copy_(transposed(optimizer.exp_avgs[k])[i])
                    learner.optimizer.exp_avg_sqs[k].copy_(transposed(optimizer.exp_avg_sqs[k])[i])


def state_of(learner: Learner) -> dict[str, Tensor]:
    """Weights and running statistics of both networks by name, each once: they share a normaliser."""
    state, names = learner.td_loss.state_dict(keep_vars=True), {}
    for name, tensor in state.items():
        names.setdefault(id(tensor), name)
    return {name: state[name] for name in names.values()}


def stacked_weight(weights: Sequence[Tensor]) -> Tensor:
    """[...] of each -> [S, ...]; matrices lie transposed in memory, as their gradients come out of a backward pass."""
    return transposed(transposed(torch.stack(list(weights))).contiguous())


def transposed(stack: Tensor) -> Tensor:
    """Of matrices [S, out, in] the view [S, in, out], and the other way round; any other stack as it is."""
    return stack.mT if stack.dim() == 3 else stack


def shapes_of(learner: Learner) -> list[tuple[str, torch.Size, torch.dtype]]:
    return [(name, tensor.shape, tensor.dtype) for name, tensor in state_of(learner).items()]


def stacked(draws: Sequence[Draws]) -> dict[str, Tensor]:
    """The random numbers of all, by name."""
    return {name: torch.stack([of_one[name] for of_one in draws]) for name in draws[0]}


def row(i: int, value: Any) -> Any:
    """What belongs to member i of nested stacks."""
    if isinstance(value, Mapping):
        return {name: row(i, part) for name, part in value.items()}
    if isinstance(value, tuple):
        return type(value)(*(row(i, part) for part in value))
    return value[i]
