"""docs/results/speed.md from what was measured.

    classyq bench pong --json docs/results/speed/bench-pong.json
    python -m benchmarks.peers pong --json docs/results/speed/peers-pong.json
    python -m benchmarks.speed_page

Every number of the page is from a file of docs/results/speed/; a file that is gone is left out.
"""

import json
from pathlib import Path
from typing import Any

from agents.benchmarks.report import about, number
from benchmarks.peers import NOT_MATCHED, Result, tables

HERE = Path(__file__).parents[1] / "docs/results"
HEADER = """\
# Speed

Made by `python -m benchmarks.speed_page` from [speed/](speed). A rate is per second of the CPU (all threads and child
processes), which says more than the wall where a machine is shared; medians with quartiles in brackets. A step is a
decision of the agent in one environment, of Atari 4 frames.
"""
PARTS = """\
## Parts and bound

`classyq bench PRESET`: each part repeated by itself, in turn with the others and with training. *Bound*: the speed of a
training whose step cost its parts and nothing else, 1 / the sum of operations a step x CPU seconds. *In training*: what
the same parts cost while training, where each finds the caches full of what the others left; threads that step
environments while the agent learns count as learning there.
"""
PEERS = """\
## Beside others

`python -m benchmarks.peers CASE`: one process for each training, in turn; from the end of a warm-up on, so without
start-up. *Of the whole process* counts from its start: imports, and the steps before learning begins, which are quick.
Only what one command measured can be compared.
"""


def bench_section(report: dict[str, Any]) -> str:
    """One report of `classyq bench`."""
    frames, end, config = report["frames_per_step"], report["end_to_end"], report["config"]
    unit = "frames" if frames > 1 else "steps"
    head = f"### {report['preset']}: {config['env']['id']} x{config['env']['num_envs']}, {config['head']['name']}"
    rows = [f"| part | of | CPU us | a CPU-second | a second | {unit} a CPU-second, were there nothing else |"]
    rows.append("|---|---|---|---|---|---|")
    for rate in (*report["parts"], *report["beside"]):
        alone = "" if rate["per_step"] is None else number(frames * rate["per_cpu_second"]["median"] / rate["per_step"])
        medians = " | ".join(number(rate[key]["median"]) for key in ("per_cpu_second", "per_second"))
        rows.append(f"| {rate['name']} | {rate['what']} | {spread(rate['cpu_us'])} | {medians} | {alone} |")
    rates = [f"{spread(end[key], frames)} {unit} {of}" for key, of in RATES.items()]
    total = sum(report["in_training"].values())
    shares = sorted(report["in_training"].items(), key=lambda item: -item[1])
    return "\n".join(
        [
            *(head, "", *rows, ""),
            f"* End to end: {', '.join(rates)}; {report['updates_per_step']:.4g} updates a step.",
            f"* Bound: {number(frames * report['bound'])} {unit} a CPU-second, of which end to end reaches "
            f"{report['share_of_bound']:.0%}.",
            f"* In training, {number(total)} CPU us a step: "
            + ", ".join(f"{name} {us / total:.1%} ({number(us)})" for name, us in shares)
            + ".",
            f"* At most {report['peak_memory_gb']:.2f} GB. {about(report['machine'])}.",
        ]
    )


RATES = {"per_cpu_second": "a CPU-second", "per_second": "a second"}


def spread(s: dict[str, float], unit: float = 1) -> str:
    return f"{number(unit * s['median'])} ({number(unit * s['low'])} to {number(unit * s['high'])})"


def page(directory: Path) -> str:
    """The page of all files in a directory."""
    read = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in sorted(directory.glob("*.json"))}
    benches = [bench_section(data) for name, data in read.items() if name.startswith("bench-")]
    peers = [tables(Result(**data)) for name, data in read.items() if name.startswith("peers-")]
    sections = [HEADER, *([PARTS, *benches] if benches else [])]
    sections += [PEERS, *peers, f"What is not the same:\n\n{NOT_MATCHED}"] if peers else []
    return "\n\n".join(section.strip("\n") for section in sections) + "\n"


def main() -> None:
    (HERE / "speed.md").write_text(page(HERE / "speed"), encoding="utf-8")


if __name__ == "__main__":
    main()
