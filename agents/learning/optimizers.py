"""Optimisers: their state, and a step that torch makes from a list of gradients."""

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.radam import radam

STATE = ("exp_avgs", "exp_avg_sqs", "steps")
BETAS = {"beta1": 0.9, "beta2": 0.999}


def step_adam(weights: list[Tensor], gradients: list[Tensor], state: Sequence[list[Tensor]], **rates: float) -> None:
    """Adam (Kingma & Ba 2015) with decoupled weight decay (AdamW): without decay it is Adam, to the bit."""
    averages, squares, steps = state
    torch._foreach_add_(steps, 1) if len(steps) > 1 else steps[0].add_(1)  # pyright: ignore[reportPrivateImportUsage]
    # What torch.optim.AdamW(fused=True) ends in; what it does before that takes longer than this for a small network.
    torch._fused_adamw_(  # pyright: ignore[reportPrivateImportUsage]
        weights, gradients, averages, squares, [], steps, amsgrad=False, maximize=False, **BETAS, **rates
    )


def step_radam(weights: list[Tensor], gradients: list[Tensor], state: Sequence[list[Tensor]], **rates: float) -> None:
    """Rectified Adam (Liu et al. 2020), decoupled weight decay."""
    on_gpu: dict[str, Any] = {"capturable": True} if weights[0].is_cuda else {}  # else it would ask for the step there
    radam(weights, gradients, *state, **BETAS, **rates, decoupled_weight_decay=True, foreach=True, **on_gpu)


OPTIMIZERS: dict[str, Callable[..., None]] = {"adam": step_adam, "radam": step_radam}


SMALL = 2**16
"""Weights in all up to which they are laid into one piece: then a step is that of one tensor."""


class Optimizer:
    """Steps of `name` on `parameters`: torch's own function, without what its classes do around it for every weight.


    Args:
        name: in OPTIMIZERS.
        lr: which may be changed between steps.
        eps: added to the root of the second moment.
        weight_decay: decoupled from the gradient: weights -= lr * weight_decay * weights.
        in_one_piece: let the parameters, where they are few, come to lie in one piece of memory, in their order; their
            gradient must then lie so too.
    """

    def __init__(
        self,
        name: str,
        parameters: Iterable[Tensor],
        *,
        lr: float,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        in_one_piece: bool = True,
    ):
        self.name, self.make_step = name, OPTIMIZERS[name]
        self.lr, self.eps, self.weight_decay = lr, eps, weight_decay
        self.parameters = list(parameters)
        self.exp_avgs, self.exp_avg_sqs = ([torch.zeros_like(p.detach()) for p in self.parameters] for _ in range(2))
        self.steps = [torch.zeros((), device=p.device) for p in self.parameters]
        small = sum(p.numel() for p in self.parameters) <= SMALL and all(map(is_plain, self.parameters))
        self.in_one_piece = in_one_piece and small
        self.lay_out()

    def lay_out(self) -> None:
        """Say what a step changes, and let it lie in one piece where it is small."""
        self.stepped = [p.detach() for p in self.parameters], (self.exp_avgs, self.exp_avg_sqs, self.steps)
        if self.in_one_piece:
            self.steps = self.steps[:1] * len(self.parameters)
            weights, *state = ([laid_out(tensors)] for tensors in (self.parameters, self.exp_avgs, self.exp_avg_sqs))
            self.stepped = weights, (*state, self.steps[:1])

    def __deepcopy__(self, memo: dict[int, Any]) -> "Optimizer":
        """A copy for the copies of its parameters."""
        other = copy.copy(self)
        memo[id(self)] = other
        for name in ("parameters", *STATE):
            setattr(other, name, copy.deepcopy(getattr(self, name), memo))
        other.lay_out()
        return other

    def step(self, gradients: list[Tensor]) -> None:
        """Change the weights in place by gradients as `as_stepped` gives them.

        The momentum of a unit that is dead halves every 7 steps, down to numbers below 1e-38, with which a CPU takes
        many times as long: they are 0 here.
        """
        weights, state = self.stepped
        torch.set_flush_denormal(True)
        self.make_step(weights, gradients, state, **self.rates())
        torch.set_flush_denormal(False)

    def as_stepped(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        """The gradients of the parameters, one for each, as `step` wants them."""
        if self.in_one_piece:
            return [torch.cat([gradient.flatten() for gradient in gradients])]
        # A gradient may lie in memory in another order than its weights, which the optimiser does not see.
        pairs = zip(gradients, self.parameters, strict=True)
        return [g if g.stride() == p.stride() else torch.empty_like(p).copy_(g) for g, p in pairs]

    def rates(self) -> dict[str, float]:
        """What one optimiser may have otherwise than another."""
        return {"lr": self.lr, "eps": self.eps, "weight_decay": self.weight_decay}

    @torch.no_grad()
    def reset(self) -> None:
        """Begin anew with all of its state."""
        for name in STATE:
            for tensor in getattr(self, name):
                tensor.zero_()

    def state_dict(self) -> dict[str, Any]:
        return {name: list(getattr(self, name)) for name in STATE}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the state, in place.

        Raises:
            ValueError: it is of other weights.
        """
        for name in STATE:
            for to, source in zip(getattr(self, name), state[name], strict=True):
                to.copy_(source)


def is_plain(tensor: Tensor) -> bool:
    """Whether it may lie in one piece with others (an LSTM on a GPU has its own way to lie)."""
    return tensor.is_cpu and tensor.is_contiguous() and tensor.dtype == torch.float32


def laid_out(tensors: Sequence[Tensor]) -> Tensor:
    """Let tensors lie one after the other in one piece of memory, which is what this returns."""
    whole = torch.cat([tensor.detach().flatten() for tensor in tensors])
    for tensor, part in zip(tensors, whole.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.data = part.view_as(tensor)
    return whole
