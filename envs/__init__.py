"""Environments: finding one by its id, and N of them behind one contract (`envs.vector`)."""

import functools
import hashlib
import importlib
import importlib.metadata
import sys
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium

from envs.atari_protocol import AtariProtocol, make_protocol
from envs.deep_sea import DeepSea
from envs.doors import Doors
from envs.episodes import Episode, EpisodeStatistics
from envs.gymnasium_vector import GymnasiumVector
from envs.joined import JoinedVector
from envs.names import did_you_mean
from envs.toy import Catch, Chain, Identity, Recall
from envs.vector import Step, VectorEnv, episode_seed

__all__ = [
    "ENVS",
    "Episode",
    "EpisodeStatistics",
    "GymnasiumVector",
    "JoinedVector",
    "Step",
    "UnknownEnvironment",
    "VectorEnv",
    "episode_seed",
    "is_atari",
    "list_envs",
    "make_env",
    "make_vector",
]

EnvFactory = Callable[..., gymnasium.Env]

ENVS: dict[str, EnvFactory] = {
    "catch": Catch,
    "chain": Chain,
    "deep_sea": DeepSea,
    "doors": Doors,
    "identity": Identity,
    "recall": Recall,
}
MINATAR_GAMES = ("asterix", "breakout", "freeway", "seaquest", "space_invaders")
MINATAR = {f"minatar/{game}": game for game in MINATAR_GAMES}
"""Ids of our own MinAtar; `MinAtar/Asterix-v1` and so on are those of the original's package."""
ENTRY_POINT_GROUP = "classyq.envs"
REGISTERED_BY = {"MinAtar/": ("minatar.gym", "register_envs", "pip install 'classyq[minatar]'")}
"""Ids that gymnasium knows only after their package was asked to register them, by what they begin with."""


class UnknownEnvironment(ValueError):
    """An environment id that leads nowhere."""


def list_envs() -> list[str]:
    """Ids of the built-ins, of the entry points and of what gymnasium has registered, each group sorted."""
    return [*sorted(ENVS), *MINATAR, *sorted(_entry_points().names), *sorted(gymnasium.registry)]


def make_env(
    env_id: str,
    *,
    render_mode: str | None = None,
    protocol: str | None = None,
    kwargs: dict[str, Any] | None = None,
) -> gymnasium.Env:
    """One environment.

    Args:
        env_id: a built-in name, the name of an entry point in the group classyq.envs, `./file.py:Name`,
            `package.module:Name`, or a gymnasium id; looked up in this order. Name is a callable that makes
            an environment, or a gymnasium id that the module registers.
        render_mode: passed on only if given, and not to `minatar/...`, which draws nothing beyond what is observed.
        protocol: see `make_vector`.
        kwargs: further arguments for the environment; of an Atari game, changes of its protocol's fields.

    Raises:
        UnknownEnvironment: the id leads nowhere.
        TypeError: it leads to something that is no gymnasium environment.
        ValueError: an option is out of range, or a protocol is given for anything but an Atari game.
    """
    if is_atari(env_id):
        from envs.atari_game import AtariGame

        return AtariGame(env_id, protocol=_atari_protocol(protocol, kwargs or {}), render_mode=render_mode)
    _refuse_protocol(env_id, protocol)
    arguments = dict(kwargs or {})
    if env_id in MINATAR:
        from envs.minatar import MinAtarEnv

        return MinAtarEnv(MINATAR[env_id], **arguments)
    if render_mode is not None:
        arguments["render_mode"] = render_mode
    env = _resolved(env_id)(**arguments)
    if not isinstance(env, gymnasium.Env):
        raise TypeError(f"{env_id!r} made {type(env).__name__}, wanted a gymnasium.Env")
    return env


def make_vector(
    env_id: str,
    *,
    num_envs: int = 1,
    seed: int = 0,
    max_steps: int | None = None,
    frame_stack: int | None = None,
    render_mode: str | None = None,
    protocol: str | None = None,
    kwargs: dict[str, Any] | None = None,
) -> VectorEnv:
    """`num_envs` environments in lockstep; see `make_env` for the ids, `GymnasiumVector` for the rest.

    Args:
        protocol: for Atari games (`ALE/...`), a name in `envs.atari_protocol.PROTOCOLS`; `machado` if none is given.
            There, `kwargs` are changes of the protocol's fields, and num_threads.
        kwargs: for `minatar/...`, options of `envs.minatar.MinAtarVector`.

    Raises:
        UnknownEnvironment: the id leads nowhere.
        TypeError: it leads to something that is no gymnasium environment.
        ValueError: an option is out of range, a protocol is given for anything but an Atari game, or frame_stack for
            `minatar/...`.
    """
    if is_atari(env_id):
        options = dict(kwargs or {}) | ({} if frame_stack is None else {"frame_stack": frame_stack})
        return _atari_vector(env_id, num_envs, seed, max_steps, render_mode, protocol, options)
    _refuse_protocol(env_id, protocol)
    if env_id in MINATAR:
        from envs.minatar import minatar_vector  # which needs torch

        options = dict(kwargs or {}) | {"num_envs": num_envs, "seed": seed, "max_steps": max_steps}
        return minatar_vector(MINATAR[env_id], frame_stack, **options)
    envs = [make_env(env_id, render_mode=render_mode, kwargs=kwargs) for _ in range(num_envs)]
    return GymnasiumVector(envs, seed=seed, max_steps=max_steps, frame_stack=frame_stack)


