"""One run: environments, an agent, metrics, evaluation and checkpoints around one loop.

Everything that decides what happens next is in `Run.state_dict`, so a resumed run is equal to one that was never
interrupted, bit for bit on a CPU.
"""

import importlib.metadata
import json
import platform
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import torch

from agents import AGENTS
from agents.config import ConfigError, RunConfig
from agents.dqn import DQN, Transition
from agents.networks.qnetwork import EnvSpec
from agents.running import checkpoint, evaluation
from agents.running.metrics import MetricsWriter, flatten
from agents.running.progress import Reporter, Silent
from agents.running.signals import StopRequest
from agents.running.stopwatch import Stopwatch
from agents.running.support import resolve_support
from agents.seeding import child_seed
from envs import EpisodeStatistics, VectorEnv, make_vector
from value_heads import registry

SATURATION_ALARM = 0.02
VERSIONS = ("torch", "numpy", "gymnasium")


class Summary(NamedTuple):
    """How a run ended. Scores are mean raw returns."""

    run_dir: Path
    step: int
    finished: bool
    exit_code: int  # 0, or why it stopped early (agents.running.signals)
    best_return: float | None  # of the best policy, on episodes that did not choose it
    last_return: float | None  # of the last policy, at its last evaluation
    seconds: float
    time_logging: float  # share of the time


class Run:
    """The parts of one run and the state they share."""

    def __init__(self, config: RunConfig, run_dir: Path, reporter: Reporter):
        self.config, self.run_dir, self.reporter = config, run_dir, reporter
        self.stopwatch = Stopwatch()
        self.venv = make_training_env(config)
        self.obs = self.venv.reset()
        self.spec = EnvSpec.of(self.venv)
        self.agent = find_agent(config.agent.name)(config, self.spec, self.stopwatch)
        self.policy = evaluation.Policy(self.agent.online, config, self.spec)
        self.statistics = EpisodeStatistics(config.env.num_envs)
        self.checkpointer = checkpoint.Checkpointer(run_dir, config.checkpoint.keep)
        self.step = 0
        self.episodes: list[tuple[float, int]] = []  # (return, length) finished since the last log
        self.best_score = -float("inf")
        self.last_return: float | None = None
        self.saturated = False

    def advance(self) -> None:
        """One decision in every environment."""
        mask = self.venv.action_mask
        action = self.agent.act(self.obs, mask)
        with self.stopwatch("env"):
            step = self.venv.step(action)
            done = step.terminated | step.truncated
            self.episodes += [(e.episodic_return, e.length) for e in self.statistics.update(step.reward, done)]
            next_mask = self.venv.action_mask
        self.agent.observe(
            Transition(self.obs, action, step.reward, step.terminated, step.truncated, step.next_obs, next_mask)
        )
        with self.stopwatch("env"):
            self.obs = self.venv.reset_done(done)
        self.step += self.config.env.num_envs

    def scalars(self, steps_per_second: float) -> dict[str, float]:
        """One row of metrics by tag."""
        row = {"charts/SPS": steps_per_second}
        if self.episodes:
            row["charts/episodic_return"] = float(np.mean([r for r, _ in self.episodes]))
            row["charts/episodic_length"] = float(np.mean([n for _, n in self.episodes]))
        self.episodes = []
        row |= self.agent.metrics()
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
        if result.mean >= self.best_score:
            self.best_score = result.mean
            header = {"format": checkpoint.FORMAT, "version": checkpoint.VERSION, "step": self.step}
            checkpoint.save(
                header | {"score": result.mean, "policy": self.policy.state_dict()}, self.run_dir / "best.pt"
            )
        cut = f", {result.num_cut} cut at evaluation.max_steps" if result.num_cut else ""
        self.reporter.say(
            f"eval   step {self.step:,}: {result.mean:.1f} ± {result.std:.1f} ({len(result.returns)} episodes, "
            f"epsilon {settings.epsilon:g}{cut})   best so far {self.best_score:.1f}"
        )
        return {"eval/episodic_return": result.mean, "eval/episodic_length": float(np.mean(result.lengths))}

    def save(self) -> Path:
        return self.checkpointer.save(self.step, self.state_dict(), self.agent.replay)

    def state_dict(self) -> dict[str, Any]:
        return {
            "policy": self.policy.state_dict(),
            "agent": self.agent.state_dict(),
            "venv": self.venv.state_dict(),
            "obs": torch.from_numpy(self.obs),
            "statistics": self.statistics.state_dict(),
            "episodes": self.episodes,
            "best_score": self.best_score,
            "last_return": self.last_return,
            "saturated": self.saturated,
        }

    def load(self, path: Path) -> None:
        """Go on from a checkpoint."""
        state = self.checkpointer.load(path)
        self.agent.load_state_dict(state["agent"])
        self.checkpointer.restore(self.agent.replay)
        self.statistics.load_state_dict(state["statistics"])
        self.restore_environments(state["venv"], state["obs"].numpy())
        self.episodes = [(r, n) for r, n in state["episodes"]]
        self.best_score, self.last_return = state["best_score"], state["last_return"]
        self.step, self.saturated = state["step"], state["saturated"]

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


