"""What a comparison knows of a finished run, and the proof that runs differ in nothing but their heads."""

import csv
import io
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from agents.experiments.curves import read_curve
from agents.experiments.statistics import area_under_curve
from agents.presets import flatten
from agents.running.metrics import write_whole
from agents.running.runs import read_summary
from agents.tables import ConfigError

MEASURES = {
    "final": "the policy that evaluated best in training, on new episodes",
    "last": "the last policy",
    "auc": "area under the learning curve: its mean height",
}
SHOWN = 8  # differences in an error message


class Record(NamedTuple):
    """A finished run. `config` has dotted keys; `notes` is its run.json."""

    head: str
    env: str
    seed: int
    source: str
    config: dict[str, Any]
    notes: dict[str, Any]
    summary: dict[str, Any]
    updates: float | None
    steps: list[int]  # [T], of the evaluations
    returns: list[float]  # [T], greedy

    @classmethod
    def of(cls, run_dir: Path, head: str | None = None) -> Self:
        """That of the run in a directory; `head` is a label, instead of the head's name.

        Raises:
            ConfigError: it is not finished.
        """
        summary = read_summary(run_dir)
        if summary is None:
            raise ConfigError(f"{run_dir} is not finished; to go on with it: classyq resume {run_dir}")
        config, notes = (
            json.loads((run_dir / f"{name}.json").read_text(encoding="utf-8")) for name in ("config", "run")
        )
        updates = read_curve(run_dir / "metrics.csv", "replay/updates")[1]
        steps, returns = read_curve(run_dir / "metrics.csv")
        return cls(
            head or config["head"]["name"],
            config["env"]["id"],
            config["seed"],
            str(run_dir),
            flatten(config),
            notes,
            summary,
            updates[-1] if updates else None,
            steps,
            returns,
        )

    @classmethod
    def load(cls, path: Path) -> Self:
        """What `save` has written."""
        fields = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        steps, returns = read_curve(path, "return")
        return cls(**fields, steps=steps, returns=returns)

    def save(self, path: Path) -> None:
        """The curve as a table, NAME.csv, and beside it all the rest, NAME.json, which is written last."""
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(["env", "head", "seed", "step", "return"])
        points = zip(self.steps, self.returns, strict=True)
        writer.writerows([self.env, self.head, self.seed, step, value] for step, value in points)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text.getvalue())
        fields = {k: v for k, v in self._asdict().items() if k not in ("steps", "returns")}
        write_whole(path.with_suffix(".json"), json.dumps(fields, indent=1))

    def score(self, measure: str) -> float:
        """One of MEASURES: a raw return."""
        if measure == "auc":
            return float(area_under_curve(np.array(self.steps), np.array(self.returns)))
        return self.summary["best_return" if measure == "final" else "last_return"]


def labelled(records: Sequence[Record]) -> list[Record]:
    """The same with labels that say in which options two heads of one name differ."""
    variants: dict[str, dict[str, dict[str, Any]]] = {}
    for record in records:
        options = {k: v for k, v in record.config.items() if k.startswith("head.")}
        variants.setdefault(record.config["head.name"], {})[json.dumps(options, sort_keys=True)] = options
    labels = {}
    for name, of_name in variants.items():
        keys = [
            k for k in sorted({k for o in of_name.values() for k in o}) if differ(o.get(k) for o in of_name.values())
        ]
        for text, options in of_name.items():
            more = [f"{key.removeprefix('head.')}={options.get(key)}" for key in keys]
            labels[text] = " ".join([name, *more])
    of_head = ({k: v for k, v in r.config.items() if k.startswith("head.")} for r in records)
    return [r._replace(head=labels[json.dumps(o, sort_keys=True)]) for r, o in zip(records, of_head, strict=True)]


def differ(values: Any) -> bool:
    """Whether not all of some plain values are equal."""
    return len({json.dumps(value, sort_keys=True) for value in values}) > 1


def is_of_the_head(key: str, per_head: Collection[str]) -> bool:
    return key.startswith("head.") or key in per_head


