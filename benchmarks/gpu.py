"""What one GPU does: is it right, and how fast is it?

    python -m benchmarks.gpu --stage correctness|update|replay|end_to_end|pilot --out DIR

Each stage takes less than 8 minutes and writes DIR/gpu_STAGE.json, anew after each thing that it has found; `pilot`
goes on where it was when it is called again. Correctness first: what the others measure means nothing where it fails.
It wants what classyq itself wants, which for this is torch, numpy, gymnasium, ale-py, tensorboard, pydantic, psutil
and rich, and no installation of classyq: run it in the folder above this one. `--device cpu` goes through the same
code with tiny sizes, which says something of this script and nothing of any speed.
"""

import argparse
import contextlib
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
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from agents.config import RunConfig
from agents.dqn import DQN
from agents.running.progress import Silent
from agents.running.setup import build, resolve
from agents.running.trainer import train
from agents.whole_updates import WholeUpdates
from benchmarks import gpu_checks as checks
from benchmarks.gpu_checks import BFLOAT16, FULL, PER_LAUNCH, TINY, Size, make_agent, synchronize

CHECKED = (
    ("dqn", "mse"),
    ("dqn", "iqn"),
    ("dqn", "hl_gauss"),
    ("c51", "categorical"),
    ("rainbow", "c51"),
    ("btr", "iqn"),
)
BTR_HEADS = ("iqn", "hl_gauss", "mse")
PILOT = ("btr", "btr_hl_gauss")
LITTLE_PLAY = {"evaluation.num_episodes": 1, "evaluation.final_episodes": 1, "evaluation.max_steps": 40}
LAGGED, HOST = {"agent.acting_network": "lagged"}, {"replay.device": "cpu"}
RUNS = {"": {}, "lagged": LAGGED, "lagged, bfloat16": LAGGED | BFLOAT16, "replay on the host": HOST}
SECONDS = 420  # after which a stage begins nothing new


class Stage:
    """One stage, and what it has found so far: written at once, so that nothing that happens later takes it away."""

    def __init__(self, name: str, device: torch.device, size: Size, out: Path):
        self.name, self.device, self.size, self.out = name, device, size, out
        self.start, self.found, self.faults = time.perf_counter(), {}, 0

    def find(self, name: str, find: Callable[[], Any]) -> None:
        """Find something out under a name; what goes wrong is a finding too."""
        self.found[name] = "not reached: no time left"
        if time.perf_counter() - self.start < SECONDS:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                try:
                    self.found[name] = find()
                except Exception:
                    self.found[name] = {"error": traceback.format_exc(limit=-4)}
            if said:
                self.found[name]["warnings"] = sorted({str(warning.message) for warning in said})
        found = self.found[name]
        self.faults += isinstance(found, str) or "error" in found or not found.get("passed", True)
        print(f"{name}: {json.dumps(found)}", flush=True)
        self.write()

    def write(self) -> None:
        on_gpu = self.device.type == "cuda"
        report = {
            "stage": self.name,
            "tiny": self.size is TINY,
            "device": torch.cuda.get_device_name(self.device) if on_gpu else "cpu",
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "python": platform.python_version(),
            "seconds": time.perf_counter() - self.start,
            "passed": self.faults == 0,
            "found": self.found,
        }
        path = self.out / f"gpu_{self.name}.json"
        path.write_text(json.dumps(report, indent=1, default=str), encoding="utf-8")


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
    stage = Stage(given.stage, device, TINY if device.type == "cpu" else FULL, given.out)
    STAGES[given.stage](stage)
    return 1 if stage.faults else 0


def correctness(stage: Stage) -> None:
    """Is a graph what it was captured from, replay on the device that on the host, and a resumed agent the same?"""
    device, size = stage.device, stage.size
    with checks.repeatable():
        stage.find("replay on the device", lambda: checks.check_replay(device, size))
        stage.find("priorities", lambda: checks.check_priorities(device, size))
        for preset, head in CHECKED:
            find = functools.partial(checks.check_whole, preset, head, device, size)
            stage.find(f"whole updates, {preset} with {head}", find)
        find = functools.partial(checks.check_whole, "btr", "iqn", device, size, **BFLOAT16)
        stage.find("whole updates, btr with iqn, bfloat16", find)
        stage.find("gradient, btr with iqn", lambda: checks.check_gradient("btr", "iqn", device, size))
        stage.find("acting", lambda: checks.check_acting(device, size))
        stage.find("resume", lambda: checks.check_resume(device, size))


def milliseconds(operation: Callable[[], object], device: torch.device, size: Size, each: int = 1) -> dict[str, float]:
    """Median, smallest and largest of five timings of one of `each` things that an operation does, once captured."""
    for _ in range(size.warm_up):
        operation()
    found = []
    for _ in range(5):
        synchronize(device)
        start = time.perf_counter()
        for _ in range(size.timed):
            operation()
        synchronize(device)
        found.append(1e3 * (time.perf_counter() - start) / size.timed / each)
    return {"median": statistics.median(found), "low": min(found), "high": max(found)}


def update(stage: Stage) -> None:
    """Milliseconds of an update with sampling and priorities: eager, with a captured gradient, and captured whole."""
    size = stage.size._replace(rows=min(stage.size.rows, 500))
    cases = [("dqn", head) for head in size.heads]
    cases += [("btr", head) for head in BTR_HEADS if stage.size is FULL or head in size.heads]
    for (preset, head), precision in itertools.product(cases, ({}, BFLOAT16)):
        name = f"{preset} with {head}, {precision.get('agent.precision', 'float32')}: ms"
        stage.find(name, functools.partial(time_updates, preset, head, stage.device, size, precision))