def find_agent(name: str) -> type[DQN]:
    """An agent's class: one of AGENTS, an entry point of classyq.agents, or `package.module:Name`."""
    return registry.resolve({}, AGENTS.get(name, name), kind="agent", group="classyq.agents")


def make_training_env(config: RunConfig) -> VectorEnv:
    return make_vector(
        config.env.id,
        num_envs=config.env.num_envs,
        seed=child_seed(config.seed, "env"),
        max_steps=config.env.max_steps,
        frame_stack=config.env.frame_stack,
        kwargs=config.env.kwargs,
    )


def train(
    config: RunConfig,
    run_dir: Path | str,
    *,
    init_from: Path | str | None = None,
    resume_from: Path | str | None = None,
    reporter: Reporter | None = None,
) -> Summary:
    """Train, or go on where `run_dir` holds a checkpoint.

    Args:
        init_from: a run whose policy's weights a new run starts with.
        resume_from: a checkpoint of this run, instead of its last.

    Raises:
        ConfigError: where `run_dir` holds a run with another configuration.
        CheckpointError: where a checkpoint cannot be read or written.
    """
    run_dir, start = Path(run_dir), time.perf_counter()
    reporter = reporter or Silent(config.steps)
    torch.set_num_threads(config.num_threads)
    config, support_source = resolve(config, run_dir)
    checkpoints = [Path(resume_from)] if resume_from else checkpoint.found(run_dir)[-1:]
    run = build(config, run_dir, reporter)
    if checkpoints:
        run.load(checkpoints[0])
        reporter.say(f"resume {run_dir} at step {run.step:,}")
    else:
        if init_from is not None:
            run.agent.load_weights(evaluation.load(init_from).network.state_dict())
        store(config, run_dir, support_source)
        reporter.say(describe(config, run, support_source))
    metrics = MetricsWriter(run_dir, run.step if checkpoints else None)
    if not checkpoints:
        metrics.write_hparams(config.plain(), "eval/episodic_return")
    with StopRequest() as stop, reporter:
        loop(run, metrics, stop)
        path = run.save()
    metrics.close()
    run.venv.close()
    finished = run.step >= config.steps
    if not finished:
        reporter.say(f"stopped at step {run.step:,}, saved as {path}\ngo on  classyq resume {run_dir}")
    best = final_score(run) if finished else None
    seconds = time.perf_counter() - start
    shares = run.stopwatch.shares()
    summary = Summary(
        run_dir, run.step, finished, stop.exit_code(), best, run.last_return, seconds, shares.get("log", 0.0)
    )
    (run_dir / "summary.json").write_text(json.dumps(summary._asdict() | {"run_dir": str(run_dir)}, indent=1))
    return summary


def loop(run: Run, metrics: MetricsWriter, stop: StopRequest) -> None:
    """Advance until all steps are made or somebody asks to stop; log, evaluate and save on the way."""
    config = run.config
    logged_at, logged_step = time.perf_counter(), run.step
    while run.step < config.steps and stop.signum is None:
        before = run.step
        run.advance()
        row: dict[str, float] = {}
        last = run.step >= config.steps
        if last or crossed(before, run.step, config.log.every_steps):
            with run.stopwatch("log"):
                now = time.perf_counter()
                row = run.scalars((run.step - logged_step) / (now - logged_at))
                logged_at, logged_step = now, run.step
                run.warn_if_saturated(row)
        if crossed(before, run.step, config.log.histogram_every_steps):
            with run.stopwatch("log"):
                for tag, atoms in run.agent.distributions().items():
                    metrics.write_histogram(tag, run.step, atoms)
        if last or crossed(before, run.step, config.evaluation.every_steps):
            with run.stopwatch("eval"):
                row |= run.evaluate()
        if row:
            with run.stopwatch("log"):
                metrics.write(run.step, row)
                run.reporter.progress(run.step, row)
        if crossed(before, run.step, config.checkpoint.every_steps) and not last:
            with run.stopwatch("checkpoint"):
                run.save()