def is_atari(env_id: str) -> bool:
    """Whether the id is that of an Atari game."""
    return env_id.startswith("ALE/")


def _atari_vector(
    env_id: str,
    num_envs: int,
    seed: int,
    max_steps: int | None,
    render_mode: str | None,
    protocol: str | None,
    options: dict[str, Any],
) -> VectorEnv:
    from envs.atari import AtariVector  # ale_py takes half a second to import
    from envs.atari_game import game_vector

    num_threads = options.get("num_threads", 0)
    choices = _atari_protocol(protocol, options)
    if (choices.mode, choices.difficulty, render_mode) != (None, None, None):
        return game_vector(
            env_id, num_envs=num_envs, seed=seed, max_steps=max_steps, protocol=choices, render_mode=render_mode
        )
    return AtariVector(
        env_id, num_envs=num_envs, seed=seed, max_steps=max_steps, protocol=choices, num_threads=num_threads
    )


def _atari_protocol(name: str | None, options: dict[str, Any]) -> AtariProtocol:
    changes = {key: value for key, value in options.items() if key != "num_threads"}
    return make_protocol(name or "machado", **changes)


def _refuse_protocol(env_id: str, protocol: str | None) -> None:
    if protocol is not None:
        raise ValueError(f"{env_id!r} is no Atari game (ALE/...), so it has no protocol, got {protocol!r}")


def _resolved(env_id: str) -> EnvFactory:
    if env_id in ENVS:
        return ENVS[env_id]
    if env_id in _entry_points().names:
        return _entry_points()[env_id].load()
    place, colon, name = env_id.rpartition(":")
    if colon:
        module = _module_from_file(env_id, place) if place.endswith(".py") else _module(env_id, place)
        return _from_module(env_id, module, name)
    _ask_to_register(env_id)
    if env_id in gymnasium.registry:
        return _registered(env_id)
    raise UnknownEnvironment(
        f"unknown environment {env_id!r}, wanted a built-in name ({', '.join(ENVS)}), an entry point of "
        f"{ENTRY_POINT_GROUP}, ./file.py:Name, package.module:Name or a gymnasium id with its version"
        f"{did_you_mean(env_id, list_envs())}"
    )


def _entry_points() -> importlib.metadata.EntryPoints:
    return importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)


def _ask_to_register(env_id: str) -> None:
    for prefix, (module, function, remedy) in REGISTERED_BY.items():
        if env_id.startswith(prefix) and env_id not in gymnasium.registry:
            try:
                getattr(importlib.import_module(module), function)()
            except ModuleNotFoundError as error:
                raise UnknownEnvironment(f"{env_id!r} is in a package that is not installed: {remedy}") from error


def _registered(env_id: str) -> EnvFactory:
    return functools.partial(gymnasium.make, env_id, disable_env_checker=True)


def _module_from_file(env_id: str, place: str) -> ModuleType:
    path = Path(place).resolve()
    if not path.is_file():
        raise UnknownEnvironment(f"unknown environment {env_id!r}: there is no file {path}")
    # the path makes the name unique; under a name in sys.modules its classes can be pickled
    module_name = f"env_file_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    if module_name in sys.modules:
        return sys.modules[module_name]
    module = ModuleType(module_name)
    module.__file__ = str(path)
    sys.modules[module_name] = module
    try:
        SourceFileLoader(module_name, str(path)).exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
    return module


def _module(env_id: str, place: str) -> ModuleType:
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{place}.".startswith(f"{error.name}."):
            raise  # the module is there, but something it imports is not
        raise UnknownEnvironment(f"unknown environment {env_id!r}: {error}") from error


def _from_module(env_id: str, module: ModuleType, name: str) -> EnvFactory:
    if callable(getattr(module, name, None)):
        return getattr(module, name)
    if name in gymnasium.registry:
        return _registered(name)
    callables = [key for key, value in vars(module).items() if callable(value)]
    raise UnknownEnvironment(
        f"unknown environment {env_id!r}: {module.__file__} has no callable {name!r} "
        f"and registers no such id{did_you_mean(name, [*callables, *gymnasium.registry])}"
    )
