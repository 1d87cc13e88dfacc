"""How many steps a CPU-second our MinAtar makes, beside the package of its authors.

    pip install -c constraints.txt -e '.[minatar]'
    python -m benchmarks.minatar --page docs/results/minatar_speed.md

One thread, random actions. A step of ours is `step` and `reset_done` of `minatar/...`, whose observations are all
handed out; one of the package is `act`, `state`, and where an episode ends `reset` and `state`. Each game has a
process of its own, and another one that keeps its memory; in it all columns take turns, so that what else the machine
does meets them all.
"""

import argparse
import importlib.metadata
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from agents.benchmarks.report import number
from agents.benchmarks.speed import processor
from envs import MINATAR_GAMES, make_vector

SIZES = [1, 64, 1024, 4096]
PACKAGE, BEHIND = "package", "package behind our contract, N = 64"
MEMORY = {
    "The allocator as it comes": {},
    "Memory is kept": {
        "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
        "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
        "MALLOC_TOP_PAD_": str(64 << 20),
    },
}
HEADER = """\
# Speed of MinAtar

Made by `python -m benchmarks.minatar --page docs/results/minatar_speed.md`: environment steps per second of the CPU,
one thread, random actions, medians of {turns} turns. *Package*: one game of `minatar`, called directly. *Behind our
contract*: 64 of its games as `make_vector("MinAtar/...")` gives them to an agent. *N*: ours, as
`make_vector("minatar/...")` gives them. Ratios are medians (least to greatest) of those within a turn.

glibc maps a large array anew, page by page, whenever one is made, unless it is told to keep its memory, which a run of
classyq does: that is the difference between the tables. Seaquest is slower where more enemies are on the board, as with
good players, and ours goes by the most that there are in any of its environments.
"""
Advance = Callable[[int], None]  # makes so many steps of every environment
Rates = dict[str, list[float]]  # steps a CPU-second in each turn, by column


def vector(env_id: str, num_envs: int) -> Advance:
    venv = make_vector(env_id, num_envs=num_envs)
    actions = itertools.cycle(np.random.default_rng(0).integers(venv.num_actions, size=(64, num_envs)))
    venv.reset()

    def advance(num_steps: int) -> None:
        for action in itertools.islice(actions, num_steps):
            step = venv.step(action)
            venv.reset_done(step.done)

    return advance


def package(game: str) -> Advance:
    # the package has no annotations, and only this benchmark and a test need it
    from minatar import Environment  # pyright: ignore[reportMissingImports, reportAttributeAccessIssue]

    env = Environment(game)
    actions = itertools.cycle(np.random.default_rng(0).choice(env.minimal_action_set(), size=4096).tolist())
    env.reset()

    def advance(num_steps: int) -> None:
        for action in itertools.islice(actions, num_steps):
            _, terminal = env.act(action)
            env.state()
            if terminal:
                env.reset()
                env.state()

    return advance


def steps_per_cpu_second(advance: Advance, num_envs: int, cpu_seconds: float) -> float:
    """Environment steps a second of this process's CPU, over at least `cpu_seconds`."""
    num_steps, begin = 0, time.process_time()
    chunk = max(1, 256 // num_envs)
    while (spent := time.process_time() - begin) < cpu_seconds:
        advance(chunk)
        num_steps += chunk
    return num_steps * num_envs / spent


def measure(game: str, sizes: list[int], turns: int, cpu_seconds: float) -> Rates:
    """All columns of one game, in this process."""
    torch.set_num_threads(1)
    gymnasium_id = f"MinAtar/{game.title().replace('_', '')}-v1"
    columns = {PACKAGE: (package(game), 1), BEHIND: (vector(gymnasium_id, 64), 64)}
    columns |= {f"N = {size:,}": (vector(f"minatar/{game}", size), size) for size in sizes}
    rates: Rates = {name: [] for name in columns}
    for advance, num_envs in columns.values():
        advance(max(20, 2000 // num_envs))  # until things are on the board
    for _ in range(turns):
        for name, (advance, num_envs) in columns.items():
            rates[name].append(steps_per_cpu_second(advance, num_envs, cpu_seconds))
    return rates


def table(by_game: dict[str, Rates]) -> str:
    """A row for each game, and how much faster the last column is than the package."""
    names = list(next(iter(by_game.values())))
    head = [*names, f"{names[-1]} / {PACKAGE}"]
    rows = [f"| steps a CPU-second | {' | '.join(head)} |", "|---" * (len(head) + 1) + "|"]
    means = []
    for game, rates in by_game.items():
        ratios = [ours / theirs for ours, theirs in zip(rates[names[-1]], rates[PACKAGE], strict=True)]
        means.append(statistics.median(ratios))
        cells = [number(round(statistics.median(rates[name]))) for name in names]
        cells.append(f"{means[-1]:.1f} ({min(ratios):.1f} to {max(ratios):.1f})")
        rows.append(f"| {game} | {' | '.join(cells)} |")
    return "\n".join([*rows, "", f"Geometric mean of the ratios: {statistics.geometric_mean(means):.1f}."])


def page(measured: dict[str, dict[str, Rates]], machine: str) -> str:
    """The page of all tables, {memory: {game: rates}}."""
    turns = len(next(iter(next(iter(measured.values())).values()))[PACKAGE])
    tables = [f"## {memory}\n\n{table(by_game)}" for memory, by_game in measured.items()]
    return "\n\n".join([HEADER.format(turns=turns).strip(), *tables, machine]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--cpu-seconds", type=float, default=0.5, help="of each turn")
    parser.add_argument("--page", type=Path, help="write it there and not to the terminal")
    parser.add_argument("--game", choices=MINATAR_GAMES, help="measure one game in this process, and print its rates")
    options = parser.parse_args()
    if options.game is not None:
        print(json.dumps(measure(options.game, options.sizes, options.turns, options.cpu_seconds)))
        return
    command = [sys.executable, "-m", "benchmarks.minatar", "--turns", str(options.turns)]
    command += ["--cpu-seconds", str(options.cpu_seconds), "--sizes", *map(str, options.sizes), "--game"]
    measured: dict[str, dict[str, Rates]] = {memory: {} for memory in MEMORY}
    before = os.getloadavg()[0]
    for game in MINATAR_GAMES:
        for memory, variables in MEMORY.items():
            done = subprocess.run([*command, game], env=os.environ | variables, stdout=subprocess.PIPE, check=True)
            measured[memory][game] = json.loads(done.stdout)
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "numpy", "minatar"))
    load = f"load {before:.1f} to {os.getloadavg()[0]:.1f}"
    text = page(measured, f"{processor()}, {os.cpu_count()} cores, {load}; {versions}.")
    print(text) if options.page is None else options.page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
