"""PQN: the agent that learns online from many environments, without replay and without a target network.

T steps of a rollout, N environments, B batch, M members of an ensemble.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from agents.agent import Agent, Transition
from agents.components import AgentConfig
from agents.learning.batch import Batch
from agents.learning.returns import lambda_returns
from agents.learning.targets import observed_return
from agents.networks.qnetwork import EnvSpec
from agents.running.stopwatch import Stopwatch
from agents.seeding import child_seed
from agents.tables import ConfigError

if TYPE_CHECKING:
    from agents.config import RunConfig


class PQNConfig(AgentConfig):
    tables = ("exploration",)
    rollout_steps: int = Field(default=32, ge=1, description="decisions of every environment between updates")
    num_epochs: int = Field(default=2, ge=1, description="times that a rollout is learned from")
    num_minibatches: int = Field(default=32, ge=1, description="updates in each of them")
    trace_decay: float = Field(default=0.65, ge=0, le=1, description="lambda: 0 is 1-step, 1 only what was observed")
    bootstrap_probability: float = Field(default=1.0, gt=0, le=1, description="that a member learns from a transition")
    lr_decay: bool = Field(default=False, description="the learning rate falls linearly to 0 over the run")


class PQN(Agent):
    """Parallelised Q-network (Gallici et al. 2024) with any value head: Q(lambda) on rollouts of N environments.

    After every rollout_steps decisions the lambda-returns are made once, with the values that the network had while
    it acted, and learned from in num_epochs x num_minibatches updates. The published network has a LayerNorm after
    every layer (`layer_norm` of torso and output layer), which takes the place of the target network.
    """

    Config = PQNConfig

    def __init__(self, config: "RunConfig", spec: EnvSpec, stopwatch: Stopwatch):
        super().__init__(config, spec, stopwatch)
        assert isinstance(config.agent, PQNConfig)
        self.settings = agent = config.agent
        size = agent.rollout_steps * self.num_envs
        if size % agent.num_minibatches:
            raise ConfigError(
                f"agent.num_minibatches: {size} decisions of a rollout ({agent.rollout_steps} steps of {self.num_envs} "
                f"environments) cannot be shared out evenly over {agent.num_minibatches} minibatches"
            )
        self.learner = self.make_learner(observed_return)
        self.shuffling = torch.Generator().manual_seed(child_seed(config.seed, "minibatches"))
        self.rollout: list[dict[str, Tensor]] = []  # by step: what `store` made of it, [N, ...] each, values [M*N]

    def store(self, t: Transition, reward: np.ndarray) -> None:
        """Into the rollout, with the value of a successor that will not be acted on because its episode ended."""
        step = {
            "obs": torch.from_numpy(t.obs),
            "action": torch.from_numpy(t.action),
            "reward": torch.from_numpy(reward).float(),
            "discount": torch.from_numpy(self.settings.gamma * ~t.terminal).float(),
            "episode_end": torch.from_numpy(t.done),
            "value": torch.from_numpy(self.by_member.max(-1)).float().flatten(),
            "final_value": self.final_values(t).flatten(),
        }
        if (probability := self.settings.bootstrap_probability) < 1:
            step["bootstrap_mask"] = torch.rand(self.num_envs, self.members, generator=self.shuffling) < probability
        if t.next_mask is not None:
            step["next_mask"] = torch.from_numpy(t.next_mask)
        self.rollout.append({name: value.to(self.device, copy=True) for name, value in step.items()})

    def final_values(self, t: Transition) -> Tensor:
        """max Q of the observations that episodes were cut off at, float32 [M, N]; 0 for all others."""
        values, cut = torch.zeros(self.members, self.num_envs), t.done & ~t.terminal
        if cut.any():
            mask = None if t.next_mask is None else torch.from_numpy(t.next_mask[cut])
            values[:, torch.from_numpy(cut)] = self.greedy_values(torch.from_numpy(t.next_obs[cut]), mask)
        return values

    @torch.no_grad()
    def greedy_values(self, obs: Tensor, mask: Tensor | None) -> Tensor:
        """max Q over legal actions, float32 [M, B] on the CPU, of observations [B, *shape]; `mask` [B, A]."""
        q_values = self.online(obs.to(self.device)).by_member().cpu()
        return (q_values if mask is None else q_values.masked_fill(~mask, -torch.inf)).max(-1).values

    def learn(self) -> None:
        """Where a rollout is complete: make its returns, and learn from it in minibatches."""
        if len(self.rollout) < self.settings.rollout_steps:
            return
        with self.stopwatch("sample"):
            batch = self.make_batch(torch.from_numpy(self.by_member.max(-1)).float().flatten().to(self.device))
            self.rollout = []
        if self.settings.lr_decay:
            self.learner.set_lr(self.settings.lr * max(0.0, 1 - self.step / self.config.steps))
        with self.stopwatch("learn"):
            for _ in range(self.settings.num_epochs):
                order = torch.randperm(len(batch.action), generator=self.shuffling).to(self.device)
                for rows in order.chunk(self.settings.num_minibatches):
                    self.last_update = self.learner.update(batch.take(rows))

    def make_batch(self, last_value: Tensor) -> Batch:
        """The rollout as transitions [T*N] whose reward is the lambda-return; `last_value` [M*N] is that after it.

        Members have returns of their own, [T*N, M], as each bootstraps from itself.
        """
        steps = {name: torch.stack([step[name] for step in self.rollout]) for name in self.rollout[0]}
        reward, discount, ends = (steps[k].repeat(1, self.members) for k in ("reward", "discount", "episode_end"))
        next_value = torch.cat([steps["value"][1:], last_value.unsqueeze(0)])
        next_value = torch.where(ends, steps["final_value"], next_value)
        returns = lambda_returns(reward * self.reward_factor(), discount, next_value, ends, self.settings.trace_decay)
        returns = returns.view(-1, self.members, self.num_envs).transpose(1, 2).flatten(0, 1)
        if self.members == 1:
            returns = returns.squeeze(-1)
        batch = Batch.of_returns(steps["obs"].flatten(0, 1), steps["action"].flatten(), returns)
        mask = steps.get("bootstrap_mask")
        return batch if mask is None else batch._replace(bootstrap_mask=mask.flatten(0, 1))

    def plan(self) -> str:
        """How many updates will be made."""
        settings = self.settings
        size = settings.rollout_steps * self.num_envs
        rollouts = (self.config.steps - self.num_envs) // size
        updates = rollouts * settings.num_epochs * settings.num_minibatches
        idle = "\nwarning: the run ends before its first rollout does: nothing is learned"
        return (
            f"{settings.num_epochs * settings.num_minibatches} updates of {size // settings.num_minibatches} "
            f"per {size:,} steps = {updates:,}{'' if rollouts else idle}"
        )

    def cut(self, env: int, obs: np.ndarray) -> None:
        """The last step of the rollout ends its episode; the value of `obs` is bootstrapped from."""
        super().cut(env, obs)
        if self.rollout and not self.rollout[-1]["episode_end"][env]:
            last = self.rollout[-1]
            mask = last["next_mask"][env : env + 1].cpu() if "next_mask" in last else None
            last["episode_end"][env] = True
            final = last["final_value"].view(self.members, self.num_envs)
            final[:, env] = self.greedy_values(torch.from_numpy(obs[None]), mask)[:, 0]

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "rollout": self.rollout, "shuffling": self.shuffling.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.rollout = [{name: value.to(self.device) for name, value in step.items()} for step in state["rollout"]]
        self.shuffling.set_state(state["shuffling"].cpu())
