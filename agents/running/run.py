"""The parts of one run: environments, an agent, its statistics, and the state that decides what happens next.

Everything that does is in `Run.state_dict`, so a resumed run is equal to one that was never interrupted, bit for bit
on a CPU.
"""

import copy
import math
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from agents.agent import Transition
from agents.components import KINDS
from agents.config import RunConfig
from agents.networks.qnetwork import EnvSpec
from agents.presets import flatten
from agents.running import checkpoint, evaluation
from agents.running.progress import Reporter
from agents.running.stopwatch import Stopwatch
from agents.seeding import child_seed
from envs import EpisodeStatistics, VectorEnv, make_vector
from envs.atari_scores import human_normalized

SATURATION_ALARM = 0.02


class DivergedError(RuntimeError):
    """Training that cannot go on because the loss is no number any more."""


class Run:
    """The parts of one run and the state they share."""

    def __init__(self, config: RunConfig, run_dir: Path, reporter: Reporter):
        self.config, self.run_dir, self.reporter = config, run_dir, reporter
        self.stopwatch = Stopwatch()
        self.venv = make_training_env(config)
        self.obs = self.venv.reset()
        self.spec = EnvSpec.of(self.venv)
        self.agent = KINDS["agent"].find(config.agent.name)(config, self.spec, self.stopwatch)
        self.policy = evaluation.Policy(self.agent.actor, config, self.spec)
        self.statistics = EpisodeStatistics(config.env.num_envs)
        self.checkpointer = checkpoint.Checkpointer(run_dir, config.checkpoint.keep)
        self.step = 0
        self.episodes: list[tuple[float, int]] = []  # (return, length) finished since the last log
        self.last_returns: deque[float] = deque(maxlen=20)  # of the last episodes
        self.best: dict[str, Any] | None = None  # what best.pt holds: step, score, policy, reward_factor
        self.seconds, self.cpu_seconds = 0.0, 0.0  # of earlier sessions
        self.last_return: float | None = None
        self.saturated = False

    def advance(self) -> None:
        """One decision in every environment; while they step, the agent learns from what came before.

        An agent that does not act makes one update.
        """
        if not self.agent.acts:
            self.agent.learn()
            self.step += 1
            return
        mask = self.venv.action_mask
        action = self.agent.act(self.obs, mask)
        with self.stopwatch("env"):
            self.venv.send(action)
        self.agent.learn()
        with self.stopwatch("env"):
            step = self.venv.recv()
            done, masks = step.done, (self.venv.action_mask, mask)
            transition = Transition(self.obs, action, step.reward, step.terminal, done, step.next_obs, *masks)
            self.obs = self.venv.reset_done(done) if np.count_nonzero(done) else step.next_obs
        self.episodes += [(e.episodic_return, e.length) for e in self.statistics.update(step.reward, done)]
        self.agent.observe(transition)
        self.step += self.config.env.num_envs

    def scalars(self, steps_per_second: float) -> dict[str, float]:
        """One row of metrics by tag."""
        row = {"charts/SPS": steps_per_second}
        if self.agent.acts and self.venv.frames_per_step > 1:
            row["charts/frames"] = float(self.step * self.venv.frames_per_step)
        if self.episodes:
            row["charts/episodic_return"] = float(np.mean([r for r, _ in self.episodes]))
            row["charts/episodic_length"] = float(np.mean([n for _, n in self.episodes]))
            self.last_returns.extend(r for r, _ in self.episodes)
            if len(self.last_returns) == self.last_returns.maxlen:
                row["charts/episodic_return_20"] = float(np.mean(self.last_returns))
        self.episodes = []
        row |= self.agent.metrics()
        if not math.isfinite(row.get("losses/td_loss", 0.0)):
            raise DivergedError(
                f"the loss is {row['losses/td_loss']} at step {self.step:,}: lower agent.lr, or give "
                f"agent.max_grad_norm; the checkpoints in {self.run_dir} are from before"
            )
        row |= {f"time/{part}": share for part, share in self.stopwatch.shares().items()}
        return row | {"sys/rss_gb": psutil.Process().memory_info().rss / 1e9}

    def warn_if_saturated(self, row: dict[str, float]) -> None:
        """Say it once when targets do not fit in the support: the largest single cause of a bad bin head."""
        share = row.get("value/frac_target_clipped", 0.0)
        if share > SATURATION_ALARM and not self.saturated:
            self.saturated = True
            low, high = self.config.env.support
            self.reporter.say(
                f"warning: {share:.0%} of the targets at step {self.step:,} lie outside of the support "
                f"[{low:g}, {high:g}] and are clipped; widen it with --support (see value/frac_target_clipped)"
            )

    def evaluate(self) -> dict[str, float]:
        """Evaluate the policy as it is; keep it where it is the best so far (of equals, the later one)."""
        settings = self.config.evaluation
        result = evaluation.evaluate(
            self.policy,
            num_episodes=settings.num_episodes,
            seed=child_seed(self.config.seed, "evaluation"),
            epsilon=settings.epsilon,
        )
        self.last_return = result.mean
        if self.best is None or result.mean >= self.best["score"]:
            policy = copy.deepcopy(self.policy.state_dict())
            factor = self.agent.reward_factor()
            self.best = {"step": self.step, "score": result.mean, "policy": policy, "reward_factor": factor}
            self.save_best()
        cut = f", {result.num_cut} cut at evaluation.max_steps" if result.num_cut else ""
        self.reporter.say(
            f"eval   step {self.step:,}: {result.mean:.1f} ± {result.std:.1f} ({len(result.returns)} episodes, "
            f"epsilon {settings.epsilon:g}{cut})   best so far {self.best['score']:.1f}"
        )
        row = {"eval/episodic_return": result.mean, "eval/episodic_length": float(np.mean(result.lengths))}
        normalized = human_normalized(self.config.env.id, result.mean)
        return row if normalized is None else row | {"eval/human_normalized": normalized}

    def save_best(self) -> None:
        """Let best.pt hold the best policy so far; on resume that takes back one of a future that was given up."""
        path = self.run_dir / "best.pt"
        if self.best is None:
            path.unlink(missing_ok=True)
        else:
            checkpoint.save({"format": checkpoint.FORMAT, "version": checkpoint.VERSION} | self.best, path)

    def save(self) -> Path:
        """Write a checkpoint."""
        return self.checkpointer.save(self.step, self.state_dict(), self.agent.kept())

    def state_dict(self) -> dict[str, Any]:
        return {
            "policy": self.policy.state_dict(),
            "reward_factor": self.agent.reward_factor(),
            "agent": self.agent.state_dict(),
            "venv": self.venv.state_dict(),
            "obs": torch.from_numpy(self.obs),
            "statistics": self.statistics.state_dict(),
            "episodes": self.episodes,
            "last_returns": list(self.last_returns),
            "best": self.best,
            "last_return": self.last_return,
            "saturated": self.saturated,
            "clock": {
                "seconds": self.seconds,
                "cpu_seconds": self.cpu_seconds,
                "parts": dict(self.stopwatch.seconds),
            },
        }

    def load(self, path: Path) -> None:
        """Go on from a checkpoint."""
        state = self.checkpointer.load(path)
        if changed := differences(RunConfig.parse(state["policy"]["config"], source=str(path)), self.config):
            raise checkpoint.CheckpointError(f"{path} is of a run with another {', '.join(changed)}")
        self.agent.load_state_dict(state["agent"])
        if (replay := self.agent.kept()) is not None:
            self.checkpointer.restore(path, replay)
        self.statistics.load_state_dict(state["statistics"])
        if self.agent.acts:
            self.restore_environments(state["venv"], state["obs"].numpy())
        self.episodes = [(r, n) for r, n in state["episodes"]]
        self.last_returns.extend(state["last_returns"])
        self.best, self.last_return = state["best"], state["last_return"]
        self.step, self.saturated = state["step"], state["saturated"]
        clock = state["clock"]
        self.seconds, self.cpu_seconds, self.stopwatch.seconds = clock["seconds"], clock["cpu_seconds"], clock["parts"]
        self.checkpointer.give_up_after(self.step)
        (self.run_dir / "summary.json").unlink(missing_ok=True)
        self.save_best()

    def restore_environments(self, state: dict[str, Any], obs: np.ndarray) -> None:
        """Replay every current episode; where that leads elsewhere, it ends as truncated at the stored `obs`."""
        lost = self.venv.load_state_dict(state)
        for index in lost:
            self.agent.cut(index, obs[index])
            self.statistics.discard(index)
        if lost:
            self.reporter.say(
                f"note   environments {lost} are not deterministic: their episodes ended as truncated, "
                "so this run is not equal to an uninterrupted one"
            )
        self.obs = self.venv.reset_done(np.zeros(self.config.env.num_envs, bool))


def differences(stored: RunConfig, given: RunConfig) -> list[str]:
    """Dotted keys whose values are not the same."""
    left, right = flatten(stored.plain()), flatten(given.plain())
    return [key for key in left | right if left.get(key) != right.get(key)]


def make_training_env(config: RunConfig) -> VectorEnv:
    return make_vector(**config.env.arguments(), num_envs=config.env.num_envs, seed=child_seed(config.seed, "env"))
