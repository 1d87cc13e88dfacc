"""Data sets: what happened in an environment, recorded once and learned from without it.

A data set is a directory of `.npy` files and dataset.json, which says how to read them (docs/datasets.md). Rewards are
raw; n-step sums, clipping, normalisation and stacks of frames are made when it is learned from.

Dimensions: T rows (vector steps), N environments, A actions.
"""

import json
import os
import shutil
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field, ValidationError

from agents.replay.fixed import FixedReplay
from agents.replay.memory import ReplayTooLargeError
from agents.replay.uniform import UniformReplay
from agents.tables import ConfigError, Table

if TYPE_CHECKING:
    from agents.networks.qnetwork import EnvSpec

FORMAT, VERSION = "classyq-dataset", 1
DESCRIPTION = "dataset.json"


class Description(Table):
    """dataset.json: the shapes of the files, their checksums, and in words where they are from."""

    format: Literal["classyq-dataset"] = FORMAT
    version: Literal[1] = VERSION
    rows: int = Field(ge=1)
    num_envs: int = Field(ge=1)
    obs_shape: tuple[int, ...]
    obs_dtype: Literal["float32", "uint8", "bool"]
    num_actions: int = Field(ge=1)
    has_action_mask: bool = False
    stack: int = Field(default=1, ge=1, description="frames of an obs, of which the newest is kept; 1 is all")
    padding: Literal["repeat", "zeros"] = Field(default="repeat", description="of the first stack of an episode")
    crc32: dict[str, int] = Field(description="of every file, by its name")
    about: dict[str, Any] = Field(default={}, description="where the data are from; nothing here is relied upon")

    def shapes(self, num_ends: int) -> dict[str, tuple[Any, tuple[int, ...]]]:
        """Type and shape of each array, by the name of its file, for `num_ends` ends of episodes."""
        frame = self.obs_shape[1:] if self.stack > 1 else self.obs_shape
        each = (self.rows, self.num_envs)
        masks = ("mask", "next_mask") if self.has_action_mask else ()
        return {
            "obs": (self.obs_dtype, (*each, *frame)),
            "final_obs": (self.obs_dtype, (num_ends, *frame)),
            "action": ("int64", each),
            "reward": ("float32", each),
            "terminal": ("bool", each),
            "episode_end": ("bool", each),
            **dict.fromkeys(masks, ("bool", (*each, self.num_actions))),
        }


