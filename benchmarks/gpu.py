"""What one GPU does: is it right, and how fast is it?

    python -m benchmarks.gpu --stage correctness|update|replay|end_to_end|pilot --out DIR

Each stage takes less than 8 minutes and writes DIR/gpu_STAGE.json; `pilot` goes on where it was when it is called
again. Correctness first: what the others measure means nothing where it fails. `--device cpu` goes through the same
code with tiny sizes, which says something of this script and nothing of any speed.
"""

import argparse
import functools
import itertools
import json
import os
import platform
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from agents.config import RunConfig
from agents.dqn import DQN
from agents.learning.batch import Batch
from agents.learning.captured import Captured
from agents.networks.qnetwork import EnvSpec
from agents.replay.prioritized import PrioritizedReplay
from agents.replay.uniform import UniformReplay
from agents.running.progress import Silent
from agents.running.setup import build, resolve
from agents.running.stopwatch import Stopwatch
from agents.running.trainer import train
from benchmarks.replay import NUM_ENVS, steps_of_play
from value_heads import HEADS

ATARI = EnvSpec((4, 84, 84), "uint8", 6, False)
PILOT = ("btr", "btr_hl_gauss")
CHECKED = (("dqn", "mse"), ("dqn", "iqn"), ("dqn", "hl_gauss"), ("c51", "categorical"), ("btr", "iqn"))


class Size(NamedTuple):
    """How much is done in each stage."""

    updates: int  # of `correctness`
    warm_up: int  # calls before a timing; captured after 10
    timed: int  # calls in one of five timings
    heads: tuple[str, ...]  # that are timed
    rows: int  # of replay, of NUM_ENVS steps each
    draws: int
    seconds: float  # of `end_to_end`, for each recipe
    pilot_steps: int
    pilot_seconds: float  # of one call
    overrides: dict[str, Any]


