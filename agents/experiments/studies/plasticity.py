"""Does regression lose the ability to fit when targets grow? Regression on targets that change, Fig. 17 of the paper.

Dimensions: S seeds, N inputs, F features of an input, B batch.
"""

import time
from pathlib import Path
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from agents.experiments.studies.question import Question, Row
from agents.experiments.studies.small_learners import generators, make_learners, make_network, predict
from agents.learning.batch import Batch
from agents.learning.stacked import StackedLearner
from agents.learning.targets import observed_return
from agents.seeding import child_seed

TASK = "synthetic"


class Plasticity(Question):
    """y = sin(frequency * f(x)) + b, where f is a random network, and both f and b are new in every phase.

    An arm is a head. The network goes on from phase to phase, and so does its optimiser. What is measured at the end
    of a phase is log10 of the mean squared error on all inputs; the condition is `b = ...`.
    """

    unit: ClassVar = "log10 of the mean squared error at the end of a phase"

    offsets: list[float] = Field(min_length=1, description="b of each phase")
    frequency: float
    num_inputs: int = Field(ge=1)
    num_features: int = Field(ge=1)
    hidden: list[int]
    steps: int = Field(ge=1, description="of a phase")
    batch_size: int = Field(ge=1)
    lr: float = Field(gt=0)
    support: tuple[float, float]

    def row_conditions(self) -> list[str]:
        return [f"b = {offset:g}" for offset in self.offsets]

    def row_tasks(self) -> list[str]:
        return [TASK]

    def cells(self) -> list[str]:
        return list(self.arms)

    def measure(self, cell: str, folder: Path) -> list[Row]:
        start, seeds = time.process_time(), self.all_seeds()
        inputs = torch.stack(
            [torch.randn(self.num_inputs, self.num_features, generator=g) for g in generators(seeds, "inputs")]
        )
        learners = make_learners(
            self.arms[cell],
            observed_return,
            seeds,
            obs_shape=(self.num_features,),
            num_actions=1,
            hidden=self.hidden,
            support=self.support,
            lr=self.lr,
        )
        errors, draws = [], generators(seeds, "batches")
        for phase, offset in enumerate(self.offsets):
            goals = offset + torch.stack([self.wave(x, seed, phase) for x, seed in zip(inputs, seeds, strict=True)])
            self.fit(learners, inputs, goals, draws)
            errors.append(((predict(learners, inputs).squeeze(-1) - goals) ** 2).mean(-1).log10())
        seconds = (time.process_time() - start) / (len(seeds) * len(self.offsets))
        return [
            Row(cell, condition, TASK, seed, float(error[i]), seconds)
            for condition, error in zip(self.row_conditions(), errors, strict=True)
            for i, seed in enumerate(seeds)
        ]

    @torch.no_grad()
    def wave(self, inputs: Tensor, seed: int, phase: int) -> Tensor:
        """sin(frequency * f(x)) of a new random network: [N, F] -> [N]."""
        made_from = child_seed(seed, f"target {phase}")
        network = make_network({"name": "mse"}, (self.num_features,), 1, self.hidden, self.support, made_from)
        return torch.sin(self.frequency * network(inputs).mean().squeeze(-1))

    def fit(self, learners: StackedLearner, inputs: Tensor, goals: Tensor, draws: list[torch.Generator]) -> None:
        """One phase: inputs [S, N, F], goals [S, N]."""
        row = torch.arange(len(inputs)).unsqueeze(-1)
        action = torch.zeros(len(inputs), self.batch_size, dtype=torch.int64)
        weight = torch.ones(len(inputs), self.batch_size)
        for _ in range(self.steps):
            picked = torch.stack([torch.randint(self.num_inputs, (self.batch_size,), generator=g) for g in draws])
            obs = inputs[row, picked]
            learners.update(Batch(obs, action, goals[row, picked], torch.zeros_like(weight), obs, weight))