class Dataset(NamedTuple):
    """A data set on disk, nothing of it in memory."""

    path: Path
    description: Description
    fingerprint: int  # of dataset.json, and by the checksums there of everything

    @property
    def steps(self) -> int:
        return self.description.rows * self.description.num_envs

    def num_bytes(self) -> int:
        return sum(p.stat().st_size for p in self.path.iterdir())

    def array(self, name: str, num_ends: int) -> np.ndarray:
        """One array, mapped into memory.

        Raises:
            ConfigError: where the file is not the one that was recorded, or not what the description says.
        """
        path, (dtype, shape) = self.path / f"{name}.npy", self.description.shapes(num_ends)[name]
        try:
            if crc32(path) != self.description.crc32.get(path.name):
                raise ValueError(f"its CRC-32 is not the one in {DESCRIPTION}")
            array = np.load(path, mmap_mode="c", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise ConfigError(f"agent.dataset: {path} is missing or damaged: {error}") from error
        if (array.dtype, array.shape) != (np.dtype(dtype), shape):
            raise ConfigError(f"agent.dataset: {path} holds {array.dtype} {array.shape}, wanted {dtype} {shape}")
        return array

    def arrays(self) -> dict[str, np.ndarray]:
        """Every array by name, once it is known that they make sense.

        Raises:
            ConfigError: where they do not.
        """
        ends = self.array("episode_end", 0)
        if not ends[-1].all():
            raise ConfigError(
                f"agent.dataset: {self.path}: the last row must end the episode of every environment (episode_end), "
                "because nothing follows it"
            )
        found = {name: self.array(name, int(ends.sum())) for name in self.description.shapes(0)}
        if wrong := faults(found, self.description.num_actions):
            raise ConfigError(f"agent.dataset: {self.path}: {wrong[0]}")
        return found

    def episodes(self) -> list[list[float]]:
        """The raw rewards of every episode."""
        reward, ends = self.array("reward", 0), self.array("episode_end", 0)
        return [
            rewards.tolist()
            for env in range(self.description.num_envs)
            for rewards in np.split(reward[:, env], np.flatnonzero(ends[:, env]) + 1)
            if len(rewards)
        ]


def faults(arrays: dict[str, np.ndarray], num_actions: int) -> list[str]:
    """What cannot be true of a data set, in sentences."""
    action, mask = arrays["action"], arrays.get("mask")
    found = []
    if action.min() < 0 or action.max() >= num_actions:
        found.append(f"actions are in {action.min()} .. {action.max()}, wanted 0 .. {num_actions - 1}")
    elif mask is not None and not np.take_along_axis(mask, action[..., None], -1).all():
        found.append("an action was taken that its mask calls illegal")
    for name in ("obs", "final_obs", "reward"):
        if not np.isfinite([arrays[name].min(), arrays[name].max()]).all():  # both pass a NaN on
            found.append(f"{name} has numbers that are not finite")
    return found


def crc32(path: Path) -> int:
    """CRC-32 of a file, read in pieces."""
    checksum = 0
    with path.open("rb") as file:
        while piece := file.read(2**20):
            checksum = zlib.crc32(piece, checksum)
    return checksum


def check_new(path: Path) -> None:
    """Raise ConfigError where there is something already: a data set is written once."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ConfigError(f"{path} is there already, and a data set is never changed: give a new directory with --out")


def write(path: Path, replay: UniformReplay, spec: "EnvSpec", about: dict[str, Any]) -> Dataset:
    """Write all rows of a replay that has not gone around, and whose last row ends every episode.

    Raises:
        ConfigError: as `write_arrays`.
    """
    store, rows = replay.observations, replay.rows
    slots = store.final_slot[:rows]
    tensors = {name: getattr(replay, name)[:rows] for name in replay.row_names()}
    tensors |= {"obs": store.frames[:rows], "final_obs": store.finals[slots[slots >= 0]]}
    arrays = {name: tensor.cpu().numpy() for name, tensor in tensors.items()}
    padding = "zeros" if store.pad_zeros else "repeat"
    return write_arrays(path, arrays, spec, about, stack=store.stack, padding=padding)


def write_arrays(
    path: Path,
    arrays: dict[str, np.ndarray],
    spec: "EnvSpec",
    about: dict[str, Any],
    *,
    stack: int = 1,
    padding: Literal["repeat", "zeros"] = "repeat",
) -> Dataset:
    """Write the arrays of a data set (`Description.shapes`).

    It is there whole or not at all: written beside `path`, and renamed.

    Raises:
        ConfigError: where something is there already, or the disk refuses.
    """
    check_new(path)
    partial = path.resolve().with_name(f"{path.resolve().name}.partial")
    rows, num_envs = arrays["action"].shape
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for name, array in arrays.items():
            np.save(partial / f"{name}.npy", array)
        checksums = {p.name: crc32(p) for p in sorted(partial.iterdir())}
        description = Description(
            rows=rows,
            num_envs=num_envs,
            **spec._asdict(),
            stack=stack,
            padding=padding,
            crc32=checksums,
            about=about,
        )
        (partial / DESCRIPTION).write_text(description.model_dump_json(indent=1), encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        raise ConfigError(f"--out: {path} cannot be written: {error}") from error
    return find(path)


def find(path: Path | str) -> Dataset:
    """The data set in a directory.

    Raises:
        ConfigError: where there is none, or one that cannot be read.
    """
    if not str(path):
        raise ConfigError("agent.dataset is missing: the directory of a data set, which classyq record RUN makes")
    path = Path(path)
    try:
        text = (path / DESCRIPTION).read_bytes()
        data = json.loads(text)
    except (OSError, ValueError) as error:
        raise ConfigError(f"agent.dataset: {path} is no data set: {error}; classyq record RUN makes one") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ConfigError(f"agent.dataset: {path / DESCRIPTION} is not that of a data set of classyq")
    if data.get("version") != VERSION:
        raise ConfigError(
            f"agent.dataset: {path} has version {data.get('version')}, this classyq reads version {VERSION}"
        )
    try:
        description = Description.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise ConfigError(f"agent.dataset: {path / DESCRIPTION}: {key}: {first['msg']}") from error
    if description.stack not in (1, *description.obs_shape[:1]):
        raise ConfigError(
            f"agent.dataset: {path / DESCRIPTION}: stack is {description.stack}, "
            f"wanted 1 or the first of obs_shape {list(description.obs_shape)}"
        )
    return Dataset(path, description, zlib.crc32(text))


def load(
    dataset: Dataset, spec: "EnvSpec", *, n_step: int, gamma: float, seed: int, future_steps: int = 0
) -> FixedReplay:
    """A data set in memory, to be sampled from.

    Args:
        spec: of the environment that is learned for, which must be like the one that was recorded.
        n_step, gamma, seed, future_steps: as of `UniformReplay`.

    Raises:
        ConfigError: where the data are damaged, of another kind of environment, or more than fits.
    """
    about = dataset.description
    differ = [key for key, value in spec._asdict().items() if getattr(about, key) != value]
    if differ:
        was = ", ".join(f"{key} {getattr(about, key)} instead of {getattr(spec, key)}" for key in differ)
        raise ConfigError(f"agent.dataset: {dataset.path} is of another kind of environment: it has {was}")
    try:
        replay = FixedReplay(
            dataset.steps,
            about.num_envs,
            spec.obs_shape,
            getattr(torch, spec.obs_dtype),
            num_actions=spec.num_actions if spec.has_action_mask else None,
            n_step=n_step,
            gamma=gamma,
            future_steps=future_steps,
            share_frames=about.stack > 1,
            seed=seed,
        )
    except ReplayTooLargeError as error:
        reason = str(error).partition(";")[0].removeprefix("a replay of ")
        raise ConfigError(f"agent.dataset: {dataset.path} does not fit: {reason}") from error
    arrays = {name: torch.from_numpy(array) for name, array in dataset.arrays().items()}
    replay.fill(arrays, arrays.pop("final_obs"), stack=about.stack, pad_zeros=about.padding == "zeros")
    return replay
