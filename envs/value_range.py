"""A first guess at the range of returns, from the rewards of random play."""

import math

import numpy as np

from envs.vector import VectorEnv

LONGER = 10  # a good policy is taken to last this many times longer than random play


def random_actions(venv: VectorEnv, rng: np.random.Generator) -> np.ndarray:
    """One uniformly drawn legal action for each environment, int64 [N]."""
    scores = rng.random((venv.num_envs, venv.num_actions))
    mask = venv.action_mask
    if mask is not None:
        scores[~mask] = -1.0
    return scores.argmax(axis=1)


def collect_episodes(venv: VectorEnv, steps: int, rng: np.random.Generator) -> list[list[float]]:
    """Rewards of each episode under random legal actions, the unfinished last ones included.

    Args:
        venv: reset here, so that it starts at episode 0.
        steps: environment steps, over all environments together; rounded up to whole vector steps.
        rng: draws the actions.

    Raises:
        ValueError: steps < 1.
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}, wanted at least 1")
    episodes: list[list[float]] = []
    running: list[list[float]] = [[] for _ in range(venv.num_envs)]
    venv.reset()
    for _ in range(math.ceil(steps / venv.num_envs)):
        step = venv.step(random_actions(venv, rng))
        for index, reward in enumerate(step.reward.tolist()):
            running[index].append(reward)
            if step.done[index]:
                episodes.append(running[index])
                running[index] = []
        venv.reset_done(step.done)
    return episodes + [rewards for rewards in running if rewards]


def suggest_support(episodes: list[list[float]], gamma: float) -> tuple[float, float]:
    """A support (v_min, v_max) that should hold the returns of better and worse policies than the one seen.

    With G_t the discounted return from step t to the end of its episode, m the mean reward of an episode and L its
    length, candidates are 0, every G_t, and m (1 - gamma^(10 L)) / (1 - gamma): what the episode would give if it
    went on like that for ten times as long (CartPole: up to 100 at gamma 0.99, where random play sees 40).
    Their range is widened by a tenth on both sides, because HL-Gauss is biased near the edges of its support, and
    rounded outwards to two significant digits. It is too wide where episodes are short by nature and rewarded at
    their end; give the true range there. All rewards 0: (-1, 1).

    Args:
        episodes: the rewards of each episode.
        gamma: discount, 0 <= gamma < 1.

    Raises:
        ValueError: no rewards at all, or gamma out of range.
    """
    if not 0.0 <= gamma < 1.0:
        raise ValueError(f"gamma is {gamma}, wanted 0 <= gamma < 1")
    if not any(episodes):
        raise ValueError("got no rewards, wanted at least one")
    candidates = [0.0]
    for rewards in filter(None, episodes):
        mean = sum(rewards) / len(rewards)
        candidates.append(mean * (1.0 - gamma ** (LONGER * len(rewards))) / (1.0 - gamma))
        discounted_return = 0.0
        for reward in reversed(rewards):
            discounted_return = reward + gamma * discounted_return
            candidates.append(discounted_return)
    low, high = min(candidates), max(candidates)
    if low == high:
        return -1.0, 1.0
    margin = 0.1 * (high - low)
    return -_rounded_up(margin - low), _rounded_up(high + margin)


def _rounded_up(value: float) -> float:
    """The next number with two significant digits, for value > 0."""
    digits = 1 - math.floor(math.log10(value))
    # to 6 places first: 11.000000000000002 is 11 with a rounding error, not a reason for 12
    return round(math.ceil(round(value * 10.0**digits, 6)) / 10.0**digits, max(digits, 0))
