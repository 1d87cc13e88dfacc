"""Offline data sets: transitions recorded once and learned from without an environment.

A data set is a directory: `dataset.json` says what was recorded, `checkpoints/` holds the state of a replay and
`replay/` its rows, as in the checkpoint of a run (docs/datasets.md). Rewards are raw; n-step sums, clipping and frame
stacks are made when it is learned from.

N environments, A actions.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from agents.replay.uniform import UniformReplay
from agents.running.checkpoint import Checkpointer, CheckpointError, found
from agents.running.metrics import write_whole
from agents.tables import ConfigError

if TYPE_CHECKING:
    from agents.networks.qnetwork import EnvSpec

FORMAT, VERSION = "classyq-dataset", 1
DESCRIPTION = "dataset.json"


class Dataset(NamedTuple):
    """What a data set says of itself, and where it is."""

    path: Path
    description: dict[str, Any]

    @property
    def steps(self) -> int:
        return self.description["steps"]


def write(path: Path, replay: UniformReplay, description: dict[str, Any]) -> Dataset:
    """Write a replay as a data set into `path`, which must be new or empty.

    Raises:
        ConfigError: where something is there already.
        CheckpointError: where it cannot be written.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ConfigError(f"--out: {path} is there already; give a new directory")
    steps = replay.rows * replay.num_envs
    Checkpointer(path, keep=1).save(steps, {"replay": replay.state_dict()}, replay)
    whole = {"format": FORMAT, "version": VERSION, "steps": steps, "num_envs": replay.num_envs} | description
    write_whole(path / DESCRIPTION, json.dumps(whole, indent=1))
    return Dataset(path, whole)


def find(path: Path) -> Dataset:
    """The data set in `path`.

    Raises:
        ConfigError: where there is none, or one of another version.
    """
    try:
        description = json.loads((path / DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"agent.dataset: {path} is no data set ({error}); classyq record RUN makes one") from None
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise ConfigError(f"agent.dataset: {path}/{DESCRIPTION} is not of a data set of classyq")
    if description.get("version") != VERSION:
        raise ConfigError(
            f"agent.dataset: {path} has version {description.get('version')}, this classyq reads version {VERSION}"
        )
    return Dataset(path, description)


def load(dataset: Dataset, spec: "EnvSpec", *, n_step: int, gamma: float, seed: int, **options: Any) -> UniformReplay:
    """A replay that holds a data set and has room for nothing else.

    Args:
        spec: of the environment that the policy will be evaluated in; it must be like the one that was recorded.
        options: device and map_dir of `UniformReplay`.

    Raises:
        ConfigError: where the data are of another kind of environment.
        CheckpointError: where they are damaged.
    """
    recorded = dataset.description["spec"]
    if recorded != json.loads(json.dumps(spec._asdict())):
        differ = [key for key, value in spec._asdict().items() if recorded.get(key) != json.loads(json.dumps(value))]
        raise ConfigError(
            f"agent.dataset: {dataset.path} was recorded in {dataset.description['env']['id']} with another "
            f"{', '.join(differ)} than the environment of this run: "
            + ", ".join(f"{key} {recorded.get(key)} instead of {getattr(spec, key)}" for key in differ)
        )
    paths = found(dataset.path)
    if not paths:
        raise CheckpointError(f"{dataset.path} has lost its checkpoints/, so its rows cannot be read")
    checkpointer = Checkpointer(dataset.path, keep=1)
    state = checkpointer.load(paths[-1])["replay"]
    replay = UniformReplay(
        state["num_rows"] * dataset.description["num_envs"],
        dataset.description["num_envs"],
        spec.obs_shape,
        getattr(torch, spec.obs_dtype),
        num_actions=spec.num_actions if spec.has_action_mask else None,
        n_step=n_step,
        gamma=gamma,
        share_frames=state["observations"]["stack"] > 1,
        seed=seed,
        **options,
    )
    generator = replay.generator.get_state()
    replay.load_state_dict(state)
    replay.generator.set_state(generator)  # how it is sampled is up to this run
    checkpointer.restore(paths[-1], replay)
    return replay
