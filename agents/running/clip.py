"""Recording a policy at play: what is seen, what it predicts, and the returns that followed.

T decisions, A actions, K atoms, H height, W width.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from agents.running import drawing
from agents.running.camera import Camera
from agents.running.drawing import Moment
from agents.running.evaluation import Decision, Policy, play
from agents.tables import ConfigError
from envs import VectorEnv
from value_heads import Atoms

NEGLIGIBLE = 0.01  # weight of what is predicted in a return that is called realised


class Played(NamedTuple):
    """An episode of a clip, or the part of one that was played."""

    score: float  # sum of raw rewards
    length: int
    over: bool


class Clip(NamedTuple):
    """What was recorded; series are [T], of the decisions drawn."""

    moments: list[Moment]
    predicted: np.ndarray  # value of the chosen action
    realised: np.ndarray
    borrowed: np.ndarray  # weight in `realised` of a value predicted where an episode was cut
    ends: np.ndarray  # bool, the episode ends with this decision
    played: list[Played]


class Outcome(NamedTuple):
    """What a decision led to, for the returns."""

    reward: float  # raw
    terminal: bool  # nothing follows
    cut: bool  # something would follow, but is not known
    after: float  # where it was cut, the value of the state reached
    done: bool


def record(
    policy: Policy,
    venv: VectorEnv,
    camera: Camera,
    rng: np.random.Generator,
    *,
    episodes: int = 1,
    start: int = 0,
    steps: int = 500,
    epsilon: float = 0.0,
) -> Clip:
    """Draw `steps` decisions at most from number `start` on, and play on until their returns are known to NEGLIGIBLE.

    Raises:
        ConfigError: the episodes are over before `start`, or there is nothing to see.
    """
    gamma, stop = policy.config.agent.gamma, start + steps
    last = stop + (math.ceil(math.log(NEGLIGIBLE) / math.log(gamma)) if gamma > 0 else 0)
    names = venv.action_names or [f"action {a}" for a in range(venv.num_actions)]
    moments: list[Moment] = []
    outcomes: list[Outcome] = []  # from `start` on
    played: list[Played] = []
    score, length, t = 0.0, 0, 0
    for decision in play(policy, venv, rng, epsilon=epsilon, look=camera):
        step, drawn, episode = decision.step, start <= t < stop, len(played) + 1 if episodes > 1 else None
        if drawn:
            moments.append(moment_of(decision, names, t - start, headline(episode, length, score)))
        score, length, t = score + float(step.reward[0]), length + 1, t + 1
        done = bool(step.done[0])
        over = (done and (len(played) + 1 >= episodes or t >= stop)) or t >= last
        if t > start:
            outcomes.append(outcome_of(policy, venv, decision, over=over))
        if drawn and done:
            picture, text = shrunk(camera(step.next_obs)), f"over   {headline(episode, length, score)}"
            moments.append(moments[-1]._replace(picture=picture, headline=text, over=True))
        if t <= stop and (done or t == stop):
            played.append(Played(score, length, done))
        if done:
            score, length = 0.0, 0
        if over:
            break
    if not moments:
        raise ConfigError(f"--start {start}: what is played is over after {t} decisions")
    return clip_of(policy, moments, outcomes, played)


def headline(episode: int | None, length: int, score: float) -> str:
    """Where the clip is, in words."""
    which = f"episode {episode}   " if episode is not None else ""
    return f"{which}step {length:,}   score {score:g}"


def moment_of(decision: Decision, names: Sequence[str], index: int, text: str) -> Moment:
    """The picture of a decision, number `index` of those drawn."""
    with torch.inference_mode():
        atoms, q_values = decision.values.distribution(), decision.values.mean()
    first = Atoms(atoms.values[0].cpu(), atoms.probs[0].cpu())
    action, q = int(decision.action[0]), q_values[0].cpu().numpy()
    return Moment(shrunk(decision.picture), names, first, q, action, index, text)


def shrunk(picture: np.ndarray) -> np.ndarray:
    """A picture [H, W, 3] no larger than it is drawn."""
    if picture.shape[1] <= drawing.SCENE[0] and picture.shape[0] <= drawing.SCENE[1]:
        return picture
    return np.asarray(drawing.fit(Image.fromarray(picture), drawing.SCENE))


def outcome_of(policy: Policy, venv: VectorEnv, decision: Decision, *, over: bool) -> Outcome:
    """What the last decision of `venv` led to; `over` says that none follows in the recording."""
    step = decision.step
    terminal, done = bool(step.terminal[0]), bool(step.done[0])
    cut, after = (done or over) and not terminal, 0.0
    if cut:
        q_values, legal = policy.q_values(step.next_obs)[0].cpu().numpy(), venv.action_mask
        after = float(q_values.max() if legal is None else q_values[legal[0]].max())
    return Outcome(float(step.reward[0]), terminal, cut, after, done)


def clip_of(policy: Policy, moments: list[Moment], outcomes: list[Outcome], played: list[Played]) -> Clip:
    """The clip, once what came after its last picture is known too."""
    reward, terminal, cut, after, done = (np.array(column) for column in zip(*outcomes, strict=True))
    gamma, num_drawn = policy.config.agent.gamma, moments[-1].at + 1
    realised = realised_returns(policy.learning_reward(reward), terminal, cut, after, gamma)
    borrowed = realised_returns(np.zeros_like(reward), terminal, cut, np.ones_like(after), gamma)
    predicted = np.array([float(m.q_values[m.action]) for m in moments if not m.over])
    return Clip(moments, predicted, realised[:num_drawn], borrowed[:num_drawn], done[:num_drawn], played)


def realised_returns(
    reward: np.ndarray, terminal: np.ndarray, cut: np.ndarray, after: np.ndarray, gamma: float
) -> np.ndarray:
    """G_t = r_t + gamma (1 - terminal_t) G_{t+1}, with after_t instead of G_{t+1} where cut_t; float64 [T].

    Args:
        reward: [T], as learned from.
        terminal: bool [T], nothing follows.
        cut: bool [T], what follows is not known.
        after: [T], the value of the state that a cut decision led to.

    Raises:
        ValueError: the last decision is neither terminal nor cut.
    """
    if not (terminal[-1] or cut[-1]):
        raise ValueError("the last decision is neither terminal nor cut: what follows it?")
    returns, following = np.zeros(len(reward)), 0.0
    for t in reversed(range(len(reward))):
        if terminal[t]:
            following = 0.0
        elif cut[t]:
            following = after[t]
        following = reward[t] + gamma * following
        returns[t] = following
    return returns
