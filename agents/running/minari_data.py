"""Data sets from Minari and to Minari, the collection of recorded data of gymnasium's makers: an extra.

L steps of an episode, A actions.
"""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import torch

from agents.networks.qnetwork import EnvSpec
from agents.running import dataset
from agents.tables import ConfigError
from envs.spaces import converted_space, require_discrete

if TYPE_CHECKING:
    from agents.replay.fixed import FixedReplay


def minari_module() -> Any:
    """The package.

    Raises:
        ConfigError: where it is not installed.
    """
    try:
        import minari  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ConfigError(f"Minari cannot be used ({error}): pip install 'classyq[minari]'") from error
    return minari


def from_minari(name: str, out: Path) -> dataset.Dataset:
    """Write a data set of Minari's local store as ours, one episode after the other.

    Raises:
        ConfigError: where there is none, its spaces are not supported, or `out` is not new.
    """
    dataset.check_new(out)
    minari = minari_module()
    try:
        source = minari.load_dataset(name)
        box, discrete = converted_space(source.observation_space), require_discrete(source.action_space)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"minari:{name}: {error}") from error
    first = int(discrete.start)
    episodes = [arrays_of(episode, box.dtype, first) for episode in source.iterate_episodes()]
    arrays = {key: np.concatenate([episode[key] for episode in episodes]) for key in episodes[0]}
    spec = EnvSpec(box.shape, str(box.dtype), int(discrete.n), False)
    env = source.spec.env_spec
    return dataset.write_arrays(out, arrays, spec, {"minari": name, "env": {"id": env.id if env else None}})


def arrays_of(episode: Any, dtype: np.dtype, first_action: int) -> dict[str, np.ndarray]:
    """An episode of Minari as rows of one environment, [L, 1, ...]; where it just breaks off, it is cut."""
    obs = np.asarray(episode.observations).astype(dtype)  # [L + 1, *shape]
    ends = np.arange(len(episode)) == len(episode) - 1
    rows = {
        "obs": obs[:-1],
        "action": np.asarray(episode.actions).astype(np.int64) - first_action,
        "reward": episode.rewards.astype(np.float32),
        "terminal": episode.terminations.astype(bool),
        "episode_end": ends,
    }
    return {name: rows[name][:, None] for name in rows} | {"final_obs": obs[-1:]}


def to_minari(data: dataset.Dataset, name: str) -> None:
    """Write a data set into Minari's local store, its observations whole. Masks and lost lives have no place there.

    Raises:
        ConfigError: where the name is taken or not one of Minari's, or the data are damaged.
    """
    minari, about = minari_module(), data.description
    spec = EnvSpec(about.obs_shape, about.obs_dtype, about.num_actions, about.has_action_mask)
    replay = dataset.load(data, spec, n_step=1, gamma=0.0, seed=0)
    low, high = {"uint8": (0, 255), "bool": (0, 1)}.get(about.obs_dtype, (-np.inf, np.inf))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it does not know the author, and so on
            minari.create_dataset_from_buffers(
                name,
                [minari.data_collector.EpisodeBuffer(**episode) for episode in episodes_of(replay)],
                observation_space=gymnasium.spaces.Box(low, high, about.obs_shape, np.dtype(about.obs_dtype).type),
                action_space=gymnasium.spaces.Discrete(about.num_actions),
                description=f"recorded by classyq: {about.about}",
                jpeg_encoding=False,
            )
    except (OSError, ValueError) as error:
        raise ConfigError(f"--minari {name}: {error}") from error


def episodes_of(replay: "FixedReplay") -> list[dict[str, Any]]:
    """The episodes of every environment, with observations [L + 1, *shape]."""
    episodes = []
    for env in range(replay.num_envs):
        ends = replay.episode_end[: replay.rows, env].nonzero().squeeze(-1).tolist()
        for start, last in zip([0, *(end + 1 for end in ends[:-1])], ends, strict=True):
            rows = torch.arange(start, last + 1)
            steps = rows * replay.num_envs + env
            final = replay.observations.read_next(steps[-1:], torch.ones(1, dtype=torch.bool))
            terminated = (replay.terminal[rows, env] & replay.episode_end[rows, env]).numpy()
            episode = {
                "observations": torch.cat([replay.observations.read(steps), final]).numpy(),
                "actions": replay.action[rows, env].numpy(),
                "rewards": replay.reward[rows, env].numpy(),
                "terminations": terminated,
                "truncations": replay.episode_end[rows, env].numpy() & ~terminated,
                "infos": {},
            }
            episodes.append(episode)
    return episodes
