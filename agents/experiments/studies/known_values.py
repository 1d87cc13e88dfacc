"""Which values are learned in worlds whose Q* is known: heads, bins and supports.

Nothing is explored: a batch has states and actions drawn uniformly, and successors and rewards drawn from the world's
model. So what is off is the head, the network and the updates.

Dimensions: S learners (seeds), B batch, X states of a world, A actions.
"""

import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from agents.experiments.studies.question import Question, Row
from agents.experiments.studies.small_learners import generators, make_learners, predict
from agents.learning.batch import Batch
from agents.learning.stacked import StackedLearner
from agents.learning.targets import TARGET_RULES
from agents.tables import Table
from envs import make_env
from envs.dynamic_programming import TransitionModel, optimal_q, regret

ERROR, REGRET = "error", "regret"


class World(Table):
    """A world with a `transition_model`."""

    id: str
    kwargs: dict[str, Any] = {}

    def model(self) -> TransitionModel:
        return make_env(self.id, kwargs=self.kwargs).unwrapped.transition_model()  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def reward_noise(self) -> float:
        return self.kwargs.get("reward_noise", 0.0)


class KnownValues(Question):
    """Q-learning of an MLP with target network, measured against Q*.

    An arm is what is compared, a head with its options and perhaps `lr` and `support`. A condition is what of these
    varies: more of such settings, the world, and the number of updates. The tasks are `error`, log10 of the root mean
    square of Q - Q* over all states and actions, and `regret`, by how much less than the best the greedy policy gets.
    """

    unit: ClassVar = "log10 of the RMS error of Q; regret in units of return"

    conditions: dict[str, dict[str, Any]] = {}
    worlds: dict[str, World] = Field(min_length=1)
    head: dict[str, Any] = Field(default={}, description="what all heads have in common")
    gamma: float = Field(gt=0, le=1)
    target_rule: str = "q_learning"
    hidden: list[int]
    support: tuple[float, float]
    lr: float = Field(gt=0)
    batch_size: int = Field(ge=1)
    target_every_updates: int = Field(ge=1)
    updates: int = Field(ge=1)
    measured_at: list[float] = Field(default=[1.0], min_length=1, description="shares of the updates")

    def row_conditions(self) -> list[str]:
        return [
            self.label(condition, world, share)
            for world in self.worlds
            for condition in self.conditions or [""]
            for share in self.measured_at
        ]

    def row_tasks(self) -> list[str]:
        return [ERROR, REGRET]

    def cells(self) -> list[str]:
        return [
            f"{arm} @ {condition} @ {world}"
            for world in self.worlds
            for arm in self.arms
            for condition in self.conditions or [""]
        ]

    def measure(self, cell: str, folder: Path) -> list[Row]:
        start = time.process_time()
        arm, condition, world = cell.split(" @ ")
        model, noise = self.worlds[world].model(), self.worlds[world].reward_noise
        options = self.settings_of(cell)
        learners = make_learners(
            self.head_of(cell),
            TARGET_RULES[self.target_rule],
            self.all_seeds(),
            obs_shape=model.obs.shape[1:],
            num_actions=model.probs.shape[1],
            hidden=self.hidden,
            support=tuple(options.get("support", self.support)),
            lr=options.get("lr", self.lr),
            target_every_updates=self.target_every_updates,
        )
        found = self.train(learners, model, noise)
        seconds = (time.process_time() - start) / sum(len(values) for values in found.values())
        return [
            Row(arm, self.label(condition, world, share), what, seed, value, seconds)
            for (share, what), values in found.items()
            for seed, value in zip(self.all_seeds(), values, strict=True)
        ]

    def settings_of(self, cell: str) -> dict[str, Any]:
        """What belongs to a cell alone."""
        arm, condition, _ = cell.split(" @ ")
        return {**self.head, **self.arms[arm], **self.conditions.get(condition, {})}

    def head_of(self, cell: str) -> dict[str, Any]:
        """The head's name and options."""
        return {key: value for key, value in self.settings_of(cell).items() if key not in ("lr", "support")}

    def label(self, condition: str, world: str, share: float) -> str:
        """The condition of a row: what there is more than one of."""
        parts = [condition] * bool(self.conditions)
        parts += [world] * (len(self.worlds) > 1) + [f"{share:.0%}"] * (len(self.measured_at) > 1)
        return " ".join(parts)

    def train(
        self, learners: StackedLearner, model: TransitionModel, noise: float
    ) -> dict[tuple[float, str], list[float]]:
        """Errors and regrets of all learners at the times when they are measured."""
        best, draws, found = optimal_q(model, self.gamma), generators(self.all_seeds(), "transitions"), {}
        obs = torch.from_numpy(model.obs)
        states = obs[~torch.from_numpy(model.terminal)].expand(len(draws), -1, *obs.shape[1:])
        sampler = Sampler(model, noise, self.gamma, self.batch_size)
        times = {round(share * self.updates): share for share in self.measured_at}
        for update in range(1, self.updates + 1):
            learners.update(sampler.batch(obs, draws))
            if (share := times.get(update)) is not None:
                q_values = predict(learners, states).double().numpy()
                errors = np.log10(np.sqrt(((q_values - best) ** 2).mean((1, 2))))
                found[share, ERROR] = errors.tolist()
                found[share, REGRET] = [regret(model, q, self.gamma) for q in q_values]
        return found


class Sampler:
    """Transitions of a model: state and action uniform, successor and reward as the model says."""

    def __init__(self, model: TransitionModel, noise: float, gamma: float, batch_size: int):
        self.num_states, self.num_actions, _ = model.probs.shape
        self.noise, self.gamma, self.batch_size = noise, gamma, batch_size
        self.reward = torch.from_numpy(model.reward).flatten(0, 1)
        self.reach = torch.from_numpy(model.probs.cumsum(-1)).flatten(0, 1)  # of a pair number, up to a successor
        self.terminal = torch.from_numpy(model.terminal)

    def batch(self, obs: Tensor, draws: list[torch.Generator]) -> Batch:
        """A batch of each generator: [S, B, ...]."""
        pairs, chances = self.num_states * self.num_actions, (3, self.batch_size)
        uniform = torch.stack([torch.rand(chances, generator=g, dtype=torch.float64) for g in draws], 1)
        pair = (uniform[0] * pairs).long()
        reach = self.reach[pair]
        successor = torch.searchsorted(reach, uniform[1].unsqueeze(-1) * reach[..., -1:], right=True).squeeze(-1)
        reward = self.reward[pair, successor] + self.noise * (2 * uniform[2] - 1)
        discount = self.gamma * ~self.terminal[successor]
        return Batch(
            obs[pair // self.num_actions],
            pair % self.num_actions,
            reward.float(),
            discount.float(),
            obs[successor],
            torch.ones(pair.shape),
        )
