"""DQN: the agent of the replay regime. Act, put what happened into replay, sample, update.

N environments, A actions.
"""

import functools
import warnings
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from agents.acting import LaggedCopy, NewestFrames
from agents.agent import Agent, Transition
from agents.annealing import Annealing
from agents.components import KINDS, AgentConfig, ReplayConfig
from agents.learning.augmentation import Augmentation
from agents.learning.learner import TDLoss
from agents.networks.qnetwork import EnvSpec, QNetwork
from agents.replay.memory import ReplayTooLargeError
from agents.replay.observations import is_stack
from agents.replay.prioritized import PrioritizedReplay
from agents.replay.uniform import UniformReplay
from agents.resets import Resets
from agents.running.stopwatch import Stopwatch
from agents.seeding import child_seed
from agents.whole_updates import whole_updates
from value_heads import Draws

if TYPE_CHECKING:
    from agents.config import RunConfig


class DQNConfig(AgentConfig):
    tables = ("target_rule", "regularizers", "exploration", "replay", "augmentation", "resets", "annealing")
    n_step: int = Field(default=1, ge=1, description="rewards summed before bootstrapping")
    batch_size: int = Field(default=128, ge=1)
    replay_ratio: float = Field(default=0.25, gt=0, description="optimiser updates per environment step")
    learn_after_steps: int = Field(default=1_000, ge=1, description="environment steps before the first update")
    target_every_updates: int = Field(default=100, ge=1, description="target network follows every so many updates")
    target_tau: float = Field(default=1.0, gt=0, le=1, description="how far it follows; 1 is a copy")
    bootstrap_probability: float = Field(default=1.0, gt=0, le=1, description="that a member learns from a transition")
    acting_network: Literal["online", "target", "lagged"] = Field(
        default="online",
        description="which network chooses actions, in training and as the policy; lagged: in training the online "
        "network as it was before the last updates, so that a GPU acts while it makes them",
    )


