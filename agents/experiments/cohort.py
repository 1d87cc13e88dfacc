"""Many runs in one process that differ in the seed, and perhaps in rates, advanced as one: a cohort.

Each of them is an ordinary run, with environments, generators, metrics and checkpoints of its own, and ends as one
trained alone would have, up to rounding. What costs time is done for all at once: one pass through the stacked
networks chooses all actions, one pass forth and back makes an update of all, one replay keeps all transitions.

Dimensions: S runs, N environments of each, B batch, A actions.
"""

from collections.abc import Sequence

import numpy as np
import torch

from agents.components import KINDS
from agents.config import RunConfig
from agents.dqn import DQN
from agents.learning.stacked import StackedLearner
from agents.learning.value_bias import ValueBias
from agents.replay.stacked import StackedReplay
from agents.running.run import Run, differences
from agents.running.stopwatch import Stopwatch
from agents.tables import ConfigError
from envs import EpisodeStatistics, GymnasiumVector, JoinedVector, Step

OWN = ("seed", "agent.lr", "agent.adam_eps", "agent.weight_decay", "agent.max_grad_norm", "exploration.")
"""Settings in which the runs of a cohort may differ; one that ends in a dot stands for all that begin with it."""


def check_cohort(configs: Sequence[RunConfig]) -> None:
    """Refuse configurations that cannot be trained as one.

    Raises:
        ConfigError: naming the key.
    """
    first = configs[0]
    if KINDS["agent"].find(first.agent.name) is not DQN:
        raise ConfigError(f"agent.name: a cohort is of 'dqn', got {first.agent.name!r}")
    if first.head.members > 1:
        raise ConfigError(f"head.members: a cohort is of networks with one head, got {first.head.members}")
    if first.agent.acting_network == "lagged":  # pyright: ignore[reportAttributeAccessIssue]
        raise ConfigError("agent.acting_network: a cohort acts by 'online' or 'target' networks, got 'lagged'")
    for table in ("augmentation", "resets", "annealing"):
        if getattr(first, table) is not None:
            raise ConfigError(f"{table}: a cohort has no such thing, leave the table out")
    for config in configs[1:]:
        if wrong := [key for key in differences(first, config) if not key.startswith(OWN)]:
            own = ", ".join(name.removesuffix(".") for name in OWN)
            hint = " (give one)" if wrong[0] == "env.support" else ""  # found by play, which has the seed of the run
            raise ConfigError(
                f"the runs of a cohort may differ in {own}; seed {config.seed} has another {wrong[0]}{hint}"
            )


