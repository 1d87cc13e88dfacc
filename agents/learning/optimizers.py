"""Optimisers: their state, and a step that torch makes from a list of gradients."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw
from torch.optim.radam import radam

STATE = ("exp_avgs", "exp_avg_sqs", "steps")
BETAS = {"beta1": 0.9, "beta2": 0.999}


def step_adam(weights: list[Tensor], gradients: list[Tensor], state: Sequence[list[Tensor]], **rates: float) -> None:
    """Adam (Kingma & Ba 2015) with decoupled weight decay (AdamW): without decay it is Adam, to the bit."""
    averages, squares, steps = state
    options: dict[str, Any] = {"amsgrad": False, "maximize": False, "fused": True}
    adamw(weights, gradients, averages, squares, [], steps, **BETAS, **rates, **options)


def step_radam(weights: list[Tensor], gradients: list[Tensor], state: Sequence[list[Tensor]], **rates: float) -> None:
    """Rectified Adam (Liu et al. 2020), decoupled weight decay."""
    on_gpu: dict[str, Any] = {"capturable": True} if weights[0].is_cuda else {}  # else it would ask for the step there
    radam(weights, gradients, *state, **BETAS, **rates, decoupled_weight_decay=True, foreach=True, **on_gpu)


OPTIMIZERS: dict[str, Callable[..., None]] = {"adam": step_adam, "radam": step_radam}


class Optimizer:
    """Steps of `name` on `parameters`: torch's own function, without what its classes do around it for every weight.

    Args:
        name: in OPTIMIZERS.
        lr: which may be changed between steps.
        eps: added to the root of the second moment.
        weight_decay: decoupled from the gradient: weights -= lr * weight_decay * weights.
    """

    def __init__(
        self, name: str, parameters: Iterable[Tensor], *, lr: float, eps: float = 1e-8, weight_decay: float = 0.0
    ):
        self.name, self.make_step = name, OPTIMIZERS[name]
        self.lr, self.eps, self.weight_decay = lr, eps, weight_decay
        self.parameters = list(parameters)
        self.exp_avgs, self.exp_avg_sqs = ([torch.zeros_like(p.detach()) for p in self.parameters] for _ in range(2))
        self.steps = [torch.zeros((), device=p.device) for p in self.parameters]

    @torch.no_grad()
    def step(self, gradients: list[Tensor]) -> None:
        """Change the weights in place; `gradients` have their shapes, and lie in memory as they do."""
        state = self.exp_avgs, self.exp_avg_sqs, self.steps
        self.make_step(self.parameters, gradients, state, **self.rates())

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
