"""What every agent is: a network that acts and explores, a learner, and what they tell of themselves.

N environments, A actions, B batch, K atoms, M members of an ensemble.
"""

import functools
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from agents.components import KINDS, AgentConfig
from agents.exploration import Bootstrapped
from agents.learning.learner import Learner, Update
from agents.learning.recorded import recorded
from agents.learning.regularizers import Regularizer, TrainedRegularizer
from agents.learning.targets import TargetRule
from agents.learning.value_bias import ValueBias
from agents.networks.qnetwork import EnvSpec, QNetwork, make_network
from agents.normalization import RewardScale
from agents.replay.uniform import UniformReplay
from agents.running.stopwatch import Stopwatch
from agents.seeding import child_seed, seeded
from agents.tables import ConfigError
from value_heads import Atoms, Draws

if TYPE_CHECKING:
    from agents.config import RunConfig


class Transition(NamedTuple):
    """One decision in each environment, and what it led to: arrays [N, ...], rewards raw."""

    obs: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    terminal: np.ndarray  # nothing is bootstrapped: the task ended, or a life was lost
    done: np.ndarray  # the episode ended
    next_obs: np.ndarray
    next_mask: np.ndarray | None  # [N, A], legal in next_obs
    mask: np.ndarray | None  # [N, A], legal in obs


def make_regularizers(
    config: "RunConfig", network: QNetwork, spec: EnvSpec, part: str = "weights of regularizers"
) -> dict[str, Regularizer]:
    """Those of the configuration by name, on the device of `network`; their weights as in `make_network`."""
    regularizers: dict[str, Regularizer] = {
        name: KINDS["regularizer"].find(name)(**settings.options()) for name, settings in config.regularizers.items()
    }
    with seeded(child_seed(config.seed, part)):
        for regularizer in regularizers.values():
            if isinstance(regularizer, TrainedRegularizer):
                regularizer.build(network, spec)
                regularizer.to(next(network.parameters()).device)
    return regularizers


