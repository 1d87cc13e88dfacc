"""DQN: the agent of the replay regime. Act, put what happened into replay, sample, update.

N environments, A actions.
"""

from typing import Any

import numpy as np
import torch

from agents.agent import Transition
from agents.config import RunConfig
from agents.exploration import EpsilonGreedy
from agents.learning.learner import Learner, Update
from agents.learning.targets import TARGET_RULES
from agents.learning.value_bias import ValueBias
from agents.networks.qnetwork import EnvSpec, make_network
from agents.normalization import RewardScale
from agents.replay.uniform import UniformReplay
from agents.running.stopwatch import Stopwatch
from agents.seeding import child_seed
from value_heads import Atoms


class DQN:
    """Deep Q-learning with any value head (Mnih et al. 2015).

    One update happens for every 1 / replay_ratio environment steps after the first learn_after_steps.
    """

    def __init__(self, config: RunConfig, spec: EnvSpec, stopwatch: Stopwatch):
        self.config, self.spec, self.stopwatch = config, spec, stopwatch
        agent = config.agent
        self.num_envs = config.env.num_envs
        self.device = torch.device(config.device)
        self.online = make_network(config, spec).to(self.device)
        self.learner = Learner(
            self.online,
            TARGET_RULES[agent.target_rule],
            lr=agent.lr,
            adam_eps=agent.adam_eps,
            max_grad_norm=agent.max_grad_norm,
            target_every_updates=agent.target_every_updates,
            target_tau=agent.target_tau,
            seed=child_seed(config.seed, "learner"),
        )
        looks_like_a_stack = len(spec.obs_shape) >= 3 and spec.obs_shape[0] < min(spec.obs_shape[1:])
        is_stack = looks_like_a_stack or config.env.frame_stack is not None
        self.replay = UniformReplay(
            config.replay.capacity_steps,
            self.num_envs,
            spec.obs_shape,
            getattr(torch, spec.obs_dtype),
            num_actions=spec.num_actions if spec.has_action_mask else None,
            n_step=agent.n_step,
            gamma=agent.gamma,
            share_frames=config.replay.share_frames and is_stack,
            device=self.device if config.replay.device == "same" else config.replay.device,
            map_dir=config.replay.map_dir,
            seed=child_seed(config.seed, "replay"),
        )
        self.exploration = EpsilonGreedy(config.exploration, child_seed(config.seed, "exploration"))
        self.reward_scale = RewardScale(self.num_envs, agent.gamma) if agent.normalize_reward else None
        self.value_bias = ValueBias(self.num_envs, agent.gamma)
        self.predicted = np.zeros(self.num_envs)  # value of the greedy action where `act` was last called
        self.step = 0  # environment steps observed
        self.last_update: Update | None = None
        self.shown: dict[str, Any] = {}  # of the last update before a checkpoint, until there is another one

    def act(self, obs: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        """Exploring actions [N] for observations [N, *shape]; `mask` [N, A] says which are legal."""
        with self.stopwatch("act"), torch.inference_mode():
            q_values = self.online(torch.from_numpy(obs).to(self.device)).mean().cpu().numpy()
            if mask is not None:
                q_values = np.where(mask, q_values, -np.inf)
            self.predicted = q_values.max(-1)
            epsilon = self.exploration.epsilon(self.step)
            return self.exploration.explore(q_values.argmax(-1), epsilon, self.spec.num_actions, mask)

    def observe(self, t: Transition) -> None:
        """Take one decision of every environment into replay."""
        reward = self.learning_reward(t.reward, t.done)
        with self.stopwatch("add"):
            self.replay.add(t.obs, t.action, reward, t.terminal, t.done, t.next_obs, t.next_mask)
            if self.online.normalizer is not None:
                self.online.normalizer.update(torch.from_numpy(t.obs).to(self.device))
        self.value_bias.update(self.predicted, reward * self.reward_factor(), t.terminal, t.done)
        self.step += self.num_envs

    def learn(self) -> None:
        """Make the updates that the steps so far have earned."""
        for _ in range(self.updates_due()):
            self.update()

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

    def first_update_after(self) -> int:
        """Environment steps before the first update: as configured, and until replay has a whole transition."""
        return max(self.config.agent.learn_after_steps, (self.config.agent.n_step + 1) * self.num_envs)

    def updates_due(self) -> int:
        """How many updates the steps so far have earned, less those made."""
        earned = (self.step - self.first_update_after()) * self.config.agent.replay_ratio
        return max(0, int(earned + 1e-9) - self.learner.num_updates) if len(self.replay) else 0

    def update(self) -> None:
        """Sample and learn once."""
        with self.stopwatch("sample"):
            batch, indices = self.replay.sample(self.config.agent.batch_size)
            if self.reward_scale is not None:
                batch = batch._replace(reward=batch.reward * self.reward_factor())
            if self.replay.device != self.device:
                batch = batch.to(self.device)
        with self.stopwatch("learn"):
            self.last_update = self.learner.update(batch)
            self.replay.update_priorities(indices, self.last_update.td_error)

    def metrics(self) -> dict[str, float]:
        """Scalars by TensorBoard tag, from the last update. The one place that waits for the device."""
        scalars = {
            "charts/epsilon": self.exploration.epsilon(self.step),
            "replay/size": float(len(self.replay)),
            "replay/updates": float(self.learner.num_updates),
        }
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
            scalars["losses/td_loss"] = float(update.loss)
            scalars["losses/td_error_abs"] = float(update.td_error.abs().mean())
            scalars["losses/q_values"] = float(update.prediction.mean().mean())
            scalars["losses/grad_norm"] = self.learner.grad_norm()
        return scalars

    def distributions(self) -> dict[str, Atoms]:
        """Return distributions of the last batch by TensorBoard tag: what was predicted, and what it should be."""
        if self.last_update is None:
            return {tag: Atoms(*atoms) for tag, atoms in self.shown.get("distributions", {}).items()}
        prediction, goal = self.last_update.prediction, self.last_update.goal
        with torch.no_grad():
            return {
                "value/predicted_dist": prediction.distribution(),
                "value/target_dist": prediction.target_distribution(goal),
            }

    def load_weights(self, weights: dict[str, torch.Tensor]) -> None:
        """Begin with the weights of another network of the same shape."""
        self.online.load_state_dict(weights)
        self.learner.target.load_state_dict(weights)

    def cut(self, env: int, obs: np.ndarray) -> None:
        """End the running episode of one environment as truncated at `obs` [*shape]."""
        self.replay.cut(env, obs)
        self.value_bias.discard(env)
        if self.reward_scale is not None:
            self.reward_scale.discard(env)

    def state_dict(self) -> dict[str, Any]:
        return {
            "learner": self.learner.state_dict(),
            "replay": self.replay.state_dict(),
            "exploration": self.exploration.state_dict(),
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
        self.replay.load_state_dict(state["replay"])
        self.exploration.load_state_dict(state["exploration"])
        if self.reward_scale is not None:
            self.reward_scale.load_state_dict(state["reward_scale"])
        self.value_bias.load_state_dict(state["value_bias"])
        self.step, self.shown = state["step"], state["shown"]
