"""This project beside others, at the same setting, each in a process of its own, in turn: A B C A B C ...

    pip install -c constraints.txt -e '.[peers]'
    python -m benchmarks.peers cartpole --json docs/results/speed/peers-cartpole.json

Compared is how many steps (of Atari, frames) there are in a second of the CPU, in all threads, between a warm-up and
the end; start-up is left out, and given beside. The warm-up has the first 250 updates and more, after the 200th of
which an update of ours is recorded. Ratios are of the runs of one turn, so that what the machine does
otherwise disturbs both. Peers run with their defaults but for the setting. CleanRL is not here: what its package on
the index installs for Python 3.11 is of 2021 and for the old gym, and its scripts are not copied.
"""

import argparse
import dataclasses
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from agents.benchmarks.measure import Spread
from agents.benchmarks.speed import processor
from benchmarks.contenders import CONTENDERS, Setting

ROOT = Path(__file__).parents[1]
OURS = "classyq "

CARTPOLE = Setting(
    env_id="CartPole-v1",
    num_envs=1,
    threads=1,
    batch_size=128,
    steps_per_update=10,
    replay_steps=10_000,
    learn_after_steps=1_000,
    warm_up_steps=4_000,
    steps=20_000,
    target_every_steps=500,
    outputs=1,
    v_min=0.0,
    v_max=100.0,
)
PONG = Setting(
    env_id="ALE/Pong-v5",
    num_envs=1,
    threads=1,
    batch_size=32,
    steps_per_update=4,
    replay_steps=20_000,
    learn_after_steps=1_000,
    warm_up_steps=2_000,
    steps=1_200,
    target_every_steps=1_000,
    outputs=1,
    v_min=-10.0,
    v_max=10.0,
)
CASES: dict[str, tuple[Setting, tuple[str, ...]]] = {
    "cartpole": (CARTPOLE, ("classyq huber", "SB3 DQN", "pfrl DQN")),
    "cartpole_c51": (
        dataclasses.replace(CARTPOLE, outputs=101),
        ("classyq c51", "classyq hl_gauss", "pfrl CategoricalDQN"),
    ),
    "cartpole_quantile": (
        dataclasses.replace(CARTPOLE, outputs=50),
        ("classyq quantile", "classyq iqn", "sb3-contrib QRDQN"),
    ),
    "pong": (PONG, ("classyq huber", "SB3 DQN", "pfrl DQN")),
    "pong_c51": (dataclasses.replace(PONG, outputs=51), ("classyq c51", "classyq hl_gauss", "pfrl CategoricalDQN")),
    "pong_quantile": (
        dataclasses.replace(PONG, outputs=200),
        ("classyq quantile", "classyq iqn", "sb3-contrib QRDQN"),
    ),
}
NOT_MATCHED = """\
* The same for all: network, loss, batch, updates a step, replay (uniform), targets (1 step, no double Q-learning),
  learning rate, epsilon (constant), clipping of the gradient's norm, discount, threads. Not the same: first weights,
  and so games.
* classyq writes a log (TensorBoard and CSV) at the end of the warm-up and at least once after it, and follows the bias
  of its values; the others write nothing. Its Adam is one fused kernel; the others have torch's default.
* SB3 updates after each whole cycle of steps and updates; classyq after each vector step what is due.
* Atari, for all: 4 frames a step, 84 x 84, 4 stacked, no sticky actions, up to 30 no-ops first, a lost life ends the
  value, rewards clipped. SB3 and pfrl step one game at a time in Python with SB3's wrappers, which press FIRE and
  resize with OpenCV; classyq presses nothing and steps ALE's own vector environment.
* pfrl steps one environment only here, and is left out where --envs is not 1.
* No peer here has IQN: classyq iqn (N = N' = 64 fractions) stands beside QR-DQN, and has more to compute."""


class Result(NamedTuple):
    """A case: what was run and, of each contender, a record for every turn."""

    case: str
    setting: dict[str, Any]
    turns: list[dict[str, dict[str, Any]]]  # by contender
    machine: dict[str, Any]