def crossed(before: int, after: int, period: int) -> bool:
    """Whether a multiple of `period` lies in (before, after]."""
    return after // period > before // period


def resolve(config: RunConfig, run_dir: Path) -> tuple[RunConfig, str]:
    """The configuration with nothing left `auto`, that of the run where there is one; and where its support is from."""
    path = run_dir / "config.json"
    if not path.is_file():
        device = ("cuda" if torch.cuda.is_available() else "cpu") if config.device == "auto" else config.device
        return resolve_support(config.with_overrides({"device": device}))
    stored = RunConfig.preset(str(path))
    given = config.with_overrides({"env.support": list(stored.env.support), "device": stored.device})
    changed = [k for k, v in flatten(stored.plain()).items() if v != flatten(given.plain()).get(k)]
    if changed:
        raise ConfigError(
            f"{run_dir} is a run with another {', '.join(changed)}; to go on with it: classyq resume {run_dir}; "
            "to begin anew, give another directory"
        )
    return stored, "stored with the run"


def build(config: RunConfig, run_dir: Path, reporter: Reporter) -> Run:
    """All parts of a run, before anything is written; what a part refuses is an error of the configuration."""
    try:
        return Run(config, run_dir, reporter)
    except (TypeError, ValueError) as error:
        raise ConfigError(str(error)) from error


def store(config: RunConfig, run_dir: Path, support_source: str) -> None:
    """Put the configuration and the versions of what matters into the run's directory."""
    run_dir.mkdir(parents=True, exist_ok=True)
    versions = {name: importlib.metadata.version(name) for name in VERSIONS}
    notes = {"versions": versions, "python": platform.python_version(), "support": support_source}
    (run_dir / "run.json").write_text(json.dumps(notes, indent=1), encoding="utf-8")
    partial = run_dir / "config.partial"
    partial.write_text(json.dumps(config.plain(), indent=1), encoding="utf-8")
    partial.replace(run_dir / "config.json")


def describe(config: RunConfig, run: Run, support_source: str) -> str:
    """What is about to happen, with the derived values."""
    agent, (low, high) = config.agent, config.env.support
    options = ", ".join(f"{k} {v}" for k, v in config.head.model_dump(exclude={"name"}).items())
    updates = int(max(0, config.steps - agent.learn_after_steps) * agent.replay_ratio)
    uses = agent.replay_ratio * agent.batch_size
    weights = sum(p.numel() for p in run.agent.online.parameters())
    spec = run.spec
    return (
        f"run    {run.run_dir}   (device {config.device}, threads {config.num_threads}, seed {config.seed})\n"
        f"env    {config.env.id} x{config.env.num_envs}: obs {spec.obs_dtype}{list(spec.obs_shape)}, "
        f"{spec.num_actions} actions{' with masks' if spec.has_action_mask else ''}\n"
        f"head   {config.head.name}: {options or 'no options'}   support [{low:g}, {high:g}] ({support_source})\n"
        f"agent  {agent.name}: {weights:,} weights, {config.steps:,} steps, 1 update of {agent.batch_size} "
        f"per {1 / agent.replay_ratio:g} steps = {updates:,}; each step is learned from {uses:g} times"
    )


def final_score(run: Run) -> float:
    """Mean return of the best policy over episodes that had no part in choosing it."""
    best = evaluation.load(run.run_dir)
    seed = child_seed(run.config.seed, "final evaluation")
    result = evaluation.evaluate(best, num_episodes=run.config.evaluation.final_episodes, seed=seed)
    run.reporter.say(
        f"done   {run.step:,} steps. Best policy, {len(result.returns)} new episodes, greedy: "
        f"{result.mean:.1f} ± {result.std:.1f}"
    )
    return result.mean
