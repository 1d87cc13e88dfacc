"""What a replay of Atari costs: memory, disk, sampling, a checkpoint after new steps, and bringing it back.

    python -m benchmarks.replay --map-dir DIR

fills a replay of a million steps of 84 x 84 frames twice, each in a process of its own: in memory, and with its frames
in a file under DIR (replay.map_dir). DIR takes twice the replay for a while: the file, and a checkpoint.
Frames are noise, stacked by 4 and shared as a game's are; episodes end, by termination or by truncation, at random.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from agents.replay.uniform import UniformReplay
from agents.running.checkpoint import Checkpointer

NUM_ENVS, STACK, SIZE = 4, 4, 84
BATCH_SIZE, N_STEP = 32, 3
NEW_STEPS = 10_000  # between two checkpoints
EPISODE_END = 1 / 500  # per step; every second one is a truncation


def steps_of_play(seed: int) -> Iterator[tuple[np.ndarray, ...]]:
    """Arguments of `UniformReplay.add`, without end: frames of noise, stacked; a start repeats its first frame."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (512, SIZE, SIZE), np.uint8)
    obs = np.repeat(noise[:NUM_ENVS, None], STACK, 1)
    while True:
        newest = noise[rng.integers(len(noise), size=NUM_ENVS)]
        next_obs = np.concatenate([obs[:, 1:], newest[:, None]], 1)
        end = rng.random(NUM_ENVS) < EPISODE_END
        terminal = end & (rng.random(NUM_ENVS) < 0.5)
        yield obs, rng.integers(18, size=NUM_ENVS), rng.random(NUM_ENVS, np.float32), terminal, end, next_obs
        obs = next_obs
        if end.any():
            obs = obs.copy()
            obs[end] = noise[rng.integers(len(noise), size=int(end.sum()))][:, None]


class Memory:
    """What this process has resident beyond what it had at first, in bytes: (of its own, of mapped files)."""

    def __init__(self) -> None:
        self.start = self.now()

    @staticmethod
    def now() -> tuple[int, int]:
        info = psutil.Process().memory_info()
        return info.rss - info.shared, info.shared

    def growth(self) -> tuple[int, int]:
        own, shared = self.now()
        return own - self.start[0], shared - self.start[1]


def peak_of_own_memory(action: Callable[[], Any], before: int) -> int:
    """The most memory of its own that the process had while `action` ran, looked at every 20 ms, beyond `before`."""
    done, peak = threading.Event(), [0]

    def watch() -> None:
        while not done.wait(0.02):
            peak[0] = max(peak[0], Memory.now()[0])

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        action()
    finally:
        done.set()
        watcher.join()
    return max(peak[0], Memory.now()[0]) - before


def timed(action: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = action()
    return time.perf_counter() - start, result


def make_replay(steps: int, map_dir: str | None) -> UniformReplay:
    return UniformReplay(
        steps, NUM_ENVS, (STACK, SIZE, SIZE), torch.uint8, n_step=N_STEP, share_frames=True, map_dir=map_dir
    )


def add(replay: UniformReplay, play: Iterator[tuple[np.ndarray, ...]], steps: int) -> None:
    for _ in range(steps // NUM_ENVS):
        replay.add(*next(play))


def batches_per_cpu_second(replay: UniformReplay, num_batches: int = 2_000) -> float:
    for _ in range(100):
        replay.sample(BATCH_SIZE)
    start = time.process_time()
    for _ in range(num_batches):
        replay.sample(BATCH_SIZE)
    return num_batches / (time.process_time() - start)


def bytes_of(replay: UniformReplay) -> int:
    """Bytes of all tensors of a replay, the observations among them."""
    parts = (*vars(replay).values(), *vars(replay.observations).values())
    return sum(value.nbytes for value in parts if isinstance(value, torch.Tensor))


def bytes_in(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*.pt"))


def measure(steps: int, map_dir: str | None, run_dir: Path) -> dict[str, float]:
    """Fill, sample, save, add NEW_STEPS, save, restore; {row of the table: number}."""
    torch.set_num_threads(1)
    memory, play = Memory(), steps_of_play(0)
    replay = make_replay(steps, map_dir)
    filled, _ = timed(lambda: add(replay, play, steps))
    assert replay.layout() == STACK, "the frames should be shared"
    own, shared = memory.growth()
    row = {
        "bytes of the replay, GB": bytes_of(replay) / 1e9,
        "bytes in the file, GB": replay.observations.frames.nbytes / 1e9 if map_dir else 0.0,
        "resident, own memory, GB": own / 1e9,
        "resident, pages of the file, GB": shared / 1e9,
        "steps added a second": steps / filled,
        "batches sampled a CPU-second": batches_per_cpu_second(replay),
    }
    checkpointer = Checkpointer(run_dir, keep=2)

    def save() -> Path:
        return checkpointer.save(replay.rows * NUM_ENVS, {"replay": replay.state_dict()}, replay)

    before = memory.now()[0]
    row["first checkpoint, s"], peak = timed(lambda: peak_of_own_memory(save, before))
    row["first checkpoint, bytes written, GB"] = (first := bytes_in(run_dir)) / 1e9
    row["first checkpoint, memory beyond, GB"] = peak / 1e9
    add(replay, play, NEW_STEPS)
    row["checkpoint after 10k steps, s"], path = timed(save)
    row["checkpoint after 10k steps, bytes written, GB"] = (bytes_in(run_dir) - first) / 1e9
    expected = replay.sample(BATCH_SIZE)[0]
    del replay, save  # there may be no room for two
    return row | restored(steps, map_dir, run_dir, path, expected)


def restored(steps: int, map_dir: str | None, run_dir: Path, path: Path, expected: Any) -> dict[str, float]:
    """Time and memory of bringing a replay back; it must sample what the one before it would have."""
    before = Memory.now()[0]
    replay = make_replay(steps, map_dir)

    def load() -> None:
        checkpointer = Checkpointer(run_dir, keep=2)
        replay.load_state_dict(checkpointer.load(path)["replay"])
        checkpointer.restore(path, replay)

    seconds, peak = timed(lambda: peak_of_own_memory(load, before))
    got = replay.sample(BATCH_SIZE)[0]
    assert all(torch.equal(a, b) for a, b in zip(expected, got, strict=True) if a is not None)
    return {"restoring it, s": seconds, "restoring it, own memory at most, GB": peak / 1e9}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--map-dir", required=True, help="for the file and the checkpoints")
    parser.add_argument("--only", choices=["memory", "file"], help=argparse.SUPPRESS)  # what a process of its own does
    options = parser.parse_args()
    Path(options.map_dir).mkdir(parents=True, exist_ok=True)
    if options.only:
        map_dir = options.map_dir if options.only == "file" else None
        with tempfile.TemporaryDirectory(dir=options.map_dir) as run_dir:
            print(json.dumps(measure(options.steps, map_dir, Path(run_dir))))
        return
    columns = {}
    for only in ("memory", "file"):
        command = [sys.executable, "-m", "benchmarks.replay", "--only", only]
        command += ["--steps", str(options.steps), "--map-dir", options.map_dir]
        columns[only] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    print(f"| {options.steps:,} steps, {NUM_ENVS} environments | in memory | in a file |\n|---|---|---|")
    for name, number in columns["memory"].items():
        print(f"| {name} | {number:,.3g} | {columns['file'][name]:,.3g} |")


if __name__ == "__main__":
    main()
