"""A report of speed, for people and for programs."""

import json
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from agents.benchmarks.measure import Spread
from agents.benchmarks.speed import Rate, Report


def as_json(report: Report) -> str:
    """The whole report: every tuple with names becomes an object."""
    return json.dumps(plain(report), indent=1)


def plain(value: Any) -> Any:
    """Tuples with names as dictionaries, all the way down."""
    if hasattr(value, "_asdict"):
        return {key: plain(field) for key, field in value._asdict().items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return {key: plain(item) for key, item in value.items()} if isinstance(value, dict) else value


def number(value: float) -> str:
    """Three digits or more."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def spread(s: Spread) -> str:
    return f"{number(s.median)} ({number(s.low)}-{number(s.high)})"


def unit_of(report: Report) -> str:
    """What is counted end to end: frames where a step is several of them."""
    return "frames" if report.frames_per_step > 1 else "steps"


def table_of(report: Report) -> Group:
    """Tables and sentences."""
    frames, unit = report.frames_per_step, unit_of(report)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("part", "of"):
        table.add_column(column, no_wrap=True)
    for column in ("CPU us", "per CPU-s", "per s", f"{unit}/CPU-s", "share"):
        table.add_column(column, justify="right", no_wrap=True)
    for rate in report.parts:
        assert rate.per_step is not None
        alone = 1e6 / (rate.per_step * rate.cpu_us.median)  # steps a CPU-second, were there nothing else
        table.add_row(*cells(rate), number(alone * frames), f"{report.bound / alone:.1%}")
    for rate in report.beside:
        table.add_row(*cells(rate), "", "")
    end = report.end_to_end
    scaled = [Spread(*(frames * value for value in s)) for s in (end.per_cpu_second, end.per_second)]
    starts = ", ".join(f"{name} {s.cpu:.1f} CPU-s ({s.wall:.1f} s)" for name, s in report.start_up.items())
    lines = [
        "",
        f"end to end  {spread(scaled[0])} {unit} a CPU-second, {spread(scaled[1])} a second; "
        f"{report.updates_per_step:.4g} updates a step",
        f"bound       {number(report.bound * frames)} {unit} a CPU-second: 1 / the sum of the parts; "
        f"end to end reaches {report.share_of_bound:.0%} of it",
        f"in training {in_training(report)}",
        f"memory      {report.peak_memory_gb:.2f} GB at most, training alone, at the first update",
        f"start-up    {starts}",
        f"machine     {about(report.machine)}",
        f"method      {report.rounds} rounds in turn, {report.seconds:g} s for each operation; median (quartiles)",
    ]
    return Group(Text(title(report), style="bold"), Text(), table, Text("\n".join(lines)))


def in_training(report: Report) -> str:
    """CPU microseconds of a step, by part: more than the parts alone, as each finds the caches full of the others."""
    total = sum(report.in_training.values())
    parts = sorted(report.in_training.items(), key=lambda item: -item[1])
    return f"{number(total)} CPU us a step: " + ", ".join(f"{name} {us / total:.1%}" for name, us in parts)


def cells(rate: Rate) -> list[str]:
    return [
        rate.name,
        rate.what,
        spread(rate.cpu_us),
        number(rate.per_cpu_second.median),
        number(rate.per_second.median),
    ]


def title(report: Report) -> str:
    env, agent, head = (report.config[table] for table in ("env", "agent", "head"))
    return f"{report.preset}: {env['id']} x{env['num_envs']}, {agent['name']}, {head['name']}"


def about(machine: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    load = " to ".join(f"{machine[key][0]:.1f}" for key in ("load_before", "load_after"))
    where = f"{machine['cpu']}, {machine['cores']} cores, load {load}"
    gpu = f"; {machine['gpu']}" if machine["gpu"] else ""
    return f"{where}{gpu}; {machine['threads']} thread of torch; Python {machine['python']}, {versions}"
