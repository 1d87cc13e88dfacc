"""The speed of a configuration: its parts, the bound that they give, and how much of it training reaches."""

import contextlib
import importlib.metadata
import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import torch

from agents.benchmarks import clock
from agents.benchmarks.clock import Seconds
from agents.benchmarks.measure import Sample, Spread, interleaved
from agents.benchmarks.parts import Bench, record_soon, vector_steps_of_a_cycle
from agents.components import KINDS
from agents.config import RunConfig
from agents.dqn import DQN
from agents.pqn import PQN
from agents.running.machine import prepare
from agents.running.metrics import MetricsWriter
from agents.running.progress import Silent
from agents.running.setup import VERSIONS, build, resolve
from agents.running.stopwatch import Stopwatch
from agents.running.trainer import crossed
from agents.tables import ConfigError

ROUNDS = 5
WARM_UP_STEPS = 2_000  # before anything is measured, where a preset does not learn earlier
NEVER = 10**12
RECORDED = 3  # updates after which an update is recorded, and has been used
CACHE_DIR = "TORCHINDUCTOR_CACHE_DIR"
END_TO_END, WATCHED, COMPILED, HEAD = "end to end", "end to end, watched", "update, compiled", "update, head "


class Rate(NamedTuple):
    """What one operation costs, and how many there are in a second."""

    name: str
    what: str
    per_step: float | None  # operations for each environment step; None: training as configured makes none
    cpu_us: Spread
    wall_us: Spread
    per_cpu_second: Spread
    per_second: Spread

    @classmethod
    def of(cls, name: str, what: str, per_step: float | None, samples: Sequence[Sample], size: int = 1) -> "Rate":
        """From samples whose operations are `size` of those that are counted."""
        cpu = [s.cpu_seconds / (s.operations * size) for s in samples]
        wall = [s.wall_seconds / (s.operations * size) for s in samples]
        return cls(
            name,
            what,
            per_step,
            Spread.of([1e6 * s for s in cpu]),
            Spread.of([1e6 * s for s in wall]),
            Spread.of([1 / s for s in cpu]),
            Spread.of([1 / s for s in wall]),
        )


class Report(NamedTuple):
    """All that was measured. Rates of parts count operations, that of `end_to_end` environment steps."""

    preset: str
    config: dict[str, Any]
    machine: dict[str, Any]
    seconds: float  # of measuring for each operation
    rounds: int
    frames_per_step: int
    start_up: dict[str, Seconds]  # once each, so without a spread
    parts: list[Rate]
    beside: list[Rate]
    end_to_end: Rate
    in_training: dict[str, float]  # CPU us of a step in each part of the stopwatch, measured while training
    updates_per_step: float  # as they were made
    bound: float  # environment steps a CPU-second
    share_of_bound: float
    peak_memory_gb: float  # of training alone


def bound_of(parts: Sequence[Rate]) -> float:
    """Environment steps a CPU-second where a step costs its parts and nothing else: 1 / sum_i n_i t_i.

    Args:
        parts: n_i operations for each environment step, t_i the median of CPU seconds that one takes.
    """
    return 1e6 / sum(part.per_step * part.cpu_us.median for part in parts if part.per_step is not None)


class Training:
    """A run as `classyq train` makes it, with its log, but without evaluations and checkpoints."""

    def __init__(self, config: RunConfig, run_dir: Path):
        self.run = build(config, run_dir, Silent(config.steps))
        record_soon(self.run.agent.values_of, self.run.agent.learner.gradient_of)
        self.watch, self.watched_seconds, self.watched_steps = Stopwatch(time.process_time), 0.0, 0
        run_dir.mkdir(parents=True)
        self.metrics = MetricsWriter(run_dir)

    def advance(self, vector_steps: int) -> None:
        """So many decisions in every environment, and the updates that they earn."""
        for _ in range(vector_steps):
            before = self.run.step
            self.run.advance()
            with self.run.stopwatch("log"):
                self.log(before)

    def log(self, before: int) -> None:
        """What is due since the step `before`."""
        run, due = self.run, self.run.config.log
        if crossed(before, run.step, due.every_steps):
            self.metrics.write(run.step, run.scalars(0.0))
        if crossed(before, run.step, due.histogram_every_steps):
            for tag, atoms in run.agent.distributions().items():
                self.metrics.write_histogram(tag, run.step, atoms)

    def watched(self, vector_steps: int) -> None:
        """The same with the clock of the CPU in every part, which costs a little itself."""
        run = self.run
        usual, start, step = run.stopwatch, time.process_time(), run.step
        run.stopwatch = run.agent.stopwatch = self.watch
        self.advance(vector_steps)
        run.stopwatch = run.agent.stopwatch = usual
        self.watched_seconds += time.process_time() - start
        self.watched_steps += run.step - step

    def cpu_us_by_part(self) -> dict[str, float]:
        """CPU microseconds of a watched step in each part of the stopwatch, and in none of them.

        Threads that step environments while the agent learns count as learning: the clock is of the whole process.
        """
        seconds = {**self.watch.seconds, "rest": self.watched_seconds - sum(self.watch.seconds.values())}
        return {part: 1e6 * value / self.watched_steps for part, value in seconds.items()}

    def close(self) -> None:
        self.metrics.close()
        self.run.venv.close()


