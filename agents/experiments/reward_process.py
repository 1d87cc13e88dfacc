"""Does a loss still learn the mean when its targets are made of what it predicts itself?

A random Markov reward process whose values are known. What a loss is off in one regression grows by 1 / (1 - gamma)
here. Seeds and learning rates are learned together (`StackedLearner`), each with its own process.

Dimensions: S seeds, R rates, N = S * R learners, B batch, Z states, F features.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from agents.learning.batch import Batch
from agents.learning.learner import Learner
from agents.learning.stacked import StackedLearner
from agents.learning.targets import TARGET_RULES
from agents.networks.qnetwork import QNetwork
from agents.networks.torsos import MLP
from agents.seeding import seeded
from value_heads import make_head

STATES, FEATURES, HIDDEN = 40, 16, 64
GAMMA, SUPPORT = 0.9, (-12.0, 12.0)
BATCH, SYNC_EVERY = 32, 25


class Process(NamedTuple):
    """Z states: features [Z, F], transition probabilities [Z, Z], expected rewards [Z], and values [Z].

    A reward has exponential noise around its mean, of deviation 1: skewed, so that mean and median differ.
    """

    features: Tensor
    transitions: Tensor
    rewards: Tensor
    values: Tensor

    @classmethod
    def random(cls, seed: int) -> "Process":
        """Values are drawn, N(-2, 1.8^2) within [-7, 3], and expected rewards follow: r = V - gamma P V."""
        rng = np.random.default_rng([seed, 40])
        values = np.clip(rng.normal(-2, 1.8, STATES), -7, 3)
        transitions = rng.dirichlet(np.full(STATES, 0.1), STATES)
        parts = rng.normal(size=(STATES, FEATURES)), transitions, values - GAMMA * transitions @ values, values
        return cls(*(torch.tensor(part, dtype=torch.float32) for part in parts))

    def sample(self, generator: torch.Generator) -> Batch:
        """B transitions from states that are equally likely."""
        state = torch.randint(STATES, (BATCH,), generator=generator)
        following = torch.multinomial(self.transitions[state], 1, generator=generator).squeeze(-1)
        noise = torch.empty(BATCH).exponential_(generator=generator) - 1
        action, one = torch.zeros(BATCH, dtype=torch.int64), torch.ones(BATCH)
        reward = self.rewards[state] + noise
        return Batch(self.features[state], action, reward, GAMMA * one, self.features[following], one)


class Outcome(NamedTuple):
    """Of the last quarter of the updates: root mean square error over states, and mean error; [S, R] both."""

    rmse: np.ndarray
    bias: np.ndarray


def learner_of(head: str, options: Mapping[str, Any], rate: float, seed: int) -> Learner:
    with seeded(seed):
        torso = MLP((FEATURES,), hidden=(HIDDEN,))
        made = make_head(head, in_features=torso.out_features, num_actions=1, support=SUPPORT, **options)
    settings = {"lr": rate, "adam_eps": 1e-8, "max_grad_norm": None, "target_every_updates": SYNC_EVERY}
    return Learner(QNetwork(torso, made), TARGET_RULES["q_learning"], **settings, seed=seed)


def evaluate(
    head: str, options: Mapping[str, Any], *, seeds: Sequence[int], rates: Sequence[float], updates: int
) -> Outcome:
    """What a head has learned of the values of a process of each seed, with each rate."""
    processes = [Process.random(seed) for seed in seeds]
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    whole = StackedLearner([learner_of(head, options, rate, seed) for seed in seeds for rate in rates])
    copies = len(rates)
    obs = torch.stack([p.features for p in processes for _ in rates])
    values = torch.stack([p.values for p in processes for _ in rates])
    errors = []
    for k in range(1, updates + 1):
        each = [p.sample(g)._asdict() for p, g in zip(processes, generators, strict=True)]
        given = [name for name, value in each[0].items() if value is not None]
        stacked = {name: torch.stack([of[name] for of in each]).repeat_interleave(copies, 0) for name in given}
        whole.update(Batch(**stacked))
        if k % SYNC_EVERY == 0 and k > 0.75 * updates:
            errors.append(whole.q_values("online", obs, [{} for _ in obs]).squeeze(-1) - values)
    error = torch.stack(errors).double()  # [evaluations, N, Z]
    rmse, bias = (error**2).mean(-1).sqrt().mean(0), error.mean((0, -1))
    return Outcome(*(x.view(len(seeds), copies).numpy() for x in (rmse, bias)))
