"""What an update costs with one classification loss and with another: CPU time, interleaved.

Dimensions: B batch, F features, A actions, m bins.
"""

import statistics
import time
from collections.abc import Mapping
from typing import Any

import torch

from agents.learning.batch import Batch
from agents.learning.learner import Learner
from agents.learning.recorded import Recorded
from agents.learning.targets import TARGET_RULES
from agents.networks.qnetwork import QNetwork
from agents.networks.torsos import MLP
from value_heads import make_head

BATCH, FEATURES, ACTIONS = 32, 16, 4


def learner_of(options: Mapping[str, Any], num_bins: int) -> Learner:
    """A small network, whose updates are recorded from the first one on."""
    torso = MLP((FEATURES,), hidden=(128,))
    head = make_head(
        "hl_gauss", in_features=128, num_actions=ACTIONS, support=(-12.0, 12.0), num_bins=num_bins, **options
    )
    settings = {"lr": 1e-3, "adam_eps": 1e-8, "max_grad_norm": None, "target_every_updates": 100, "seed": 0}
    learner = Learner(QNetwork(torso, head), TARGET_RULES["q_learning"], **settings)
    learner.gradient_of = Recorded(learner.differentiate, after=0)
    return learner


def batch() -> Batch:
    normal = torch.randn(3, BATCH, FEATURES)
    action, one = torch.randint(ACTIONS, (BATCH,)), torch.ones(BATCH)
    return Batch(normal[0], action, normal[1, :, 0], 0.9 * one, normal[2], one)


def relative_costs(
    cases: Mapping[str, Mapping[str, Any]], num_bins: int, *, rounds: int, updates: int = 3
) -> dict[str, float]:
    """CPU time of an update of each case over that of the first: the median over rounds in which all take turns."""
    learners, given = {name: learner_of(options, num_bins) for name, options in cases.items()}, batch()
    for learner in learners.values():
        learner.update(given)
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, learner in learners.items():
            start = time.thread_time()
            for _ in range(updates):
                learner.update(given)
            seconds[name].append(time.thread_time() - start)
    first = seconds[next(iter(cases))]
    return {name: statistics.median(t / t0 for t, t0 in zip(own, first, strict=True)) for name, own in seconds.items()}
