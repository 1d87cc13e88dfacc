"""Playing with a policy, its evaluation on episodes of its own, and policies loaded from runs.

N environments, A actions.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from agents.config import RunConfig
from agents.exploration import random_actions
from agents.networks.qnetwork import EnvSpec, QNetwork, greedy, make_network
from agents.networks.recurrent import Memory, RecurrentQNetwork
from agents.running import checkpoint
from envs import EpisodeStatistics, Step, VectorEnv, make_vector
from value_heads import ActionValues


class Policy:
    """A trained network that acts greedily.

    One with a memory has to be told of episodes: `begin`, and after every step `remember` and `forget`, as in `play`.
    For others these do nothing.

    Args:
        step: the step of training that it is from; None where it goes on being trained.
        reward_factor: what rewards were multiplied with when it learned from them.
    """

    def __init__(
        self,
        network: QNetwork,
        config: RunConfig,
        spec: EnvSpec,
        *,
        step: int | None = None,
        reward_factor: float = 1.0,
    ):
        self.network, self.config, self.spec = network, config, spec
        self.step, self.reward_factor = step, reward_factor
        self.memory: Memory | None = None

    def begin(self, num_envs: int) -> None:
        """The next observations are the first of episodes in `num_envs` environments."""
        if isinstance(self.network, RecurrentQNetwork):
            self.memory = Memory(self.network, num_envs)

    def remember(self, action: np.ndarray, reward: np.ndarray) -> None:
        """What was done where values were last asked for, and the raw rewards of it, [N] each."""
        if self.memory is not None:
            self.memory.advance(action, self.clipped(reward))

    def forget(self, done: np.ndarray) -> None:
        """The next observations are the first of episodes where `done`, bool [N]."""
        if self.memory is not None:
            self.memory.forget(done)

    def act(self, obs: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        """Greedy actions, int64: observations [N, *shape] -> [N], or one observation [*shape] -> one action."""
        obs = np.asarray(obs)
        if obs.shape == self.spec.obs_shape:
            return self.act(obs[None], None if mask is None else np.asarray(mask)[None])[0]
        return self.choose(self.values(obs), mask)

    @torch.inference_mode()
    def choose(self, values: ActionValues, mask: np.ndarray | None = None) -> np.ndarray:
        """Greedy actions, int64: predictions [N, A] -> [N]."""
        q_values = values.mean()
        legal = None if mask is None else torch.from_numpy(self.checked(mask, len(q_values))).to(self.device)
        return greedy(q_values, legal).cpu().numpy()

    def checked(self, mask: np.ndarray, num_obs: int) -> np.ndarray:
        """A mask of zeros and ones as bool [N, A], with an action in every row."""
        mask = np.asarray(mask).astype(bool)
        if mask.shape != (num_obs, self.spec.num_actions) or not mask.any(-1).all():
            raise ValueError(
                f"the mask must be [{num_obs}, {self.spec.num_actions}] with a legal action in every row, "
                f"got {mask.shape}: {mask.tolist()}"
            )
        return mask

    @torch.inference_mode()
    def values(self, obs: np.ndarray) -> ActionValues:
        """Predictions for every action: observations [N, *shape] -> [N, A]."""
        if obs.shape[1:] != self.spec.obs_shape:
            raise ValueError(f"observations {obs.shape} are not [N, {', '.join(map(str, self.spec.obs_shape))}]")
        given = torch.from_numpy(np.ascontiguousarray(obs)).to(self.device)
        if not isinstance(self.network, RecurrentQNetwork):
            return self.network(given)
        if self.memory is None or self.memory.num_envs != len(obs):
            begun = f"episodes of {self.memory.num_envs} environments" if self.memory is not None else "no episode"
            raise ValueError(f"got {len(obs)} observations, but {begun} began: call begin({len(obs)}) before the first")
        return self.memory.values(given)

    @torch.inference_mode()
    def q_values(self, obs: np.ndarray) -> torch.Tensor:
        """Predicted returns of every action: observations [N, *shape] -> [N, A]."""
        return self.values(obs).mean()

    def learning_reward(self, reward: np.ndarray) -> np.ndarray:
        """Raw rewards as they were learned from, in the units of what is predicted: any shape."""
        return self.clipped(reward) * self.reward_factor

    def clipped(self, reward: np.ndarray) -> np.ndarray:
        clip = self.config.agent.reward_clip
        return reward if clip is None else np.clip(reward, -clip, clip)

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    def state_dict(self) -> dict[str, Any]:
        return {"config": self.config.plain(), "spec": list(self.spec), "weights": self.network.state_dict()}


def load(run_dir: Path | str) -> Policy:
    """The policy of a run: its best one, or where it was never evaluated, that of its last checkpoint.

    Raises:
        CheckpointError: where the run has neither.
    """
    run_dir = Path(run_dir)
    best = run_dir / "best.pt"
    paths = [best] if best.is_file() else checkpoint.found(run_dir)
    if not paths:
        raise checkpoint.CheckpointError(f"{run_dir} has no checkpoint to load")
    stored = checkpoint.read(paths[-1])
    state = stored["policy"]
    config = RunConfig.parse(state["config"], source=str(paths[-1]))
    shape, dtype, num_actions, has_mask = state["spec"]
    spec = EnvSpec(tuple(shape), dtype, num_actions, has_mask)
    network = make_network(config, spec)
    network.load_state_dict(state["weights"])
    return Policy(network.eval(), config, spec, step=stored["step"], reward_factor=stored["reward_factor"])


class Decision(NamedTuple):
    """One decision in each of N environments, and what it led to."""

    obs: np.ndarray  # [N, *shape]
    picture: Any  # what `look` saw before the decision
    values: ActionValues  # [N, A]
    action: np.ndarray  # [N]
    step: Step


def play(
    policy: Policy,
    venv: VectorEnv,
    rng: np.random.Generator,
    *,
    epsilon: float = 0.0,
    look: Callable[[np.ndarray], Any] | None = None,
) -> Iterator[Decision]:
    """Decisions without end, from the first episode of `venv` on; whoever takes them stops when there are enough.

    Args:
        rng: draws the random actions, of which there is a share of `epsilon`.
        look: called with the observations [N, *shape] before each decision.
    """
    obs = venv.reset()
    policy.begin(venv.num_envs)
    while True:
        picture = None if look is None else look(obs)
        mask = venv.action_mask
        values = policy.values(obs)
        action = policy.choose(values, mask)
        if epsilon > 0:
            random = random_actions(rng, venv.num_envs, venv.num_actions, mask)
            action = np.where(rng.random(venv.num_envs) < epsilon, random, action)
        step = venv.step(action)
        policy.remember(action, step.reward)
        yield Decision(obs, picture, values, action, step)
        policy.forget(step.done)
        obs = venv.reset_done(step.done)


def make_evaluation_env(config: RunConfig, *, num_envs: int, seed: int, render_mode: str | None = None) -> VectorEnv:
    """The environments of a run, with episodes of at most evaluation.max_steps."""
    limit = config.evaluation.max_steps
    max_steps = min(limit, config.env.max_steps or limit)
    return make_vector(
        **config.env.arguments(max_steps=max_steps), num_envs=num_envs, seed=seed, render_mode=render_mode
    )


class Evaluation(NamedTuple):
    """Raw returns and lengths of the episodes of one evaluation."""

    returns: list[float]
    lengths: list[int]
    num_cut: int  # episodes ended by evaluation.max_steps alone

    @property
    def mean(self) -> float:
        return float(np.mean(self.returns))

    @property
    def std(self) -> float:
        return float(np.std(self.returns))


def evaluate(policy: Policy, *, num_episodes: int, seed: int, epsilon: float = 0.0) -> Evaluation:
    """Play whole episodes: the same ones for the same seed, and none that training saw.

    Episodes are shared out over up to 10 environments before play begins, so that short ones are not preferred.
    """
    config = policy.config
    num_envs = min(num_episodes, 10)
    limit = config.evaluation.max_steps
    own_limit = config.env.max_steps or limit + 1
    quota = np.array([num_episodes // num_envs + (i < num_episodes % num_envs) for i in range(num_envs)])
    statistics = EpisodeStatistics(num_envs)
    returns: list[list[float]] = [[] for _ in range(num_envs)]
    lengths: list[list[int]] = [[] for _ in range(num_envs)]
    num_cut = 0
    with contextlib.closing(make_evaluation_env(config, num_envs=num_envs, seed=seed)) as venv:
        for decision in play(policy, venv, np.random.default_rng(seed), epsilon=epsilon):
            step = decision.step
            for episode in statistics.update(step.reward, step.done):
                i = episode.env_index
                if len(returns[i]) < quota[i]:
                    returns[i].append(episode.episodic_return)
                    lengths[i].append(episode.length)
                    num_cut += episode.length == limit < own_limit and not step.terminated[i]
            if all(len(r) == q for r, q in zip(returns, quota, strict=True)):
                break
    return Evaluation([x for r in returns for x in r], [n for row in lengths for n in row], num_cut)
