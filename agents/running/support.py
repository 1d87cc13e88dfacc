"""The range of returns that bins cover, where the configuration leaves it to us."""

import gymnasium
import numpy as np

from agents.config import RunConfig
from agents.running import dataset
from agents.seeding import child_seed
from agents.tables import ConfigError
from envs import is_atari, make_env, make_vector
from envs.value_range import collect_episodes, suggest_support

PROBE_STEPS = 2_000


def resolve_support(config: RunConfig) -> tuple[RunConfig, str]:
    """The configuration with numbers in env.support, and in words where they are from.

    With normalised rewards, whose returns have a deviation of about 1, it is [-10, 10]. With rewards clipped to
    [-c, c] it is +-c / (1 - gamma), the largest return there is. An environment that knows its range has it as
    `return_range`; a tenth is added on both sides. Otherwise `envs.value_range.suggest_support` gives it for the
    episodes of the data set, where there is one, or of random play for PROBE_STEPS steps, in environments and with
    seeds of its own.
    """
    support, agent = config.env.support, config.agent
    if support != "auto":
        return config, "given"
    if agent.normalize_reward:
        return config.with_overrides({"env.support": [-10.0, 10.0]}), "auto: rewards are normalised"
    if agent.reward_clip is not None:
        bound = agent.reward_clip / (1 - agent.gamma)
        return config.with_overrides({"env.support": [-bound, bound]}), "auto: clipped reward / (1 - gamma)"
    try:
        return probe(config)
    except ConfigError:
        raise
    except (TypeError, ValueError, gymnasium.error.Error) as error:
        raise ConfigError(f"env: {error}") from error


def known_range(env: gymnasium.Env) -> tuple[float, float] | None:
    """The `return_range` of an environment, unless a wrapper changes its rewards. Closes it."""
    known = getattr(env.unwrapped, "return_range", None)
    wrapped = env
    while isinstance(wrapped, gymnasium.Wrapper):
        known = None if isinstance(wrapped, gymnasium.RewardWrapper) else known
        wrapped = wrapped.env
    env.close()
    return known


def probe(config: RunConfig) -> tuple[RunConfig, str]:
    """Ask the environment: what it says of itself, or what random play shows."""
    known = None if is_atari(config.env.id) else known_range(make_env(config.env.id, kwargs=config.env.kwargs))
    if known is not None:
        margin = 0.1 * (known[1] - known[0])
        return config.with_overrides({"env.support": [known[0] - margin, known[1] + margin]}), "auto: the environment"
    if (path := config.agent.options().get("dataset")) is not None:
        recorded = dataset.find(path)
        support = list(suggest_support(recorded.episodes(), config.agent.gamma))
        return config.with_overrides({"env.support": support}), f"auto: from the returns in {recorded.path}"
    seed = child_seed(config.seed, "probe")
    venv = make_vector(**config.env.arguments(frame_stack=None), seed=seed)
    try:
        episodes = collect_episodes(venv, PROBE_STEPS, np.random.default_rng(seed))
    finally:
        venv.close()
    support = list(suggest_support(episodes, config.agent.gamma))
    return config.with_overrides({"env.support": support}), f"auto: from {PROBE_STEPS:,} steps of random play"