class Cohort:
    """Runs that are advanced together. They know what has happened up to the last `give`, and here after a `take`.

    Raises:
        ConfigError: for runs that cannot be.
    """

    def __init__(self, runs: Sequence[Run]):
        check_cohort([run.config for run in runs])
        self.runs, self.config, self.num_envs = runs, runs[0].config, runs[0].config.env.num_envs
        self.agents: list[DQN] = [run.agent for run in runs]  # pyright: ignore[reportAttributeAccessIssue]
        self.first, self.device = self.agents[0], self.agents[0].device
        self.heads = [agent.actor.head for agent in self.agents]
        vectors = [run.venv for run in runs]
        in_loops = [vector for vector in vectors if isinstance(vector, GymnasiumVector)]
        self.venv = GymnasiumVector.joined(in_loops) if in_loops == vectors else JoinedVector(vectors)
        try:
            self.learner = StackedLearner([agent.learner for agent in self.agents])
            self.replay = StackedReplay([agent.replay for agent in self.agents])
        except ValueError as error:
            raise ConfigError(f"cohort: {error}") from error
        self.statistics = EpisodeStatistics(len(runs) * self.num_envs)
        self.value_bias = SharedValueBias([agent.value_bias for agent in self.agents])
        self.stopwatch = Stopwatch()
        for run, agent in zip(runs, self.agents, strict=True):
            run.stopwatch = agent.stopwatch = self.stopwatch  # what parts take is known of all together
        self.take()

    @property
    def step(self) -> int:
        """Environment steps that each run has made."""
        return self.runs[0].step

    def own(self, i: int) -> slice:
        """The environments of run i among all."""
        return slice(i * self.num_envs, (i + 1) * self.num_envs)

    def advance(self) -> None:
        """As `Run.advance`, in all runs."""
        mask = self.venv.action_mask
        action = self.act(mask)
        with self.stopwatch("env"):
            self.venv.send(action)
        self.learn()
        with self.stopwatch("env"):
            step = self.venv.recv()
            for episode in self.statistics.update(step.reward, step.done):
                run = self.runs[episode.env_index // self.num_envs]
                run.episodes.append((episode.episodic_return, episode.length))
        self.observe(action, step, mask)
        with self.stopwatch("env"):
            self.obs = self.venv.reset_done(step.done) if np.count_nonzero(step.done) else step.next_obs
        for run in self.runs:
            run.step += self.num_envs

    def act(self, mask: np.ndarray | None) -> np.ndarray:
        """As `Agent.act`: exploring actions [S * N]."""
        with self.stopwatch("act"):
            noise = [head.noise(agent.generator) for head, agent in zip(self.heads, self.agents, strict=True)]
            q_values = self.learner.q_values(self.first.settings.acting_network, self.stacked(self.obs), noise)
            q_values = q_values.flatten(0, 1).cpu().numpy()
            if mask is not None:
                q_values = np.where(mask, q_values, -np.inf)
            self.q_values = q_values
            chosen = []
            for i, agent in enumerate(self.agents):
                own = self.own(i)
                chosen.append(agent.exploration.choose(q_values[own], agent.step, None if mask is None else mask[own]))
            return np.concatenate(chosen)

    def stacked(self, obs: np.ndarray) -> torch.Tensor:
        """Observations of all environments as [S, N, *shape]."""
        return torch.from_numpy(obs).to(self.device).unflatten(0, (len(self.runs), self.num_envs))

    def learn(self) -> None:
        """As `DQN.learn`: the updates that the steps so far have earned, which are as many in all runs."""
        for _ in range(self.first.updates_due()):
            with self.stopwatch("sample"):
                flat, _ = self.replay.sample(self.first.settings.batch_size)
                batch = flat.unflatten(len(self.runs)).to(self.device)
                if self.config.agent.normalize_reward:
                    factors = batch.reward.new_tensor([agent.reward_factor() for agent in self.agents])
                    batch = batch._replace(reward=batch.reward * factors.unsqueeze(-1))
            with self.stopwatch("learn"):
                self.learner.update(batch)

    def observe(self, action: np.ndarray, step: Step, mask: np.ndarray | None) -> None:
        """As `Agent.observe`."""
        done, rewards = step.done, []
        for i, agent in enumerate(self.agents):
            own = self.own(i)
            rewards.append(agent.learning_reward(step.reward[own], done[own]))
            agent.exploration.forget(done[own])
            agent.step += self.num_envs
        reward = np.concatenate(rewards)
        with self.stopwatch("add"):
            next_mask = self.venv.action_mask
            self.replay.add(self.obs, action, reward, step.terminal, done, step.next_obs, next_mask, mask)
            self.learner.normalize(self.stacked(self.obs))
        factors = np.repeat(np.array([a.reward_factor() for a in self.agents], reward.dtype), self.num_envs)
        self.value_bias.update(self.q_values, reward * factors, step.terminal, done)

    def take(self) -> None:
        """Go on from what the runs know."""
        self.learner.take()
        self.replay.take()
        self.value_bias.take()
        self.obs = np.concatenate([run.obs for run in self.runs])
        states = [run.statistics.state_dict() for run in self.runs]
        self.statistics.load_state_dict({k: [x for state in states for x in state[k]] for k in states[0]})

    def give(self) -> None:
        """Bring the runs up to date, so that each can log, evaluate and save as if it had been alone."""
        self.learner.give()
        self.replay.give()
        self.value_bias.give()
        statistics = self.statistics.state_dict()
        for i, (run, agent) in enumerate(zip(self.runs, self.agents, strict=True)):
            run.obs = self.obs[self.own(i)]
            run.statistics.load_state_dict({name: values[self.own(i)] for name, values in statistics.items()})
            if self.learner.seen is not None:
                agent.last_update = self.learner.update_of(i)


PER_ENV = ("predicted", "returns", "weight", "begins")  # of a value bias


class SharedValueBias(ValueBias):
    """`ValueBias` of the environments of several, which keep what is found of episodes that end."""

    def __init__(self, members: Sequence[ValueBias]):
        self.members, self.envs_each = members, len(members[0].returns)
        super().__init__(len(members) * self.envs_each, members[0].gamma)

    def keep(self, env: int, bias: float) -> None:
        self.members[env // self.envs_each].biases.append(bias)

    def take(self) -> None:
        for name in PER_ENV:
            setattr(self, name, [value for member in self.members for value in getattr(member, name)])
        self.some_begin = any(self.begins)

    def give(self) -> None:
        for i, member in enumerate(self.members):
            for name in PER_ENV:
                setattr(member, name, getattr(self, name)[i * self.envs_each : (i + 1) * self.envs_each])
            member.some_begin = any(member.begins)
