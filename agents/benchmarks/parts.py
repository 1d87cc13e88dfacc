"""What a step of training is made of, as operations that can be timed one by one.

N environments, A actions, B batch, T steps of a rollout.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import torch

from agents.agent import Agent, Transition
from agents.components import KINDS
from agents.config import RunConfig
from agents.dqn import DQN
from agents.learning.learner import Learner
from agents.learning.recorded import Recorded
from agents.networks.qnetwork import EnvSpec
from agents.pqn import PQN
from agents.replay.prioritized import PrioritizedReplay
from agents.running.run import make_training_env
from agents.running.stopwatch import Stopwatch
from envs import VectorEnv

RECORDED_STEPS = 2_048  # of random play, put into replay over and over: for 128 Atari games 115 MB
BATCHES = 4  # that are learned from in turn


class Part(NamedTuple):
    """An operation, and how often training as configured makes it."""

    name: str
    what: str  # is taken at once
    per_step: float  # operations for each environment step
    operation: Callable[[], object]


def make_agent(config: RunConfig, spec: EnvSpec) -> Agent:
    return KINDS["agent"].find(config.agent.name)(config, spec, Stopwatch())


def random_actions(venv: VectorEnv, seed: int = 0) -> Iterator[np.ndarray]:
    """Actions [N] without end, legal ones where the environment says which are."""
    rng = np.random.default_rng(seed)
    drawn = itertools.cycle(rng.integers(venv.num_actions, size=(1_024, venv.num_envs)))
    while True:
        mask = venv.action_mask
        yield next(drawn) if mask is None else (rng.random(mask.shape) * mask).argmax(-1)


def play(venv: VectorEnv, rows: int) -> list[Transition]:
    """Random play from the start of an episode in each environment to the last row, where all of them are cut."""
    obs, actions, recorded = venv.reset(), random_actions(venv), []
    for row in range(rows):
        mask, action = venv.action_mask, next(actions)
        step = venv.step(action)
        done = np.ones_like(step.done) if row == rows - 1 else step.done
        recorded.append(
            Transition(obs, action, step.reward, step.terminal, done, step.next_obs, venv.action_mask, mask)
        )
        obs = venv.reset_done(step.done)
    return recorded


def record_soon(*functions: Callable[..., object]) -> None:
    """Let what is recorded at some time in a run be recorded at its second call: measured is what lasts."""
    for function in functions:
        if isinstance(function, Recorded):
            function.after = 1


class Bench:
    """An agent beside its environments, with something to learn from, and its parts.

    Args:
        steps: environment steps of random play that its replay holds, or more.
    """

    def __init__(self, config: RunConfig, steps: int):
        self.config, self.venv = config, make_training_env(config)
        recorded = play(self.venv, max(2, min(200, RECORDED_STEPS // config.env.num_envs)))
        self.spec, self.actions = EnvSpec.of(self.venv), random_actions(self.venv)
        self.agent = agent = make_agent(config, self.spec)
        record_soon(agent.values_of, agent.learner.gradient_of)
        assert isinstance(agent, DQN | PQN)
        self.play = itertools.cycle(recorded)
        self.obs = itertools.cycle([t.obs for t in recorded])
        self.masks = itertools.cycle([t.mask for t in recorded])
        rows = steps // agent.num_envs if isinstance(agent, DQN) else agent.settings.rollout_steps
        for t in itertools.islice(self.play, max(rows, 1)):
            agent.observe(t)
        while isinstance(agent, DQN) and len(agent.replay) == 0:
            agent.observe(next(self.play))
        self.batches = self.some_batches()

    def step_environments(self) -> None:
        self.venv.send(next(self.actions))
        self.venv.reset_done(self.venv.recv().done)

    def act(self) -> None:
        self.agent.act(next(self.obs), next(self.masks))

    def add(self) -> None:
        t = next(self.play)
        self.agent.store(t, t.reward)

    def normalize(self) -> None:
        assert self.agent.online.normalizer is not None
        self.agent.online.normalizer.update(torch.from_numpy(next(self.obs)).to(self.agent.device))

    def parts(self) -> list[Part]:
        """All that a step of training needs, for what is configured."""
        n = self.agent.num_envs
        parts = [
            Part("env", f"{n} environments", 1 / n, self.step_environments),
            Part("act", f"{n} observations", 1 / n, self.act),
        ]
        if self.agent.online.normalizer is not None:
            parts.append(Part("normalizer", f"{n} observations", 1 / n, self.normalize))
        return parts + (self.parts_of_dqn() if isinstance(self.agent, DQN) else self.parts_of_pqn())

    def parts_of_dqn(self) -> list[Part]:
        """Replay, and an update."""
        agent = self.agent
        assert isinstance(agent, DQN)
        replay, size, n = agent.replay, agent.settings.batch_size, agent.num_envs
        ratio = agent.settings.replay_ratio
        batch, indices = replay.sample(size)
        parts = [
            Part("add", f"{n} transitions", 1 / n, self.add),
            Part("sample", f"batch {size}", ratio, lambda: replay.sample(size)),
            Part("update", f"batch {size}, {self.config.head.name}", ratio, self.updater(agent.learner)),
        ]
        if isinstance(replay, PrioritizedReplay):
            update = agent.learner.update(batch.to(agent.device))

            def priorities() -> None:
                replay.update_priorities(indices, update.prediction.error(update.goal), update.losses)

            parts.append(Part("priorities", f"batch {size}", ratio, priorities))
        return parts

    def parts_of_pqn(self) -> list[Part]:
        """A rollout, its returns, and an update."""
        agent = self.agent
        assert isinstance(agent, PQN)
        settings, n, rollout = agent.settings, agent.num_envs, list(agent.rollout)
        decisions = settings.rollout_steps * n
        updates = settings.num_epochs * settings.num_minibatches
        last_value = torch.zeros(n, device=agent.device)

        def add() -> None:
            self.add()
            if len(agent.rollout) > settings.rollout_steps:
                agent.rollout = []

        def returns() -> None:
            agent.rollout = list(rollout)
            agent.make_batch(last_value)

        size = decisions // settings.num_minibatches
        update = Part(
            "update", f"batch {size}, {self.config.head.name}", updates / decisions,
            self.updater(agent.learner),
        )  # fmt: skip
        return [
            Part("add", f"{n} transitions", 1 / n, add),
            Part("returns", f"{decisions:,} decisions", 1 / decisions, returns),
            update,
        ]

    def updater(self, learner: Learner) -> Callable[[], object]:
        """An update from batches of this agent's, which take turns."""
        batches = itertools.cycle(self.batches)
        return lambda: learner.update(next(batches))

    def some_batches(self) -> list[Any]:
        """What the agent would learn from now, on its device."""
        agent = self.agent
        if isinstance(agent, DQN):
            return [agent.replay.sample(agent.settings.batch_size)[0].to(agent.device) for _ in range(BATCHES)]
        assert isinstance(agent, PQN)
        batch = agent.make_batch(torch.zeros(agent.num_envs, device=agent.device))
        order = torch.randperm(len(batch.action), generator=agent.shuffling).to(agent.device)
        return [batch.take(rows) for rows in order.chunk(agent.settings.num_minibatches)[:BATCHES]]

    def with_head(self, name: str) -> Callable[[], object]:
        """An update from the same batches where the head is another one, with its own defaults."""
        return self.updater(self.another_learner({"head.name": name}))

    def another_learner(self, overrides: Mapping[str, Any]) -> Learner:
        """The learner of an agent with another configuration, whose replay takes no room."""
        room = {"replay.capacity_steps": 1} if isinstance(self.agent, DQN) else {}
        learner = make_agent(self.config.with_overrides({**overrides, **room}), self.spec).learner
        record_soon(learner.gradient_of)
        return learner

    def close(self) -> None:
        self.venv.close()


def vector_steps_of_a_cycle(agent: Agent) -> int:
    """After so many decisions of every environment the pattern of updates begins again."""
    if isinstance(agent, PQN):
        return agent.settings.rollout_steps
    assert isinstance(agent, DQN)
    return (Fraction(agent.settings.replay_ratio).limit_denominator(1_000) * agent.num_envs).denominator
