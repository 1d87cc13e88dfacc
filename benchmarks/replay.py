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
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import torch

from agents.learning.batch import Batch
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


def memory() -> tuple[int, int]:
    """Bytes resident: (of the process's own, of files that it has mapped)."""
    info = psutil.Process().memory_info()
    return info.rss - info.shared, info.shared


class Watch:
    """Seconds, seconds of the CPU and the most own memory beyond what there was, looked at every 20 ms."""

    def __enter__(self) -> "Watch":
        self.before, self.peak, self.done = memory()[0], 0, threading.Event()
        self.watcher = threading.Thread(target=self.look)
        self.watcher.start()
        self.seconds, self.cpu_seconds = -time.perf_counter(), -time.process_time()
        return self

    def __exit__(self, *exception: object) -> None:
        self.seconds += time.perf_counter()
        self.cpu_seconds += time.process_time()
        self.done.set()
        self.watcher.join()

    def look(self) -> None:
        while not self.done.wait(0.02):
            self.peak = max(self.peak, memory()[0] - self.before)

    def row(self, name: str, num_bytes: int | None = None) -> dict[str, float]:
        written = {} if num_bytes is None else {f"{name}: GB written": num_bytes / 1e9}
        return {
            f"{name}: s": self.seconds,
            f"{name}: CPU-s": self.cpu_seconds,
            f"{name}: GB of own memory on top": self.peak / 1e9,
        } | written


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


def filled_and_saved(steps: int, map_dir: str | None, run_dir: Path) -> tuple[dict[str, float], Path, Batch]:
    """Fill, sample, save, add NEW_STEPS, save: (rows of the table, the checkpoint, what would be sampled next)."""
    before, play = memory(), steps_of_play(0)
    replay = make_replay(steps, map_dir)
    with Watch() as filling:
        add(replay, play, steps)
    assert replay.layout() == STACK, "the frames should be shared"
    own, of_files = (now - then for now, then in zip(memory(), before, strict=True))
    rows = {
        "replay: GB": bytes_of(replay) / 1e9,
        "replay: GB of it in the file": replay.observations.frames.nbytes / 1e9 if map_dir else 0.0,
        "replay: GB resident, own memory": own / 1e9,
        "replay: GB resident, pages of the file": of_files / 1e9,
        "steps added a CPU-second": steps / filling.cpu_seconds,
        "batches sampled a CPU-second": batches_per_cpu_second(replay),
    }
    checkpointer, path, written = Checkpointer(run_dir, keep=2), run_dir, 0
    for name in ("first checkpoint", f"checkpoint after {NEW_STEPS:,} steps"):
        with Watch() as saving:
            path = checkpointer.save(replay.rows * NUM_ENVS, {"replay": replay.state_dict()}, replay)
        rows |= saving.row(name, bytes_in(run_dir) - written)
        written = bytes_in(run_dir)
        if name == "first checkpoint":
            add(replay, play, NEW_STEPS)
    return rows, path, replay.sample(BATCH_SIZE)[0]


def measure(steps: int, map_dir: str | None, run_dir: Path) -> dict[str, float]:
    """{row of the table: number}. What is brought back must sample what the replay before it would have."""
    torch.set_num_threads(1)
    rows, path, expected = filled_and_saved(steps, map_dir, run_dir)
    checkpointer = Checkpointer(run_dir, keep=2)
    with Watch() as restoring:
        replay = make_replay(steps, map_dir)
        replay.load_state_dict(checkpointer.load(path)["replay"])
        checkpointer.restore(path, replay)
    got = replay.sample(BATCH_SIZE)[0]
    assert all(torch.equal(a, b) for a, b in zip(expected, got, strict=True) if a is not None and b is not None)
    return rows | restoring.row("restoring it")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
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
        print(f"| {name} | {number:,.2f} | {columns['file'][name]:,.2f} |")


if __name__ == "__main__":
    main()