class Agent(ABC):
    """One class for each regime of data: it says what is done with transitions, and when something is learned.

    A subclass makes its `learner` and has `Config`, the model of its settings.
    """

    Config: type[AgentConfig]
    learner: Learner
    remembers = False  # True: what it says of an observation depends on those before, and changes what comes after
    acts = True  # False: it learns from recorded data, each step of the run is an update, and evaluations alone play

    def __init__(self, config: "RunConfig", spec: EnvSpec, stopwatch: Stopwatch):
        self.config, self.spec, self.stopwatch = config, spec, stopwatch
        self.num_envs, self.members, gamma = config.env.num_envs, config.head.members, config.agent.gamma
        self.device = torch.device(config.device)
        self.on_cpu = self.device.type == "cpu"
        self.online = make_network(config, spec).to(self.device)
        self.exploration = KINDS["exploration"].find(config.exploration.name)(
            self.num_envs, child_seed(config.seed, "exploration"), **config.exploration.options()
        )
        self.check_ensemble()
        self.generator = torch.Generator(self.device).manual_seed(child_seed(config.seed, "noise"))  # of acting
        self.reward_scale = RewardScale(self.num_envs, gamma) if config.agent.normalize_reward else None
        self.value_bias = ValueBias(self.num_envs, gamma)
        self.draw_noise = self.online.head.noise
        self.is_noisy = bool(self.draw_noise(torch.Generator(self.device)))
        self.values_of = self.predict if self.remembers else recorded(self.predict, self.device)
        self.by_member = np.zeros((self.members, self.num_envs, spec.num_actions))  # Q where `act` was last called
        self.q_values = self.by_member[0]  # what was acted by, [N, A]
        self.step = 0  # environment steps observed
        self.last_update: Update | None = None
        self.shown: dict[str, Any] = {}  # of the last update before a checkpoint, until there is another one

    def check_ensemble(self) -> None:
        """Refuse what is for members of an ensemble where there is none.

        Raises:
            ConfigError: naming the key.
        """
        wanted = "wanted head.members of at least 2, got 1"
        if self.members == 1 and isinstance(self.exploration, Bootstrapped):
            raise ConfigError(f"exploration.name: 'bootstrapped' follows a member of an ensemble: {wanted}")
        if self.members == 1 and (share := getattr(self.config.agent, "bootstrap_probability", 1.0)) < 1:
            raise ConfigError(f"agent.bootstrap_probability: {share:g} is for the members of an ensemble: {wanted}")
        for name in self.config.regularizers if self.members > 1 else ():
            if issubclass(KINDS["regularizer"].find(name), TrainedRegularizer):
                raise ConfigError(
                    f"regularizers.{name}: is for a network with one head, got head.members {self.members}: "
                    f"leave one of the two out (--regularizers.{name} none)"
                )

    @property
    def actor(self) -> QNetwork:
        """The network that acts, in training and after it: what is kept as the policy."""
        return self.online

    @abstractmethod
    def store(self, t: Transition, reward: np.ndarray) -> None:
        """Keep a decision of every environment to learn from; `reward` [N] is what is learned from."""

    @abstractmethod
    def learn(self) -> None:
        """Make the updates that are due, from what was observed before; environments may be stepping meanwhile."""

    def kept(self) -> UniformReplay | None:
        """The replay whose rows a checkpoint keeps beside the state, if there is one."""
        return None

    @abstractmethod
    def plan(self) -> str:
        """How much will be learned from how many steps, in words and with the derived numbers."""

    def make_learner(self, target_rule: TargetRule, **options: Any) -> Learner:
        """A learner with the optimiser and the regularisers of the configuration."""
        agent = self.config.agent
        return Learner(
            self.online,
            target_rule,
            regularizers=make_regularizers(self.config, self.online, self.spec),
            optimizer=agent.optimizer,
            weight_decay=agent.weight_decay,
            lr=agent.lr,
            adam_eps=agent.adam_eps,
            max_grad_norm=agent.max_grad_norm,
            seed=child_seed(self.config.seed, "learner"),
            **options,
        )

    def target_rule(self) -> TargetRule:
        """The target rule of the configuration, its options bound."""
        settings = self.config.target_rule
        return functools.partial(KINDS["target_rule"].find(settings.name), **settings.options())

    def act(self, obs: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        """Exploring actions [N] for observations [N, *shape]; `mask` [N, A] says which are legal."""
        with self.stopwatch("act"):
            noise = self.draw_noise(self.generator) if self.is_noisy else {}
            by_member = self.values_of(self.seen(obs), noise).numpy(force=True)
            if mask is not None:
                by_member = np.where(mask, by_member, -np.inf)
            self.by_member, self.q_values = by_member, self.exploration.values_of(by_member)
            return self.exploration.choose(self.q_values, self.step, mask)

    def seen(self, obs: np.ndarray) -> Tensor:
        """Observations [N, *shape] to act on, where the network is."""
        given = torch.from_numpy(obs)
        return given if self.on_cpu else given.to(self.device)

    @torch.inference_mode()
    def predict(self, obs: Tensor, draws: Draws) -> Tensor:
        """Q of every member, [M, N, A], by the network that acts, for the observations [N, *shape] to act on."""
        return self.actor(obs, draws).by_member()

    def observe(self, t: Transition) -> None:
        """Take one decision of every environment in."""
        reward = self.learning_reward(t.reward, t.done)
        with self.stopwatch("add"):
            self.store(t, reward)
            if self.online.normalizer is not None:
                self.online.normalizer.update(torch.from_numpy(t.obs).to(self.device))
        self.exploration.forget(t.done)
        scaled = reward if self.reward_scale is None else reward * self.reward_factor()
        self.value_bias.update(self.q_values, scaled, t.terminal, t.done)
        self.step += self.num_envs

    def learning_reward(self, reward: np.ndarray, done: np.ndarray) -> np.ndarray:
        """Rewards [N] as the learner gets them; what is reported stays raw."""
        if self.config.agent.reward_clip is not None:
            reward = np.clip(reward, -self.config.agent.reward_clip, self.config.agent.reward_clip)
        if self.reward_scale is not None:
            self.reward_scale.update(reward, done)
        return reward

    def reward_factor(self) -> float:
        """What rewards are multiplied with when they are learned from."""
        return 1.0 if self.reward_scale is None else self.reward_scale.factor()

    def metrics(self) -> dict[str, float]:
        """Scalars by TensorBoard tag, from the last update; updates themselves never wait for the device."""
        scalars = {**self.exploration.metrics(self.step), "replay/updates": float(self.learner.num_updates)}
        if self.reward_scale is not None:
            scalars["replay/reward_scale"] = self.reward_scale.factor()
        return scalars | self.value_bias.pop() | self.update_metrics()

    def update_metrics(self) -> dict[str, float]:
        """The part of `metrics` that is from the last update."""
        if self.last_update is None:
            return self.shown.get("metrics", {})
        with torch.no_grad():
            update = self.last_update
            diagnostics = update.prediction.diagnostics(update.goal)
            scalars = {f"value/{name}": float(value) for name, value in diagnostics.items()}
            scalars |= {f"losses/{name}": float(value) for name, value in update.terms.items()}
            scalars["losses/td_error_abs"] = float(update.td_error.abs().mean())
            scalars["losses/q_values"] = float(update.prediction.mean().mean())
            scalars["losses/grad_norm"] = self.learner.grad_norm()
        return scalars

    def distributions(self) -> dict[str, Atoms]:
        """Return distributions [B, K] of the last batch by TensorBoard tag: the prediction, and what it should be."""
        if self.last_update is None:
            return {tag: Atoms(*atoms) for tag, atoms in self.shown.get("distributions", {}).items()}
        prediction, goal = self.last_update.prediction, self.last_update.goal
        with torch.no_grad():
            return {
                "value/predicted_dist": prediction.distribution(),
                "value/target_dist": prediction.target_distribution(goal),
            }

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Begin with the weights of another network of the same shape."""
        self.online.load_state_dict(weights)
        self.learner.target.load_state_dict(weights)

    def cut(self, env: int, obs: np.ndarray) -> None:
        """End the running episode of one environment as truncated at `obs` [*shape]."""
        self.exploration.forget(np.arange(self.num_envs) == env)
        self.value_bias.discard(env)
        if self.reward_scale is not None:
            self.reward_scale.discard(env)

    def state_dict(self) -> dict[str, Any]:
        """All that decides what happens next, but for the rows of a replay."""
        return {
            "learner": self.learner.state_dict(),
            "exploration": self.exploration.state_dict(),
            "generator": self.generator.get_state(),
            "reward_scale": self.reward_scale and self.reward_scale.state_dict(),
            "value_bias": self.value_bias.state_dict(),
            "step": self.step,
            "shown": {
                "metrics": self.update_metrics(),
                "distributions": {tag: list(atoms) for tag, atoms in self.distributions().items()},
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.learner.load_state_dict(state["learner"])
        self.exploration.load_state_dict(state["exploration"])
        self.generator.set_state(state["generator"].cpu())
        if self.reward_scale is not None:
            self.reward_scale.load_state_dict(state["reward_scale"])
        self.value_bias.load_state_dict(state["value_bias"])
        self.step, self.shown = state["step"], state["shown"]
