"""How many steps a CPU-second our MinAtar makes, beside the original's package.

    python -m benchmarks.minatar

One thread. A step of ours is `step` and `reset_done` of `minatar/...`, whose observations are all handed out; one of
the original is `act`, `state`, and where an episode ends `reset` and `state`. Actions are random. The two and all
numbers of environments take turns, so that what else the machine does meets them all; the median of the turns is shown.
"""

import argparse
import itertools
import math
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from envs import MINATAR_GAMES, make_vector

ORIGINAL = "original"
Advance = Callable[[int], None]  # makes so many steps of every environment


def ours(game: str, num_envs: int) -> Advance:
    vector = make_vector(f"minatar/{game}", num_envs=num_envs)
    actions = itertools.cycle(np.random.default_rng(0).integers(vector.num_actions, size=(64, num_envs)))
    vector.reset()

    def advance(num_steps: int) -> None:
        for action in itertools.islice(actions, num_steps):
            step = vector.step(action)
            vector.reset_done(step.done)

    return advance


def original(game: str) -> Advance:
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


def measure(game: str, sizes: list[int], turns: int, cpu_seconds: float) -> dict[int | str, float]:
    """{number of environments, or ORIGINAL: steps a CPU-second}."""
    columns: dict[int | str, tuple[Advance, int]] = {ORIGINAL: (original(game), 1)}
    columns |= {size: (ours(game, size), size) for size in sizes}
    rates: dict[int | str, list[float]] = {name: [] for name in columns}
    for advance, num_envs in columns.values():
        advance(max(20, 2000 // num_envs))  # until things are on the board
    for _ in range(turns):
        for name, (advance, num_envs) in columns.items():
            rates[name].append(steps_per_cpu_second(advance, num_envs, cpu_seconds))
    return {name: statistics.median(values) for name, values in rates.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 64, 1024, 4096])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--cpu-seconds", type=float, default=0.5, help="of each turn")
    options = parser.parse_args()
    torch.set_num_threads(1)
    last = options.sizes[-1]
    sizes = " | ".join(f"N = {size:,}" for size in options.sizes)
    print(f"| steps a CPU-second | original | {sizes} | N = {last:,} / original |")
    print("|---" * (len(options.sizes) + 3) + "|")
    ratios = []
    for game in MINATAR_GAMES:
        rates = measure(game, options.sizes, options.turns, options.cpu_seconds)
        ratios.append(rates[last] / rates[ORIGINAL])
        print(f"| {game} | {' | '.join(f'{rate:,.0f}' for rate in rates.values())} | {ratios[-1]:.1f} |", flush=True)
    mean = math.exp(statistics.fmean(map(math.log, ratios)))
    print(f"\nGeometric mean at N = {last:,}: {mean:.1f} times the original.")


if __name__ == "__main__":
    main()
