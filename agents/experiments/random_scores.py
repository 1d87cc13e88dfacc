"""Random play of Atari games against the published scores of random play, and the page that reports it.

    python -m agents.experiments.random_scores

The published scores are of another protocol. Where ours are far from them, the games are played again with one of the
differences undone at a time, and with all of them.
"""

import importlib.metadata
import platform
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer

from agents.config import RunConfig
from agents.networks.qnetwork import EnvSpec, make_network
from agents.running.evaluation import Policy, evaluate, make_evaluation_env
from agents.seeding import child_seed
from envs.atari_protocol import make_protocol
from envs.atari_scores import SCORES

GAMES = (
    "Pong", "Breakout", "Freeway", "Boxing", "SpaceInvaders", "Asterix",
    "Qbert", "Seaquest", "BattleZone", "DoubleDunk", "NameThisGame", "Phoenix",
)  # fmt: skip
FAR = 3.0  # standard errors
AGAIN = 2  # times as many games where the gap is to be explained

ONE_BY_ONE: dict[str, dict[str, Any]] = {
    "sticky 0": {"repeat_action_probability": 0.0},
    "6 frames a step": {"frame_skip": 6},
    "0 to 30 no-ops": {"noop_max": 31},
    "18,000 frames": {"max_frames": 18_000},
    "18 actions": {"full_action_space": True},
}
ALL = {key: value for change in ONE_BY_ONE.values() for key, value in change.items()}
CHANGES = {"nothing": {}} | ONE_BY_ONE | {"all but 18 actions": ALL | {"full_action_space": False}, "all": ALL}

PUBLISHED = """\
The published scores (`envs/atari_scores.py`) are of Mnih et al. 2015, and for Phoenix of Wang et al. 2016; no error is
given beside them. They are of another protocol: an emulator that always obeys, a new action at 10 Hz, which is every
sixth frame, games that begin with up to 30 no-ops and last at most 5 minutes, which is 18,000 frames; and of ALE as it
was then. As far as they are means of 30 games too, a gap in standard errors is to be divided by another 1.4."""


class Score(NamedTuple):
    """Random play of some games."""

    returns: list[float]
    lengths: list[int]  # steps
    num_cut: int  # games ended by the limit of frames

    @property
    def mean(self) -> float:
        return float(np.mean(self.returns))

    @property
    def std(self) -> float:
        """Of single games, with n - 1."""
        return float(np.std(self.returns, ddof=1))

    @property
    def error(self) -> float:
        """Standard error of the mean."""
        return self.std / len(self.returns) ** 0.5

    def gap(self, published: float) -> float:
        """Mean - published, in standard errors; of scores that are all alike, 0 or infinite."""
        difference = self.mean - published
        return difference / self.error if self.error else float(np.sign(difference)) * np.inf if difference else 0.0