class DQN(Agent):
    """Deep Q-learning with any value head (Mnih et al. 2015).

    One update happens for every 1 / replay_ratio environment steps after the first learn_after_steps.
    """

    Config = DQNConfig
    replay: UniformReplay
    td_loss: type[TDLoss] = TDLoss

    def __init__(self, config: "RunConfig", spec: EnvSpec, stopwatch: Stopwatch):
        super().__init__(config, spec, stopwatch)
        assert isinstance(config.agent, DQNConfig)
        self.settings = agent = config.agent
        self.learner = self.make_learner(
            self.target_rule(),
            td_loss=self.td_loss,
            target_every_updates=agent.target_every_updates,
            target_tau=agent.target_tau,
            augmentation=config.augmentation and Augmentation(spec.obs_shape, **config.augmentation.model_dump()),
        )
        self.replay = self.make_replay()
        self.annealing = config.annealing and Annealing(agent.n_step, agent.gamma, **config.annealing.model_dump())
        self.resets = config.resets and Resets(config, spec, self.learner, **config.resets.model_dump())
        self.whole_updates = whole_updates(self)
        self.lagged = LaggedCopy(self.online) if agent.acting_network == "lagged" else None
        self.newest_frames = None if self.device.type == "cpu" else NewestFrames(self.replay, self.device)

    @property
    def actor(self) -> QNetwork:
        return self.learner.target if self.settings.acting_network == "target" else self.online

    def act(self, obs: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        if self.lagged is None:
            return super().act(obs, mask)
        with torch.cuda.stream(self.lagged.stream):  # pyright: ignore[reportArgumentType]
            return super().act(obs, mask)

    def seen(self, obs: np.ndarray) -> Tensor:
        return super().seen(obs) if self.newest_frames is None else self.newest_frames(obs)

    @torch.inference_mode()
    def predict(self, obs: Tensor, draws: Draws) -> Tensor:
        network = self.actor if self.lagged is None else self.lagged.network
        return network(obs, draws).by_member()

    def make_replay(self) -> UniformReplay:
        """The replay of the configuration, empty."""
        annealing, n_step = self.config.annealing, self.settings.n_step
        return make_replay(
            self.config,
            self.spec,
            n_step=max(n_step, annealing.n_step_start if annealing else 1),
            future_steps=self.learner.td_loss.future_steps(),
        )

    def kept(self) -> UniformReplay:
        return self.replay

    def store(self, t: Transition, reward: np.ndarray) -> None:
        """Into replay."""
        self.replay.add(t.obs, t.action, reward, t.terminal, t.done, t.next_obs, t.next_mask, t.mask)

    def learn(self) -> None:
        """Make the updates that the steps so far have earned."""
        due = self.updates_due()
        if due and self.lagged is not None:
            self.lagged.follow()
        if self.whole_updates is not None:
            return self.whole_updates(due)
        for _ in range(due):
            self.update()

    def plan(self) -> str:
        """How many updates will be made, and how often a step is learned from."""
        return self.plan_of(f"{self.settings.batch_size}", "", self.settings.batch_size)

    def plan_of(self, batch: str, at_most: str, batch_steps: int) -> str:
        """The plan, where an update is of `batch`, in words, and that is of `at_most` `batch_steps` steps."""
        ratio, steps = self.settings.replay_ratio, self.config.steps
        learned_from = steps - self.num_envs  # while the last steps are made
        updates = int(max(0, learned_from - self.first_update_after()) * ratio)
        resets = f", {updates // self.config.resets.every_updates} resets" if self.config.resets else ""
        idle = f"\nwarning: no update before step {self.first_update_after():,}: nothing is learned"
        return (
            f"1 update of {batch} per {1 / ratio:g} steps = {updates:,}; each step is learned from "
            f"{at_most}{updates * batch_steps / steps:.3g} times{resets}{'' if updates else idle}"
        )

    def first_update_after(self) -> int:
        """Environment steps before the first update: as configured, and until replay has a whole transition."""
        return max(self.settings.learn_after_steps, (self.replay.horizon + 1) * self.num_envs)

    def updates_due(self) -> int:
        """How many updates the steps so far have earned, less those made."""
        earned = (self.step - self.first_update_after()) * self.settings.replay_ratio
        due = int(earned + 1e-9) - self.learner.num_updates
        return due if due > 0 and len(self.replay) else 0

    def update(self) -> None:
        """Sample and learn once."""
        with self.stopwatch("sample"):
            if self.annealing is not None:
                self.replay.set_returns(*self.annealing.at(self.updates_since_reset()))
            batch, indices = self.replay.sample(self.settings.batch_size)
            if self.reward_scale is not None:
                batch = batch._replace(reward=batch.reward * self.reward_factor())
            if self.replay.device != self.device:
                batch = batch.to(self.device)
        with self.stopwatch("learn"):
            self.last_update = update = self.learner.update(batch)
            if isinstance(self.replay, PrioritizedReplay):
                self.replay.update_priorities(indices, update.prediction.error(update.goal), update.losses)
            if self.resets is not None:
                self.resets.after_update()

    def updates_since_reset(self) -> int:
        """How many updates were made since the last reset, or in all where there was none."""
        return self.learner.num_updates if self.resets is None else self.resets.updates_since()

    def metrics(self) -> dict[str, float]:
        scalars = {**super().metrics(), "replay/size": float(len(self.replay)), **self.replay.metrics()}
        if self.resets is not None:
            scalars["replay/resets"] = float(self.resets.count())
        if self.annealing is not None:
            n_step, gamma = self.annealing.at(self.updates_since_reset())
            scalars |= {"replay/n_step": float(n_step), "replay/gamma": gamma}
        return scalars

    def cut(self, env: int, obs: np.ndarray) -> None:
        super().cut(env, obs)
        self.replay.cut(env, obs)

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        super().load_weights(weights)
        if self.lagged is not None:
            self.lagged.follow()

    def state_dict(self) -> dict[str, Any]:
        lagged = {} if self.lagged is None else {"lagged": self.lagged.network.state_dict()}
        return {**super().state_dict(), **lagged, "replay": self.replay.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.replay.load_state_dict(state["replay"])
        if self.newest_frames is not None:
            self.newest_frames.stacks = None
        if self.lagged is not None:
            self.lagged.load_state_dict(state["lagged"])


def make_replay(config: "RunConfig", spec: EnvSpec, *, n_step: int, **more: Any) -> UniformReplay:
    """The replay of a configuration, empty; `more` is what that of another agent wants to know.

    Where that is left open it lies where the networks do, if it takes no more than 90 % of what is free there, and
    otherwise in the host's memory; one whose frames are in a file is the host's.
    """
    settings = config.replay
    left_open = settings.device == "same" and settings.map_dir is None and torch.device(config.device).type != "cpu"
    make = functools.partial(make_replay_on, config, spec, n_step=n_step, **more)
    if not left_open:
        return make("cpu" if settings.device == "same" else settings.device)
    try:
        return make(config.device)
    except ReplayTooLargeError as error:
        warnings.warn(f"replay lies in the host's memory, which is slower: {error}", stacklevel=2)
        return make("cpu")


def make_replay_on(config: "RunConfig", spec: EnvSpec, device: str, *, n_step: int, **more: Any) -> UniformReplay:
    """The replay of a configuration on a device."""
    settings = config.replay
    return KINDS["replay"].find(settings.name)(
        settings.capacity_steps,
        config.env.num_envs,
        spec.obs_shape,
        getattr(torch, spec.obs_dtype),
        num_actions=spec.num_actions if spec.has_action_mask else None,
        num_members=config.head.members,
        bootstrap_probability=getattr(config.agent, "bootstrap_probability", 1.0),
        n_step=n_step,
        gamma=config.agent.gamma,
        share_frames=settings.share_frames and is_stack(spec.obs_shape, config.env.frame_stack),
        device=device,
        map_dir=settings.map_dir,
        seed=child_seed(config.seed, "replay"),
        **settings.options(without=ReplayConfig.model_fields),
        **more,
    )
