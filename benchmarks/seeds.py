"""What many seeds in one process cost beside the same seeds alone: CPU seconds for the same work, in turn.

    python -m benchmarks.seeds

An update is that of 16 networks on batches that are there already; `play` is acting, environments, replay and updates
of 16 runs for as many steps each, without logs, evaluations and checkpoints. Alone, one after the other makes its
update, or its steps in a row. A ratio is that of one round, in which both come one after the other, so that what the
machine does otherwise disturbs both; the quartiles of all rounds are beside it. One thread.
"""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from agents.benchmarks.measure import Spread, interleaved
from agents.benchmarks.speed import processor
from agents.config import RunConfig
from agents.dqn import DQN
from agents.experiments.cohort import Cohort
from agents.learning.batch import Batch
from agents.learning.stacked import StackedLearner
from agents.networks.qnetwork import EnvSpec
from agents.running import machine
from agents.running.progress import Silent
from agents.running.run import Run
from agents.running.setup import build
from agents.running.stopwatch import Stopwatch

STEPS = 100  # that a run makes in a row
UPDATES = 250  # before a measurement, so that they are recorded (agents.learning.recorded)
LEARNING = 4_000  # steps before a measurement: as many updates, or more
WORLDS = {
    "cartpole": ("MLP of the preset cartpole", EnvSpec((4,), "float32", 2, False)),
    "dqn_minatar": ("CNN of the preset dqn_minatar", EnvSpec((10, 10, 4), "float32", 3, False)),
}
Operations = dict[str, Callable[[], object]]


def configs(preset: str, seeds: int, **changes: object) -> list[RunConfig]:
    overrides = {name.replace("__", "."): value for name, value in changes.items()}
    return [RunConfig.preset(preset, {"env.support": [-10, 10], "seed": seed, **overrides}) for seed in range(seeds)]


def make_batch(spec: EnvSpec, size: int) -> Batch:
    """Noise: how long an update takes does not depend on what is learned."""
    g = torch.Generator().manual_seed(0)
    obs, next_obs = (torch.randn(size, *spec.obs_shape, generator=g) for _ in range(2))
    action, reward = torch.randint(spec.num_actions, (size,), generator=g), torch.randn(size, generator=g)
    return Batch(obs, action, reward, torch.full((size,), 0.9), next_obs, torch.ones(size))


def updates(preset: str, head: str, size: int, seeds: int) -> Operations:
    """An update of every learner, one by one and at once."""
    spec = WORLDS[preset][1]
    changes = {"head__name": head, "agent__batch_size": size, "replay__capacity_steps": 100}
    alone, members = (
        [DQN(config, spec, Stopwatch()).learner for config in configs(preset, seeds, **changes)] for _ in range(2)
    )
    whole, batch = StackedLearner(members), make_batch(spec, seeds * size)
    stack, batches = batch.unflatten(seeds), [batch.take(rows) for rows in torch.arange(seeds * size).split(size)]

    def one_by_one() -> None:
        for learner, batch in zip(alone, batches, strict=True):
            learner.update(batch)

    for _ in range(UPDATES):
        one_by_one()
        whole.update(stack)
    return {"alone": one_by_one, "together": lambda: whole.update(stack)}


def play(preset: str, seeds: int, folder: Path, **changes: object) -> Operations:
    """STEPS steps of every run, one by one and at once."""
    settings = configs(preset, seeds, steps=10**9, **changes)
    alone, members = ([build(config, folder, Silent(1)) for config in settings] for _ in range(2))
    cohort = Cohort(members)

    def go(to: int, runs: Sequence[Run | Cohort]) -> None:
        for run in runs:
            while run.step < to:
                run.advance()

    go(LEARNING, alone)
    go(LEARNING, [cohort])
    return {
        "alone": lambda: go(alone[0].step + STEPS, alone),
        "together": lambda: go(cohort.step + STEPS, [cohort]),
    }


def row(name: str, operations: Operations, seconds: float, rounds: int) -> str:
    """A row of the table: CPU milliseconds of both, and how many times as fast the second is."""
    samples = interleaved(operations, seconds, rounds)
    alone, together = ([s.cpu_seconds / s.operations for s in of] for of in samples.values())
    ratio = Spread.of([a / b for a, b in zip(alone, together, strict=True)])
    costs = [Spread.of(of).median * 1e3 for of in (alone, together)]
    return f"| {name} | {costs[0]:.1f} | {costs[1]:.1f} | {ratio.median:.2f} ({ratio.low:.2f} to {ratio.high:.2f}) |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=15.0, help="of each of the two, in each row")
    options = parser.parse_args()
    machine.prepare(num_threads=1)
    print(f"{options.seeds} seeds; {processor()}, torch {torch.__version__}\n")
    print("| | CPU-ms alone | together | times as fast |\n|---|---|---|---|")
    for preset, (words, _) in WORLDS.items():
        for head in ("mse", "hl_gauss"):
            operations = updates(preset, head, 32, options.seeds)
            print(row(f"update, {words}, {head}, batch 32", operations, options.seconds, options.rounds), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        peers = {"agent__replay_ratio": 0.1, "agent__batch_size": 128, "agent__normalize_obs": False}
        peers |= {"agent__normalize_reward": False, "agent__n_step": 1, "head__name": "mse"}
        for words, changes in (("preset cartpole", {}), ("CartPole, mse, batch 128 per 10 steps", peers)):
            operations = play("cartpole", options.seeds, Path(folder), **changes)
            name = f"play, {words}, {STEPS} steps"
            print(row(name, operations, options.seconds, options.rounds), flush=True)


if __name__ == "__main__":
    main()