def time_updates(
    preset: str, head: str, device: torch.device, size: Size, precision: dict[str, Any]
) -> dict[str, dict[str, float]]:
    agent = make_agent(preset, device, size, head=head, **precision)
    captured, timed = agent.learner.gradient_of, functools.partial(milliseconds, device=device, size=size)
    agent.learner.gradient_of = agent.learner.differentiate
    found = {"eager": timed(agent.update)}
    agent.learner.gradient_of = captured
    found["gradient captured"] = timed(agent.update)
    for launched in (1, PER_LAUNCH):
        launches = functools.partial(WholeUpdates(agent, launched), launched)
        found[f"whole, {launched} to a launch"] = timed(launches, each=launched)
    return found


def replay(stage: Stage) -> None:
    """Milliseconds of adding a step and of sampling a batch onto the device, by where replay lies."""
    for preset, place in itertools.product(("dqn", "btr"), ({}, HOST)):
        name = f"{preset}, replay on the {'host' if place else 'device'}: ms"
        stage.find(name, functools.partial(time_replay, preset, stage.device, stage.size, place))


def time_replay(preset: str, device: torch.device, size: Size, place: dict[str, Any]) -> dict[str, Any]:
    (agent,), steps = checks.make_agents(1, preset, device, size, **place)
    timed = functools.partial(milliseconds, device=device, size=size)
    told = list(itertools.islice(steps, 16))
    turn = itertools.cycle(told)
    return {
        f"a batch of {agent.settings.batch_size}": timed(lambda: sample(agent)),
        f"adding {len(told[0][1])} steps": timed(lambda: checks.add([agent], next(turn))),
        "lies on": str(agent.replay.device),
    }


def sample(agent: DQN) -> Any:
    return agent.replay.sample(agent.settings.batch_size)[0].to(agent.device)


def end_to_end(stage: Stage) -> None:
    """Frames per second of whole runs on Pong once they learn."""
    for preset, (name, changes) in itertools.product(("dqn", "btr"), RUNS.items()):
        stage.find(", ".join(filter(None, (preset, name))), functools.partial(run_for_a_while, preset, stage, changes))


def run_for_a_while(preset: str, stage: Stage, changes: dict[str, Any]) -> dict[str, Any]:
    size, device, tiny = stage.size, stage.device, stage.size is TINY
    overrides = {
        "device": str(device),
        "env.num_envs": 4 if tiny else 64,
        "replay.capacity_steps": 1_000 if tiny else 200_000,
        "agent.learn_after_steps": 20 if tiny else 5_000,
    }
    config = RunConfig.preset(preset, overrides | size.overrides | changes)
    run = build(resolve(config, stage.out / "none")[0], stage.out / "none", Silent(config.steps))
    with contextlib.closing(run.venv):
        while run.agent.learner.num_updates < (3 if tiny else 210):  # until all that will be is captured
            run.advance()
        synchronize(device)
        start, step, updates = time.perf_counter(), run.step, run.agent.learner.num_updates
        while time.perf_counter() < start + size.seconds:
            run.advance()
        synchronize(device)
        seconds = time.perf_counter() - start
        return {
            "frames_per_second": (run.step - step) * run.venv.frames_per_step / seconds,
            "updates_per_second": (run.agent.learner.num_updates - updates) / seconds,
            "shares": run.stopwatch.shares(),
        }


def pilot(stage: Stage) -> None:
    """BTR with IQN and with HL-Gauss on Breakout, one seed of each and 4M frames: a pilot, which decides nothing."""
    until = time.perf_counter() + stage.size.pilot_seconds
    for preset in PILOT:
        stage.find(preset, functools.partial(train_until, until, preset, stage))


def train_until(until: float, preset: str, stage: Stage) -> dict[str, Any]:
    size, run_dir = stage.size, stage.out / "pilot" / preset
    changed = {
        "device": str(stage.device),
        "env.id": "ALE/Breakout-v5",
        "steps": size.pilot_steps,
        "agent.learn_after_steps": min(50_000, size.pilot_steps // 2),
        "agent.acting_network": "lagged",
        "exploration.epsilon_steps": size.pilot_steps // 4,
        "replay.capacity_steps": size.pilot_steps,
        "checkpoint.every_steps": max(1, size.pilot_steps // 10),
        "evaluation.every_steps": max(1, size.pilot_steps // 4),
    } | (LITTLE_PLAY | {"env.num_envs": 4} if size is TINY else {})
    left = until - time.perf_counter()
    if left < 30:
        return {"finished": False, "note": "not reached in this call: call again"}
    timer = threading.Timer(left, os.kill, (os.getpid(), signal.SIGTERM))  # which a run answers by a checkpoint
    timer.start()
    try:
        summary = train(RunConfig.preset(preset, changed | size.overrides), run_dir)
    finally:
        timer.cancel()
    return summary._asdict() | {"run_dir": str(run_dir), "changed": changed, "frames": 4 * size.pilot_steps}


STAGES: dict[str, Callable[[Stage], None]] = {
    "correctness": correctness,
    "update": update,
    "replay": replay,
    "end_to_end": end_to_end,
    "pilot": pilot,
}

if __name__ == "__main__":
    sys.exit(main())