def play(game: str, changes: Mapping[str, Any], num_episodes: int, seed: int) -> Score:
    """Whole games with uniformly drawn actions, under `machado` with some of its fields changed."""
    protocol = make_protocol("machado", **changes)
    config = RunConfig.parse(
        {
            "env": {"id": f"ALE/{game}-v5", "protocol": "machado", "support": (-1.0, 1.0), "kwargs": dict(changes)},
            "evaluation": {"max_steps": -(-protocol.max_frames // protocol.frame_skip)},  # no other limit
            "head": "mse",
            "torso": {"name": "mlp", "hidden": []},  # the least that there is: nobody asks it
        }
    )
    with closing(make_evaluation_env(config, num_envs=1, seed=seed)) as venv:
        spec = EnvSpec.of(venv)
    policy = Policy(make_network(config, spec), config, spec)
    result = evaluate(policy, num_episodes=num_episodes, seed=child_seed(seed, "random scores"), epsilon=1.0)
    return Score(result.returns, result.lengths, result.num_cut)


def is_far(game: str, score: Score) -> bool:
    return abs(score.gap(SCORES[game][0])) > FAR


def measure(
    games: Sequence[str], num_episodes: int, seed: int, say: Callable[[str], None]
) -> tuple[dict[str, Score], dict[str, dict[str, Score]]]:
    """Scores by game; and, where they are far from what is published, by game and change, of AGAIN times as many."""

    def played(game: str, change: str, times: int) -> Score:
        score = play(game, CHANGES[change], times * num_episodes, seed)
        say(f"{game}, changed: {change}: {in_words(game, score)}")
        return score

    scores = {game: played(game, "nothing", 1) for game in games}
    far = [game for game in games if is_far(game, scores[game])]
    return scores, {game: {change: played(game, change, AGAIN) for change in CHANGES} for game in far}


def in_words(game: str, score: Score) -> str:
    """Mean ± standard error (gap)."""
    return f"{score.mean:,.2f} ± {score.error:,.2f} ({score.gap(SCORES[game][0]):+.1f})"


def differ(one: Score, other: Score) -> bool:
    """Whether two means are more than FAR standard errors of their difference apart."""
    return abs(one.mean - other.mean) > FAR * float(np.hypot(one.error, other.error))


def report(scores: Mapping[str, Score], changed: Mapping[str, Mapping[str, Score]], command: str) -> str:
    """The page, in Markdown."""
    num_games = {len(score.returns) for score in scores.values()}
    lines = [
        "# Is random play worth here what the human-normalised scores take it for?",
        "",
        f"Made by `{command}`; the same seed gives the same numbers. {' or '.join(map(str, sorted(num_games)))} whole",
        "games each with uniformly drawn actions. Protocol: " + make_protocol("machado").describe() + ".",
        "",
        "| game | mean | standard error | sd | steps a game | longest | cut | published | gap in standard errors |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for game, score in scores.items():
        published = SCORES[game][0]
        lines.append(
            f"| {game} | {score.mean:,.2f} | {score.error:,.2f} | {score.std:,.2f} | {np.mean(score.lengths):,.0f} | "
            f"{max(score.lengths):,} | {score.num_cut} | {published:,.1f} | {score.gap(published):+.1f} |"
        )
    longest = max(max(score.lengths) for score in scores.values())
    frames = longest * make_protocol("machado").frame_skip
    lines += [
        "",
        f"The longest game took {longest:,} steps, {frames:,} frames; *cut* counts games that the limit ended.",
    ]
    lines += ["", *PUBLISHED.splitlines(), "", *_gaps(changed)]
    versions = f"ale-py {importlib.metadata.version('ale-py')}, numpy {np.__version__}"
    lines += ["", f"{versions}, Python {platform.python_version()}."]
    return "\n".join(lines) + "\n"


def _gaps(changed: Mapping[str, Mapping[str, Score]]) -> list[str]:
    if not changed:
        return [f"No game is further than {FAR:g} standard errors from what is published."]
    lines = [
        f"## The games that are further than {FAR:g} standard errors away",
        "",
        f"Mean ± standard error (gap in standard errors) of {AGAIN} times as many games, with one of the differences",
        "undone at a time, and then together.",
        "",
        f"| changed | {' | '.join(changed)} |",
        f"|---|{'---|' * len(changed)}",
    ]
    for name in CHANGES:
        lines.append(f"| {name} | {' | '.join(in_words(game, row[name]) for game, row in changed.items())} |")
    lines.append("")
    for game, row in changed.items():
        near = [name for name, score in row.items() if not is_far(game, score)]
        found = f"within {FAR:g} standard errors with: {', '.join(near)}" if near else "**with no change within reach**"
        shown = ", ".join(name for name, score in row.items() if differ(score, row["nothing"]))
        lines += [
            f"* {game} (published {SCORES[game][0]:,.1f}): {found}. More than {FAR:g} standard errors of the "
            f"difference away from the score with nothing changed: {shown or 'none, so that no cause is shown'}."
        ]
    return lines


def main(
    episodes: Annotated[int, typer.Option(min=2, help="games of each kind")] = 30,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    out: Annotated[Path, typer.Option(help="where the page goes")] = Path("docs/results"),
) -> None:
    """Play Atari games at random, and write a page that compares the scores with the published ones."""
    command = "python -m agents.experiments.random_scores"
    command += "" if (episodes, seed) == (30, 0) else f" --episodes {episodes} --seed {seed}"
    page = report(*measure(GAMES, episodes, seed, typer.echo), command)
    out.mkdir(parents=True, exist_ok=True)
    (out / "random.md").write_text(page, encoding="utf-8")
    typer.echo(f"wrote {out / 'random.md'}")


if __name__ == "__main__":
    typer.run(main)