def run_one(name: str, setting: Setting) -> dict[str, Any]:
    """One training in a process of its own."""
    threads = {"OMP_NUM_THREADS": str(setting.threads), "OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, "-m", "benchmarks.contenders", name, json.dumps(dataclasses.asdict(setting))]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, env=os.environ | threads)
    if ended.returncode:
        raise RuntimeError(f"{name} failed with exit code {ended.returncode}:\n{ended.stderr}")
    return json.loads(ended.stdout.splitlines()[-1])


def compare(case: str, setting: Setting, names: Sequence[str], turns: int) -> Iterator[Result]:
    """`turns` times each contender, in turn; what there is after each turn."""
    done: list[dict[str, dict[str, Any]]] = []
    for turn in range(turns):
        records = {}
        for name in names:
            records[name] = one = run_one(name, setting)
            rate = one["steps"] / one["cpu_seconds"]
            said = f"turn {turn + 1} of {turns}  {name:20s} {rate:8,.0f} steps a CPU-second"
            print(said, file=sys.stderr, flush=True)
        done.append(records)
        load, python = os.getloadavg(), platform.python_version()
        machine = {"cpu": processor(), "cores": os.cpu_count(), "load": load, "python": python}
        yield Result(case, dataclasses.asdict(setting), list(done), machine)


def rates(result: Result, name: str, unit: int = 1) -> dict[str, Spread]:
    """Steps x `unit` in a second, by what is counted as one."""
    runs = [turn[name] for turn in result.turns]
    return {
        "CPU-second": Spread.of([unit * run["steps"] / run["cpu_seconds"] for run in runs]),
        "second": Spread.of([unit * run["steps"] / run["wall_seconds"] for run in runs]),
        "CPU-second with start-up": Spread.of([unit * run["all_steps"] / run["all_cpu_seconds"] for run in runs]),
    }


def ratios(result: Result, ours: str, peer: str, seconds: str) -> Spread:
    """How many times as fast as a peer, by turns; `seconds` is cpu_seconds or wall_seconds."""
    pairs = [(turn[ours], turn[peer]) for turn in result.turns]
    return Spread.of([(a["steps"] / a[seconds]) / (b["steps"] / b[seconds]) for a, b in pairs])


def text(s: Spread, digits: int = 0) -> str:
    return f"{s.median:,.{digits}f} ({s.low:,.{digits}f} to {s.high:,.{digits}f})"


def tables(result: Result) -> str:
    """What was measured, in Markdown: medians and quartiles."""
    setting, names = result.setting, list(result.turns[0])
    unit, what = (4, "frames") if setting["env_id"].startswith("ALE/") else (1, "steps")
    columns = (
        f"{what} a CPU-second",
        f"{what} a second",
        "a CPU-second of the whole process",
        "peak GB",
        "updates a step",
    )
    lines = [f"| {result.case} | {' | '.join(columns)} |", "|---|---|---|---|---|---|"]
    for name in names:
        rate, runs = rates(result, name, unit), [turn[name] for turn in result.turns]
        memory = max(run["peak_memory_gb"] for run in runs)
        ratio = sum(run["updates"] for run in runs) / sum(run["steps"] for run in runs)
        cells = [text(rate[key]) for key in ("CPU-second", "second", "CPU-second with start-up")]
        lines.append(f"| {name} | {' | '.join(cells)} | {memory:.2f} | {ratio:.3g} |")
    lines += ["", "| times as fast | per CPU-second | per second |", "|---|---|---|"]
    for ours in (name for name in names if name.startswith(OURS)):
        for peer in (name for name in names if not name.startswith(OURS)):
            by_clock = [text(ratios(result, ours, peer, key), 2) for key in ("cpu_seconds", "wall_seconds")]
            lines.append(f"| {ours} / {peer} | {' | '.join(by_clock)} |")
    versions = next(iter(result.turns[0].values()))["versions"]
    machine = result.machine
    return "\n".join(
        [
            *lines,
            "",
            f"{len(result.turns)} turns; median (quartiles). {settings_text(setting)}.",
            f"{machine['cpu']}, {machine['cores']} cores, load {machine['load'][0]:.1f} at the end; Python "
            f"{machine['python']}, {', '.join(f'{name} {version}' for name, version in versions.items())}.",
        ]
    )


def settings_text(setting: dict[str, Any]) -> str:
    network = "Nature CNN" if setting["env_id"].startswith("ALE/") else "MLP " + "-".join(map(str, setting["mlp"]))
    rest = {key: value for key, value in setting.items() if key != "mlp"}
    return f"{network}, " + ", ".join(f"{key} {value}" for key, value in rest.items())


def positive(given: str) -> int:
    if int(given) < 1:
        raise ValueError(given)
    return int(given)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--turns", type=positive, default=3)
    parser.add_argument("--steps", type=positive, help="that are measured, instead of those of the case")
    parser.add_argument("--envs", type=positive, default=1)
    parser.add_argument("--threads", type=positive, default=1)
    parser.add_argument(
        "--only", nargs="+", choices=CONTENDERS, metavar="CONTENDER", help=f"some of: {', '.join(CONTENDERS)}"
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    setting, names = CASES[options.case]
    changes = {"num_envs": options.envs, "threads": options.threads}
    setting = dataclasses.replace(setting, **changes, steps=options.steps or setting.steps)
    chosen = [name for name in options.only or names if options.envs == 1 or not name.startswith("pfrl")]
    for result in compare(options.case, setting, chosen, options.turns):
        if options.json:  # what there is, should a later turn be interrupted
            options.json.write_text(json.dumps(result._asdict(), indent=1) + "\n", encoding="utf-8")
    print(tables(result), "\n\n", NOT_MATCHED, sep="")


if __name__ == "__main__":
    main()
