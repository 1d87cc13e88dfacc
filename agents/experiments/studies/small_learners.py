"""Learners on vectors, one for each seed, that are trained as one (`StackedLearner`): an MLP with any value head.

Dimensions: S learners, B batch, N inputs, A actions.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from agents.learning.learner import Learner
from agents.learning.stacked import StackedLearner
from agents.learning.targets import TargetRule
from agents.networks.qnetwork import QNetwork
from agents.networks.torsos import MLP
from agents.seeding import child_seed, seeded
from value_heads import LinearOutput, make_head

AT_ONCE = 4_096  # inputs of each learner in one pass


def make_network(
    head: Mapping[str, Any],
    obs_shape: Sequence[int],
    num_actions: int,
    hidden: Sequence[int],
    support: tuple[float, float],
    seed: int,
) -> QNetwork:
    """An MLP with a linear output layer; `head` is its name and options.

    The option `sigma` is that of HL-Gauss in units of return; `start` = "middle" leaves the bias of the last layer at
    0, which puts a bin head that has not learned yet at the middle of its support.
    """
    options = dict(head)
    name, start, sigma = options.pop("name"), options.pop("start", "zero"), options.pop("sigma", None)
    if sigma is not None:
        options["sigma_ratio"] = sigma * options["num_bins"] / (support[1] - support[0])
    with seeded(seed):
        torso = MLP(obs_shape, hidden=tuple(hidden))
        made = make_head(name, in_features=torso.out_features, num_actions=num_actions, support=support, **options)
    if start == "middle":
        assert isinstance(made.output, LinearOutput)
        made.output.init_bias(torch.zeros(made.output.shape[1]))
    return QNetwork(torso, made)


def make_learners(
    head: Mapping[str, Any],
    rule: TargetRule,
    seeds: Sequence[int],
    *,
    obs_shape: Sequence[int],
    num_actions: int,
    hidden: Sequence[int],
    support: tuple[float, float],
    lr: float,
    adam_eps: float = 1e-8,
    target_every_updates: int | None = None,
) -> StackedLearner:
    """A learner for each seed, which decides its weights."""
    learners = []
    for seed in seeds:
        network = make_network(head, obs_shape, num_actions, hidden, support, child_seed(seed, "weights"))
        learners.append(
            Learner(
                network,
                rule,
                lr=lr,
                adam_eps=adam_eps,
                max_grad_norm=None,
                target_every_updates=target_every_updates,
                seed=child_seed(seed, "learner"),
            )
        )
    return StackedLearner(learners)


def generators(seeds: Sequence[int], part: str) -> list[torch.Generator]:
    """One of its own for each seed."""
    return [torch.Generator().manual_seed(child_seed(seed, part)) for seed in seeds]


@torch.no_grad()
def predict(learners: StackedLearner, inputs: Tensor) -> Tensor:
    """Action values of each learner for its inputs: [S, N, *shape] -> [S, N, A]."""
    return torch.cat([learners.q_values("online", part, [{}] * len(inputs)) for part in inputs.split(AT_ONCE, 1)], 1)
