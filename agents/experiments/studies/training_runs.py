"""Studies of training runs: many of them that answer one question, and the page that reports all of them.

    classyq study cartpole --jobs 2

A run that is finished is not trained again, so a study that was interrupted goes on with the same command.
"""

from collections.abc import Callable
from pathlib import Path

import typer

from agents.experiments.curves import plot_curves
from agents.experiments.jobs import train_all
from agents.experiments.miniature import miniature, recipes
from agents.experiments.study import Arm, Cell, Recorded, Study, data_dir, finished_curves, make_cells
from agents.experiments.study_page import LAST_20, report
from agents.running.record import record
from agents.running.runs import read_summary
from agents.tables import ConfigError, nearest
from value_heads import HEADS

ONE, THREE, FIVE, TWENTY = range(1, 2), range(1, 4), range(1, 6), range(1, 21)

RANDOM_PONG = "Random play scores -20.5 ± 0.1 with this protocol ([random.md](random.md), 30 games)."
UPDATES = "A step is an update: nothing is played in training."
HEADS_OFFLINE = [Arm(head, {"head": head}, FIVE) for head in ("hl_gauss", "mse")]

# The parts of the recipes with the short-budget settings of the preset `pong`; DQN and Rainbow share its rate for MSE.
PONG_DQN = {"head.name": "mse", "steps": 300_000}
PONG_RAINBOW = {
    "steps": 300_000,
    "head.name": "c51",
    "target_rule.name": "q_learning",
    "agent.lr": 1e-4,
    "agent.adam_eps": 1.5e-4,
    "replay.name": "prioritized",
    "replay.priority": "loss",
    "replay.exponent": 0.5,
    "replay.epsilon": 1e-10,
    "replay.importance_exponent": 0.5,
}
# A step of PQN costs 1.92 ms of CPU time and one of DQN 9.5 ms: as many steps as make the times equal.
PONG_PQN = {
    "steps": 1_440_000,
    "env.num_envs": 32,
    "head.name": "mse",
    "torso.layer_norm": True,
    "output_layer.layer_norm": True,
    "agent.name": "pqn",
    "agent.optimizer": "radam",
    "agent.lr": 2.5e-4,
    "agent.adam_eps": 1e-8,
    "agent.max_grad_norm": 20.0,
    "agent.rollout_steps": 32,
    "agent.num_epochs": 2,
    "agent.num_minibatches": 8,
    "agent.trace_decay": 0.65,
    "exploration.epsilon_steps": 144_000,
    "evaluation.every_steps": 240_000,
    "log.every_steps": 10_000,
}
# Frames of Pong hardly differ: pixels as they are gave the same answer to every one for thousands of updates (LOG.md).
PONG_CQL = {
    "steps": 20_000,
    "agent.name": "cql",
    "agent.normalize_obs": True,
    "agent.n_step": 3,
    "agent.batch_size": 32,
    "agent.target_every_updates": 500,
    "regularizers.cql.alpha": 0.1,
    "evaluation.every_steps": 4_000,
    "checkpoint.every_steps": 10_000,
    "log.every_steps": 500,
    "log.histogram_every_steps": 5_000,
}


def recipes_study() -> Study:
    """Every recipe in a small world."""
    return Study(
        "Does every recipe learn?",
        "catch",
        [Arm(name, miniature(name), THREE, preset=name) for name in recipes()],
        threshold=0.9,
        digits=1,
        what="recipe",
        shared=(
            "Every recipe for Atari with its own head, layers, encoder, target rule, n, gamma, optimiser, replay and "
            "noise, and with the sizes and the rhythm of a small world: two frames of the board of Catch, batches and "
            "epsilon of the presets `catch` (twice as long) and `pqn_catch`, eight times the learning rate of each DQN "
            "and twice that of each PQN, and at most 51 bins (`agents/experiments/miniature.py`). It "
            "says that the parts fit and learn, and nothing about which recipe is better."
        ),
    )