def measure(
    preset: str, config: RunConfig, *, seconds: float = 2.0, heads: Sequence[str] = (), compiled: bool = False
) -> Report:
    """Measure a configuration.

    Args:
        preset: what it is called.
        seconds: of measuring for each operation, over all rounds.
        heads: whose updates are measured too, with this torso and batch.
        compiled: measure an update that torch has compiled, and how long that takes.

    Raises:
        ConfigError: the configuration cannot be run, or its agent not measured in parts.
    """
    check_agent(config)
    for name in heads:
        config.with_overrides({"head.name": name})  # refuses what there is not, before anything is measured
    prepare(config.num_threads)
    config, _ = resolve(config.with_overrides(for_measuring(config)), Path("nowhere"))
    load = os.getloadavg()
    with tempfile.TemporaryDirectory(prefix="classyq-bench-") as scratch, contextlib.ExitStack() as stack:
        start = clock.now()
        training = stack.enter_context(contextlib.closing(Training(config, Path(scratch) / "run")))
        built = clock.now()
        run, cycle = training.run, vector_steps_of_a_cycle(training.run.agent)
        while run.agent.learner.num_updates < RECORDED:
            training.advance(cycle)
        start_up = {"build": built - start, "warm-up to the third update": clock.now() - built}
        peak = clock.peak_memory_gb()  # before there is a second agent
        bench = stack.enter_context(contextlib.closing(Bench(config, WARM_UP_STEPS)))
        parts = bench.parts()
        operations: dict[str, Callable[[], object]] = {part.name: part.operation for part in parts}
        operations[END_TO_END] = lambda: training.advance(cycle)
        operations[WATCHED] = lambda: training.watched(cycle)
        operations |= {HEAD + name: bench.with_head(name) for name in heads}
        if compiled:
            operations[COMPILED], start_up["compilation"] = compiled_update(bench, Path(scratch))
        updates, steps = run.agent.learner.num_updates, run.step
        samples = interleaved(operations, seconds, ROUNDS)
        updates, steps = run.agent.learner.num_updates - updates, run.step - steps
    rates = [Rate.of(part.name, part.what, part.per_step, samples[part.name]) for part in parts]
    beside = [name for name in samples if name.startswith(HEAD) or name == COMPILED]
    steps_of_a_cycle = cycle * config.env.num_envs
    end_to_end = Rate.of(END_TO_END, "a step", 1.0, samples[END_TO_END], steps_of_a_cycle)
    bound = bound_of(rates)
    return Report(
        preset=preset,
        config=config.plain(),
        machine=machine(config) | {"load_before": load, "load_after": os.getloadavg()},
        seconds=seconds,
        rounds=ROUNDS,
        frames_per_step=run.venv.frames_per_step,
        start_up=start_up,
        parts=rates,
        beside=[Rate.of(name, "the same batches", None, samples[name]) for name in beside],
        end_to_end=end_to_end,
        in_training=training.cpu_us_by_part(),
        updates_per_step=updates / steps,
        bound=bound,
        share_of_bound=end_to_end.per_cpu_second.median / bound,
        peak_memory_gb=peak,
    )


def check_agent(config: RunConfig) -> None:
    """Raise ConfigError unless the parts of this agent are known."""
    agent = KINDS["agent"].find(config.agent.name)
    if not issubclass(agent, DQN | PQN):
        raise ConfigError(f"agent {config.agent.name!r} cannot be measured in parts: wanted dqn, r2d2 or pqn")


def for_measuring(config: RunConfig) -> dict[str, Any]:
    """What is changed in a configuration: it learns early, and does not end."""
    learn_after = getattr(config.agent, "learn_after_steps", None)
    early = {} if learn_after is None else {"agent.learn_after_steps": min(learn_after, WARM_UP_STEPS)}
    return {"steps": NEVER} | early


def compiled_update(bench: Bench, scratch: Path) -> tuple[Callable[[], object], Seconds]:
    """An update with the loss compiled, and what it took to compile it with an empty cache."""
    before = os.environ.get(CACHE_DIR)
    os.environ[CACHE_DIR] = str(scratch / "inductor")
    learner = bench.another_learner({})
    learner.td_loss = torch.compile(learner.td_loss)  # pyright: ignore[reportAttributeAccessIssue]
    learner.gradient_of = learner.differentiate  # instead of a recording
    update, start = bench.updater(learner), clock.now()
    update()
    took = clock.now() - start
    os.environ.pop(CACHE_DIR)
    os.environ |= {} if before is None else {CACHE_DIR: before}
    return update, took


def machine(config: RunConfig) -> dict[str, Any]:
    """Where and with what it was measured."""
    return {
        "cpu": processor(),
        "cores": psutil.cpu_count(),
        "gpu": torch.cuda.get_device_name(config.device) if config.device.startswith("cuda") else None,
        "threads": config.num_threads,
        "environment": {key: os.environ[key] for key in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY") if key in os.environ},
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in VERSIONS},
    }


def processor() -> str:
    """What the processor calls itself, where Linux tells."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
