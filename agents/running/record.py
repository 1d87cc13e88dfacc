"""Recording: the policy of a run plays, and what happens becomes a data set."""

import contextlib
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from agents.config import RunConfig
from agents.networks.qnetwork import EnvSpec
from agents.replay.memory import ReplayTooLargeError
from agents.replay.observations import is_stack
from agents.replay.uniform import UniformReplay
from agents.running import dataset, evaluation
from agents.seeding import child_seed
from agents.tables import ConfigError
from envs import EpisodeStatistics, VectorEnv, make_vector


class Recording(NamedTuple):
    """What was recorded."""

    dataset: dataset.Dataset
    returns: list[float]  # raw, of the episodes that ended by themselves
    num_cut: int  # episodes that were still going on at the end


def record(run_dir: Path, out: Path, *, steps: int, epsilon: float, seed: int) -> Recording:
    """Play `steps` steps (rounded up to all environments) with the best policy of a run, and write them to `out`.

    They are played in as many environments as the run had, with episodes of their own.

    Args:
        epsilon: share of random actions.
        seed: of the environments and of the random actions.

    Raises:
        ConfigError: where `out` is not new, or so many steps do not fit.
        CheckpointError: where the run has no policy.
    """
    dataset.check_new(out)
    policy = evaluation.load(run_dir)
    config = policy.config
    venv = make_vector(
        **config.env.arguments(), num_envs=config.env.num_envs, seed=child_seed(seed, "record: environments")
    )
    with contextlib.closing(venv):
        replay = empty_replay(config, policy.spec, steps)
        try:
            returns, num_cut = fill(replay, policy, venv, math.ceil(steps / venv.num_envs), epsilon, seed)
        except ReplayTooLargeError as error:  # the final observations of episodes come on top of the steps
            raise ConfigError(f"memory is full, and nothing was written; take fewer --steps: {error}") from error
    about = {
        "env": config.env.model_dump(mode="json"),
        "run": str(run_dir),
        "policy_step": policy.step,
        "epsilon": epsilon,
        "seed": seed,
        "episodes": len(returns),
        "mean_return": float(np.mean(returns)) if returns else None,
    }
    return Recording(dataset.write(out, replay, policy.spec, about), returns, num_cut)


def empty_replay(config: RunConfig, spec: EnvSpec, steps: int) -> UniformReplay:
    """Room for `steps` steps.

    Raises:
        ConfigError: where they do not fit.
    """
    try:
        return UniformReplay(
            steps,
            config.env.num_envs,
            spec.obs_shape,
            getattr(torch, spec.obs_dtype),
            num_actions=spec.num_actions if spec.has_action_mask else None,
            share_frames=is_stack(spec.obs_shape, config.env.frame_stack),
        )
    except ReplayTooLargeError as error:
        raise ConfigError(str(error).replace("--replay.capacity_steps", "--steps")) from error


def fill(
    replay: UniformReplay, policy: evaluation.Policy, venv: VectorEnv, rows: int, epsilon: float, seed: int
) -> tuple[list[float], int]:
    """Play `rows` steps in every environment into a replay, and cut what goes on: (returns of episodes, number cut)."""
    statistics, returns = EpisodeStatistics(venv.num_envs), []
    rng = np.random.default_rng(child_seed(seed, "record: actions"))
    decisions = evaluation.play(policy, venv, rng, epsilon=epsilon, look=lambda obs: venv.action_mask)
    while True:
        decision = next(decisions)
        step, mask = decision.step, decision.picture
        replay.add(
            decision.obs, decision.action, step.reward, step.terminal, step.done, step.next_obs, venv.action_mask, mask
        )
        returns += [episode.episodic_return for episode in statistics.update(step.reward, step.done)]
        if replay.rows == rows:
            running = np.flatnonzero(replay.age).tolist()
            for env in running:
                replay.cut(env, step.next_obs[env])
            return returns, len(running)