STUDIES: dict[str, Study | Callable[[], Study]] = {
    "cartpole": Study(
        "Does every value head learn CartPole-v1 with one and the same configuration?",
        "cartpole",
        [
            Arm("hl_gauss", {}, TWENTY),
            *(Arm(name, {"head.name": name}, FIVE) for name in HEADS if name not in ("hl_gauss", "categorical")),
            Arm("hl_gauss, distribution", {"head.bootstrap": "distribution", "head.allow_biased": True}, FIVE),
            Arm("hl_gauss, ordinal_bce", {"head.loss": "ordinal_bce"}, FIVE),
        ],
        threshold=450.0,
    ),
    "pong": Study(
        "Does a DQN learn Pong with 400,000 decisions on one core?",
        "pong",
        [Arm("hl_gauss", {}, ONE), Arm("mse", {"head.name": "mse"}, ONE)],
        curve=LAST_20,
        digits=1,
        note=RANDOM_PONG,
    ),
    "pong_family": Study(
        "DQN, Rainbow and PQN on Pong, for the same CPU time",
        "pong",
        [Arm("rainbow", PONG_RAINBOW, ONE), Arm("pqn", PONG_PQN, ONE), Arm("dqn", PONG_DQN, ONE)],
        curve=LAST_20,
        digits=1,
        what="agent",
        note=RANDOM_PONG,
        shared=(
            "`dqn` is the preset `pong` with MSE: double Q-learning, n = 3. `rainbow` has the parts of the recipe of "
            "that name, C51, n = 3 and prioritised replay, and is otherwise the same, its learning rate too (both "
            "300,000 steps). `pqn` has the parts and the rate of its recipe, with 32 environments and 8 minibatches, "
            "and 1,440,000 steps: as many as took the same CPU time when both were measured side by side. All three "
            "play by the protocol `machado`."
        ),
    ),
    "offline_catch": Study(
        "CQL with HL-Gauss and with MSE, from recorded games of Catch",
        "cql_catch",
        HEADS_OFFLINE,
        digits=1,
        threshold=0.9,
        data=Recorded("catch", {"seed": 1}, "study-offline_catch/source", steps=10_000, epsilon=0.5),
        note=UPDATES,
    ),
    "offline_pong": Study(
        "CQL with HL-Gauss and with MSE, from recorded games of Pong",
        "pong",
        [Arm(arm.label, {**PONG_CQL, **arm.overrides}, ONE) for arm in HEADS_OFFLINE],
        digits=1,
        shared="The preset `pong` with the agent `cql`, alpha 0.1, normalised observations and 20,000 updates; the "
        "learning rate is that of each head in that preset.",
        data=Recorded("pong", {"head": "mse", "seed": 1}, "study-pong/mse/s1", steps=100_000, epsilon=0.1),
        note=f"{UPDATES} {RANDOM_PONG}",
    ),
    "recipes": recipes_study,
}


def find_study(name: str) -> Study:
    """A study by name; one that takes a second to describe is described now.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in STUDIES:
        raise ConfigError(f"unknown study {name!r}{nearest(name, STUDIES)}")
    study = STUDIES[name]
    return study if isinstance(study, Study) else study()


def cells(name: str, root: Path) -> list[Cell]:
    """All runs of a study."""
    return make_cells(name, find_study(name), root)


def prepare(name: str, data: Recorded, root: Path) -> None:
    """Make the data set of a study, if it is not there, and train the policy of its run, if that is not."""
    run_dir, out = root / data.run, data_dir(name, root)
    if out.exists():
        return
    if read_summary(run_dir) is None and train_all([data.config()], [run_dir], 1):
        raise SystemExit(f"the run that is to be recorded failed: {run_dir / 'log.txt'}")
    typer.echo(f"recording {data.steps:,} steps of {run_dir}")
    record(run_dir, out, steps=data.steps, epsilon=data.epsilon, seed=1)


def answer(name: str, jobs: int, root: Path, out: Path) -> None:
    """Train what is missing of a study, and write its page."""
    study = find_study(name)
    every = make_cells(name, study, root)
    if study.data is not None:
        prepare(name, study.data, root)
    todo = [cell for cell in every if cell.summary() is None]
    if todo and train_all([c.config for c in todo], [c.run_dir for c in todo], jobs):
        raise SystemExit("some runs failed: see their log.txt; the same command tries them again")
    out.mkdir(parents=True, exist_ok=True)
    command = f"classyq study {name} --jobs {jobs}"
    (out / f"{name}.md").write_text(report(name, study, root, command), encoding="utf-8")
    plot_curves(finished_curves(every), out / f"{name}.png", study.curve)
    typer.echo(f"wrote {out / name}.md and {out / name}.png")
