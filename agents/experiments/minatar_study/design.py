"""What was fixed before any reported seed was run: settings, rates that are tried, seeds, and the order of work.

A group is what is trained as one cohort and stored as one file: a game, a width and a head, with every rate of the
sweep or with every reported seed.
"""

import hashlib
import json
from typing import Any, NamedTuple

from agents.config import RunConfig
from agents.presets import flatten, override, read_preset

PRESET = "dqn_minatar"
STEPS, LOG_STEPS = 300_000, 10_000
SETTINGS = {
    "steps": STEPS,
    "agent.batch_size": 64,
    "log.every_steps": LOG_STEPS,
    "log.histogram_every_steps": STEPS,
    "evaluation.every_steps": STEPS,
    "evaluation.max_steps": 10_000,
}
GAMES = ("asterix", "breakout")
SUPPORTS = {"asterix": [-15.0, 15.0], "breakout": [-20.0, 20.0]}
"""By game: 1.5 times the largest discounted return that MSE saw in pilots (LOG.md), rounded up to a multiple of 5."""
WIDTHS = {
    "wide": {"torso.channels": [32], "output_layer.hidden": 256},
    "small": {"torso.channels": [16], "output_layer.hidden": 128},
}
HEADS = {
    "mse": {},
    "hl_gauss": {"head.num_bins": 51, "head.sigma_ratio": 0.75},
    "two_hot": {"head.num_bins": 51},
    "c51": {"head.num_bins": 51},
}
COMPARED = ("hl_gauss", "mse")  # the first against the second
BASE_RATES = {"mse": 5e-4, "hl_gauss": 1e-3, "two_hot": 1e-3, "c51": 1e-3}  # of the presets for MinAtar
FACTORS = (1, 2, 4)
SWEEP_SEEDS, SEEDS = range(101, 102), range(1, 9)
SWEEP, REPORTED = "sweep", "reported"


class Group(NamedTuple):
    """Runs that are trained as one."""

    stage: str  # SWEEP or REPORTED
    game: str
    width: str
    head: str

    @property
    def name(self) -> str:
        return "-".join(("minatar", *self))

    @property
    def sweep(self) -> "Group":
        """The group that finds the rate of this one."""
        return self._replace(stage=SWEEP)

    def settings(self) -> dict[str, Any]:
        """What all of its runs have in common, by dotted key, on top of the preset."""
        env = {"env.id": f"minatar/{self.game}", "env.support": SUPPORTS[self.game]}
        return {**SETTINGS, **env, **WIDTHS[self.width], "head.name": self.head, **HEADS[self.head]}

    def runs(self, rate: float | None) -> list[tuple[float, int]]:
        """Rate and seed of each run; `rate` is that of the reported runs."""
        if self.stage == SWEEP or rate is None:
            return [(BASE_RATES[self.head] * factor, seed) for factor in FACTORS for seed in SWEEP_SEEDS]
        return [(rate, seed) for seed in SEEDS]

    def config(self, rate: float, seed: int) -> RunConfig:
        return RunConfig.preset(PRESET, {**self.settings(), "agent.lr": rate, "seed": seed})

    def digest(self, rate: float) -> str:
        """Of all that the preset and this page say of a run but its seed.

        Settings that neither names are left out, so that a new one with a default makes no finished run another.
        """
        said = flatten(override(read_preset(PRESET), {**self.settings(), "agent.lr": rate}))
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]


def all_groups() -> list[Group]:
    """In the order of work: what is compared before the other heads, wide before small, each after its sweep."""
    others = [head for head in HEADS if head not in COMPARED]
    return [
        Group(stage, game, width, head)
        for heads in (COMPARED, others)
        for width in WIDTHS
        for stage in (SWEEP, REPORTED)
        for game in GAMES
        for head in heads
    ]
