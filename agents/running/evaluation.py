"""Evaluation of a policy on episodes of its own, and policies loaded from runs."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from agents.config import RunConfig
from agents.exploration import random_actions
from agents.networks.qnetwork import EnvSpec, QNetwork, greedy, make_network
from agents.running import checkpoint
from envs import EpisodeStatistics, make_vector


class Policy:
    """A trained network that acts greedily."""

    def __init__(self, network: QNetwork, config: RunConfig, spec: EnvSpec):
        self.network, self.config, self.spec = network, config, spec

    def act(self, obs: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        """Greedy actions, int64: observations [N, *shape] -> [N], or one observation [*shape] -> one action."""
        obs = np.asarray(obs)
        if obs.shape == self.spec.obs_shape:
            return self.act(obs[None], None if mask is None else np.asarray(mask)[None])[0]
        legal = None if mask is None else torch.from_numpy(self.checked(mask, len(obs))).to(self.device)
        return greedy(self.q_values(obs), legal).cpu().numpy()

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
    def q_values(self, obs: np.ndarray) -> torch.Tensor:
        """Predicted returns of every action: observations [N, *shape] -> [N, A]."""
        if obs.shape[1:] != self.spec.obs_shape:
            raise ValueError(f"observations {obs.shape} are not [N, {', '.join(map(str, self.spec.obs_shape))}]")
        return self.network(torch.from_numpy(np.ascontiguousarray(obs)).to(self.device)).mean()

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
    state = checkpoint.read(paths[-1])["policy"]
    config = RunConfig.parse(state["config"], source=str(paths[-1]))
    shape, dtype, num_actions, has_mask = state["spec"]
    spec = EnvSpec(tuple(shape), dtype, num_actions, has_mask)
    network = make_network(config, spec)
    network.load_state_dict(state["weights"])
    return Policy(network.eval(), config, spec)


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
    venv = make_vector(**config.env.arguments(max_steps=min(limit, own_limit)), num_envs=num_envs, seed=seed)
    quota = np.array([num_episodes // num_envs + (i < num_episodes % num_envs) for i in range(num_envs)])
    statistics, rng = EpisodeStatistics(num_envs), np.random.default_rng(seed)
    returns: list[list[float]] = [[] for _ in range(num_envs)]
    lengths: list[list[int]] = [[] for _ in range(num_envs)]
    num_cut, obs = 0, venv.reset()
    while any(len(r) < q for r, q in zip(returns, quota, strict=True)):
        action = policy.act(obs, venv.action_mask)
        if epsilon > 0:
            random = random_actions(rng, num_envs, venv.num_actions, venv.action_mask)
            action = np.where(rng.random(num_envs) < epsilon, random, action)
        step = venv.step(action)
        done = step.done
        for episode in statistics.update(step.reward, done):
            i = episode.env_index
            if len(returns[i]) < quota[i]:
                returns[i].append(episode.episodic_return)
                lengths[i].append(episode.length)
                num_cut += episode.length == limit < own_limit and not step.terminated[i]
        obs = venv.reset_done(done)
    venv.close()
    return Evaluation([x for r in returns for x in r], [n for row in lengths for n in row], num_cut)