def facts(record: Record, per_head: Collection[str]) -> dict[str, Any]:
    """All that has to be the same for every head and seed of an environment."""
    own = {k: v for k, v in record.config.items() if k != "seed" and not is_of_the_head(k, per_head)}
    notes = flatten(record.notes)
    if notes.pop("support", "").startswith("auto: from"):  # found by random play with the seed of the run
        own.pop("env.support", None)
    return own | notes | {"steps made": record.summary["step"], "evaluations at steps": record.steps}


def check_alike(records: Sequence[Record], per_head: Collection[str] = ()) -> None:
    """Prove that only the head differs: `head.*`, the keys `per_head`, and the seed.

    Within an environment everything else is the same for all runs, that is every key of the configuration, protocol,
    versions, budget and the steps of evaluations; what belongs to a head is the same for all of its seeds. Versions
    are the same everywhere. Every head has the same number of seeds in every environment, and no run counts twice.

    Raises:
        ConfigError: says what differs, between which runs.
    """
    if not records:
        raise ConfigError("there are no runs to compare")
    wrong = []
    for env in dict.fromkeys(r.env for r in records):
        of_env = [r for r in records if r.env == env]
        wrong += disagreements([(r, facts(r, per_head)) for r in of_env])
        for head in dict.fromkeys(r.head for r in of_env):
            of_head = [r for r in of_env if r.head == head]
            own = [{k: v for k, v in r.config.items() if is_of_the_head(k, per_head)} for r in of_head]
            wrong += disagreements(list(zip(of_head, own, strict=True)))
    wrong += disagreements(
        [(r, flatten({"versions": r.notes["versions"], "python": r.notes["python"]})) for r in records]
    )
    if wrong:
        found = list(dict.fromkeys(wrong))
        more = f"\n  and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise ConfigError(
            "these runs differ in more than their heads:\n  " + "\n  ".join(found[:SHOWN]) + more + "\n"
            "A key that each head has of its own, such as its learning rate, is declared with --per-head KEY,KEY"
        )
    check_complete(records)


def disagreements(of_runs: Sequence[tuple[Record, Mapping[str, Any]]]) -> list[str]:
    """Where a run says something else than the first, a line for each key."""
    first, expected = of_runs[0]
    lines: dict[str, str] = {}
    for record, given in of_runs[1:]:
        for key in [*expected, *given]:
            left, right = expected.get(key), given.get(key)
            if left != right and key not in lines:
                lines[key] = f"{key}: {shown(left)} ({first.source}), {shown(right)} ({record.source})"
    return list(lines.values())


def shown(value: Any) -> str:
    """A value in an error message, which must not be a page of steps."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:40]} ... {text[-16:]}"


def check_complete(records: Sequence[Record]) -> None:
    """Raise ConfigError unless every head has as many seeds in every environment, each once."""
    heads, envs = (list(dict.fromkeys(getattr(r, name) for r in records)) for name in ("head", "env"))
    for head in heads:
        seeds = {env: sorted(r.seed for r in records if (r.head, r.env) == (head, env)) for env in envs}
        for env, of_env in seeds.items():
            if len(set(of_env)) < len(of_env):
                twice = next(s for s in of_env if of_env.count(s) > 1)
                raise ConfigError(f"there are two runs of {head} on {env} with seed {twice}: a seed counts once")
        if differ(len(of_env) for of_env in seeds.values()):
            counts = ", ".join(f"{len(of_env)} on {env}" for env, of_env in seeds.items())
            raise ConfigError(f"{head} has not as many seeds in every environment: {counts}")


def per_head_settings(records: Sequence[Record], per_head: Collection[str]) -> list[dict[str, Any]]:
    """A row for each key that belongs to heads: what each head has, and where environments differ, by environment."""
    rows = []
    heads = list(dict.fromkeys(r.head for r in records))
    keys = sorted({k for r in records for k in r.config if is_of_the_head(k, per_head)} - {"head.name"})
    for key in keys:
        row: dict[str, Any] = {"setting": key}
        for head in heads:
            values = {r.env: r.config[key] for r in records if r.head == head and key in r.config}
            texts = {env: f"{v:g}" if isinstance(v, float) else str(v) for env, v in values.items()}
            one = len(set(texts.values())) <= 1
            row[head] = next(iter(texts.values()), "-") if one else ", ".join(f"{t} ({e})" for e, t in texts.items())
        rows.append(row)
    return rows