FULL = Size(1_000, 15, 20, tuple(HEADS), 5_000, 1_000_000, 60, 1_000_000, 360, {})
TINY = Size(3, 1, 1, ("mse",), 20, 10_000, 0.1, 64, 300, {"agent.batch_size": 4})
LITTLE_PLAY = {"evaluation.num_episodes": 1, "evaluation.final_episodes": 1, "evaluation.max_steps": 40}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", required=True, choices=STAGES)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, default=Path("gpu"))
    given = parser.parse_args()
    device = torch.device(given.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("There is no CUDA device here: nothing was measured.", file=sys.stderr)
        return 2
    given.out.mkdir(parents=True, exist_ok=True)
    size = TINY if device.type == "cpu" else FULL
    start = time.perf_counter()
    result = STAGES[given.stage](device, size, given.out)
    report = {
        "stage": given.stage,
        "tiny": size is TINY,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "python": platform.python_version(),
        "seconds": time.perf_counter() - start,
        **result,
    }
    path = given.out / f"gpu_{given.stage}.json"
    path.write_text(json.dumps(report, indent=1), encoding="utf-8")
    print(json.dumps(report, indent=1))
    return 0 if result.get("passed", True) else 1


def make_agent(preset: str, device: torch.device, size: Size, **overrides: Any) -> DQN:
    """An agent whose replay, on its device, is filled with noise that has episodes."""
    settings = {
        "device": str(device),
        "env.num_envs": NUM_ENVS,
        "env.support": [-10.0, 10.0],
        "replay.capacity_steps": size.rows * NUM_ENVS,
        "replay.device": "same",
    }
    config = RunConfig.preset(preset, settings | size.overrides | overrides)
    agent = DQN(config, ATARI, Stopwatch())
    for obs, action, *rest in itertools.islice(steps_of_play(0), size.rows):
        agent.replay.add(obs, action % ATARI.num_actions, *rest)
    return agent


def make_eager(agent: DQN) -> DQN:
    """The same agent, whose updates are what defines them."""
    agent.learner.gradient_of = agent.learner.differentiate
    return agent


def distance(left: DQN, right: DQN) -> float:
    """The largest relative difference of the mean loss of the last update of two agents."""
    ours, wanted = (float(agent.last_update.losses.mean()) for agent in (left, right) if agent.last_update)
    return abs(ours - wanted) / max(abs(wanted), 1e-8)


def correctness(device: torch.device, size: Size, out: Path) -> dict[str, Any]:
    """Is a graph what it was captured from, a replay on the device that on the host, and a resumed learner the same?

    Kernels that add in any order make two runs differ, and training lets that grow: a second eager agent says how much.
    """
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.deterministic = False, True
    checks = {f"graph, {preset} with {head}": check_graph(preset, head, device, size) for preset, head in CHECKED}
    checks |= {
        "replay on the device": check_replay(device, size),
        "priorities": check_priorities(device, size),
        "resume": check_resume(device, size),
    }
    return {"checks": checks, "passed": all(check["passed"] for check in checks.values())}


def check_graph(preset: str, head: str, device: torch.device, size: Size) -> dict[str, Any]:
    quick = make_agent(preset, device, size, head=head)
    eager, again = (make_eager(make_agent(preset, device, size, head=head)) for _ in range(2))
    of_graph, of_eager = [], []
    for _ in range(size.updates):
        for agent in (quick, eager, again):
            agent.update()
        of_graph.append(distance(quick, eager))
        of_eager.append(distance(again, eager))
    gradient_of = quick.learner.gradient_of
    captured = not isinstance(gradient_of, Captured) or gradient_of.num_graphs == 1
    close = max(of_graph[:50]) <= max(1e-4, 10 * max(of_eager[:50]))
    close &= max(of_graph) <= max(1e-3, 10 * max(of_eager))
    return {"graph_to_eager": max(of_graph), "eager_to_eager": max(of_eager), "passed": captured and close}


def check_replay(device: torch.device, size: Size) -> dict[str, Any]:
    """The same transitions from a replay on the device and from one on the host."""
    there = make_agent("btr", device, size).replay
    here = make_agent("btr", device, size, **{"replay.device": "cpu"}).replay
    indices = UniformReplay.draw(here, 256)
    wanted = here.gather(indices)
    got = there.gather(indices._replace(step=indices.step.to(device))).to(torch.device("cpu"))
    same = {
        name: bool(torch.equal(getattr(got, name), value))
        for name, value in wanted._asdict().items()
        if value is not None
    }
    return {"fields": same, "passed": all(same.values())}


def check_priorities(device: torch.device, size: Size) -> dict[str, Any]:
    """Are transitions drawn in proportion to their weights? The largest deviation in standard deviations."""
    replay = make_agent("btr", device, size, **{"replay.stratified": False}).replay
    assert isinstance(replay, PrioritizedReplay)
    indices = replay.draw(256)
    error = torch.linspace(0.01, 100, 256, device=device)
    replay.update_priorities(indices, error, error)
    expected = replay.tree.weights / replay.tree.total() * size.draws
    counts = torch.bincount(replay.leaf(replay.draw(size.draws)), minlength=len(expected))
    deviation = float(((counts - expected) / expected.clamp(min=1.0).sqrt()).abs().max())
    never = bool((counts[expected == 0] == 0).all())
    return {"deviation": deviation, "never_of_weight_0": never, "passed": deviation < 6.5 and never}


def check_resume(device: torch.device, size: Size) -> dict[str, Any]:
    """A learner from a checkpoint draws the same random numbers and makes the same updates, to the tolerance above."""
    whole, resumed = (make_agent("btr", device, size) for _ in range(2))
    for _ in range(20):
        whole.update()
    resumed.load_state_dict(whole.state_dict())
    distances = []
    for _ in range(size.updates // 50 + 1):
        whole.update()
        resumed.update()
        distances.append(distance(resumed, whole))
    return {"distance": max(distances), "passed": max(distances) <= 1e-3}


def milliseconds(operation: Callable[[], object], device: torch.device, size: Size) -> dict[str, float]:
    """Median, smallest and largest of five timings of an operation, after it was captured where it is."""
    for _ in range(size.warm_up):
        operation()
    found = []
    for _ in range(5):
        synchronize(device)
        start = time.perf_counter()
        for _ in range(size.timed):
            operation()
        synchronize(device)
        found.append(1e3 * (time.perf_counter() - start) / size.timed)
    return {"median": statistics.median(found), "low": min(found), "high": max(found)}


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def update(device: torch.device, size: Size, out: Path) -> dict[str, Any]:
    """Milliseconds of an update by the learner, and of one with sampling and priorities, eager and captured."""
    found: dict[str, Any] = {}
    for preset, head in itertools.product(("dqn", "btr"), size.heads):
        agent = make_agent(preset, device, size, head=head)
        batch, _ = agent.replay.sample(agent.settings.batch_size)
        captured = agent.learner.gradient_of
        rows = {}
        for name, gradient_of in {"eager": agent.learner.differentiate, "captured": captured}.items():
            agent.learner.gradient_of = gradient_of
            learn = functools.partial(agent.learner.update, batch)
            rows[name] = milliseconds(learn, device, size)
            rows[f"{name}, with replay"] = milliseconds(agent.update, device, size)
        found[f"{preset}, batch {agent.settings.batch_size}, {head}"] = rows
    return {"unit": "ms per update", "ms": found}


def replay(device: torch.device, size: Size, out: Path) -> dict[str, Any]:
    """Milliseconds of sampling a batch onto the device, by where replay lies."""
    found: dict[str, Any] = {}
    for preset, place in itertools.product(("dqn", "btr"), ("same", "cpu")):
        agent = make_agent(preset, device, size, **{"replay.device": place})
        kept, batch_size = agent.replay, agent.settings.batch_size
        name = f"{agent.config.replay.name}, batch {batch_size}, replay on {kept.device}"
        found[name] = milliseconds(functools.partial(sample, kept, batch_size, device), device, size)
    return {"unit": "ms per batch", "ms": found}


def sample(kept: UniformReplay, batch_size: int, device: torch.device) -> Batch:
    return kept.sample(batch_size)[0].to(device)


def end_to_end(device: torch.device, size: Size, out: Path) -> dict[str, Any]:
    """Frames per second of whole runs on Pong once they learn, with replay on the device and in the host's memory."""
    found: dict[str, Any] = {}
    for preset, place in itertools.product(("dqn", "btr"), ("same", "cpu")):
        overrides = {
            "device": str(device),
            "replay.device": place,
            "env.num_envs": 4 if size is TINY else 64,
            "replay.capacity_steps": 1_000 if size is TINY else 200_000,
            "agent.learn_after_steps": 20 if size is TINY else 5_000,
        }
        config, _ = resolve(RunConfig.preset(preset, overrides | size.overrides), out / "none")
        run = build(config, out / "none", Silent(config.steps))
        try:
            while run.agent.learner.num_updates < min(20, size.timed):
                run.advance()
            synchronize(device)
            start, step, updates = time.perf_counter(), run.step, run.agent.learner.num_updates
            while time.perf_counter() < start + size.seconds:
                run.advance()
            synchronize(device)
            seconds = time.perf_counter() - start
            found[f"{preset}, replay on {place}"] = {
                "frames_per_second": (run.step - step) * run.venv.frames_per_step / seconds,
                "updates_per_second": (run.agent.learner.num_updates - updates) / seconds,
                "shares": run.stopwatch.shares(),
            }
        finally:
            run.venv.close()
    return {"runs": found}


def pilot(device: torch.device, size: Size, out: Path) -> dict[str, Any]:
    """BTR with IQN and with HL-Gauss on Breakout, one seed of each and 4M frames: a pilot, which decides nothing."""
    overrides = {
        "device": str(device),
        "env.id": "ALE/Breakout-v5",
        "steps": size.pilot_steps,
        "agent.learn_after_steps": min(50_000, size.pilot_steps // 2),
        "exploration.epsilon_steps": size.pilot_steps // 4,
        "replay.capacity_steps": size.pilot_steps,
        "checkpoint.every_steps": max(1, size.pilot_steps // 10),
        "evaluation.every_steps": max(1, size.pilot_steps // 4),
    } | (LITTLE_PLAY | {"env.num_envs": 4} if size is TINY else {})
    until, found = time.perf_counter() + size.pilot_seconds, {}
    for preset in PILOT:
        left = until - time.perf_counter()
        if left < 30:
            found[preset] = "not reached in this call: call again"
            continue
        timer = threading.Timer(left, os.kill, (os.getpid(), signal.SIGTERM))  # which a run answers by a checkpoint
        timer.start()
        try:
            config = RunConfig.preset(preset, overrides | size.overrides)
            found[preset] = train(config, out / "pilot" / preset)._asdict() | {"run_dir": str(out / "pilot" / preset)}
        finally:
            timer.cancel()
    finished = all(isinstance(run, dict) and run["finished"] for run in found.values())
    return {"pilot": True, "frames": size.pilot_steps * 4, "finished": finished, "changed": overrides, "runs": found}


STAGES: dict[str, Callable[[torch.device, Size, Path], dict[str, Any]]] = {
    "correctness": correctness,
    "update": update,
    "replay": replay,
    "end_to_end": end_to_end,
    "pilot": pilot,
}

if __name__ == "__main__":
    sys.exit(main())
