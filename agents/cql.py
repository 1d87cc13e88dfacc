"""CQL: the agent of the regime of a fixed dataset. It never acts: sample what was recorded, update.

T rows, N environments of the data set.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import Field

from agents.agent import Agent, Transition
from agents.components import AgentConfig
from agents.networks.qnetwork import EnvSpec
from agents.normalization import RewardScale
from agents.running import dataset
from agents.running.checkpoint import CheckpointError
from agents.running.stopwatch import Stopwatch
from agents.seeding import child_seed

if TYPE_CHECKING:
    from agents.config import RunConfig

STATISTICS_BATCH = 4_096  # observations taken into the statistics at once


class CQLConfig(AgentConfig):
    tables = ("target_rule", "regularizers")
    dataset: str = Field(default="", description="directory of a data set: classyq record RUN makes one")
    n_step: int = Field(default=1, ge=1, description="rewards summed before bootstrapping")
    batch_size: int = Field(default=128, ge=1)
    target_every_updates: int = Field(default=100, ge=1, description="target network follows every so many updates")
    target_tau: float = Field(default=1.0, gt=0, le=1, description="how far it follows; 1 is a copy")


class CQL(Agent):
    """Conservative Q-learning from a data set (Kumar et al. 2020) with any value head: one step is one update.

    What is conservative is the regulariser, `[regularizers.cql]`; without it this is Q-learning from fixed data. All
    that counts in steps, `steps` and `every_steps`, counts updates. Rewards are clipped and normalised, and the
    statistics of observations taken, once and over the whole data set.
    """

    Config = CQLConfig
    acts = False

    def __init__(self, config: "RunConfig", spec: EnvSpec, stopwatch: Stopwatch):
        super().__init__(config, spec, stopwatch)
        assert isinstance(config.agent, CQLConfig)
        self.settings = agent = config.agent
        self.learner = self.make_learner(
            self.target_rule(), target_every_updates=agent.target_every_updates, target_tau=agent.target_tau
        )
        self.dataset = dataset.find(agent.dataset)
        self.data = dataset.load(
            self.dataset,
            spec,
            n_step=agent.n_step,
            gamma=agent.gamma,
            seed=child_seed(config.seed, "replay"),
            future_steps=self.learner.td_loss.future_steps(),
        )
        self.scale_rewards()
        self.take_statistics()

    def scale_rewards(self) -> None:
        """Let the data in memory have the rewards that are learned from: clipped, then divided by a deviation."""
        rows = self.data.rows
        reward, ends = self.data.reward[:rows], self.data.episode_end[:rows].numpy()
        if (clip := self.settings.reward_clip) is not None:
            reward.clamp_(-clip, clip)
        if self.settings.normalize_reward:
            self.reward_scale = RewardScale(self.data.num_envs, self.settings.gamma)
            for row in range(rows):
                self.reward_scale.update(reward[row].numpy(), ends[row])
            reward.mul_(self.reward_factor())

    def take_statistics(self) -> None:
        """Mean and deviation of all observations that were acted on, where they are normalised."""
        if self.online.normalizer is None:
            return
        for steps in torch.arange(self.data.rows * self.data.num_envs).split(STATISTICS_BATCH):
            self.online.normalizer.update(self.data.observations.read(steps).to(self.device))

    def store(self, t: Transition, reward: np.ndarray) -> None:
        raise TypeError("cql learns from a data set, which nothing is added to")

    def learn(self) -> None:
        """Sample and learn once."""
        with self.stopwatch("sample"):
            batch, _ = self.data.sample(self.settings.batch_size)
            if self.data.device != self.device:
                batch = batch.to(self.device)
        with self.stopwatch("learn"):
            self.last_update = self.learner.update(batch)
        self.step += 1

    def plan(self) -> str:
        """How many updates will be made, and how often a recorded step is learned from."""
        recorded, size = self.dataset.steps, self.settings.batch_size
        return (
            f"each of them 1 update of {size} and none in an environment; each of the {recorded:,} recorded steps "
            f"({self.dataset.path}) is learned from {self.config.steps * size / recorded:.3g} times"
        )

    def metrics(self) -> dict[str, float]:
        scalars = {"replay/updates": float(self.learner.num_updates), "replay/size": float(len(self.data))}
        if self.reward_scale is not None:
            scalars["replay/reward_scale"] = self.reward_scale.factor()
        return scalars | self.update_metrics()

    def state_dict(self) -> dict[str, Any]:
        """Without the data: they are where they were."""
        sampling = self.data.generator.get_state()
        return {**super().state_dict(), "sampling": sampling, "fingerprint": self.dataset.fingerprint}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the same data.

        Raises:
            CheckpointError: where they have changed.
        """
        if state["fingerprint"] != self.dataset.fingerprint:
            raise CheckpointError(
                f"the data set {self.dataset.path} is not the one that this run began with: it has fingerprint "
                f"{self.dataset.fingerprint:08x}, wanted {state['fingerprint']:08x}"
            )
        super().load_state_dict(state)
        self.data.generator.set_state(state["sampling"])
