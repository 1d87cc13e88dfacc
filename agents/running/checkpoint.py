"""Checkpoints: tensors and plain Python, written whole or not at all.

A run directory holds
    checkpoints/step-000020000.pt    everything but the rows of the replay, and the names of the segments it needs
    replay/1-000010000-000020000.pt  rows 10,000 to 20,000 of the replay in layout 1, written once, never changed;
                                     of many rows there are several files, as each is copied in memory
    best.pt                          the policy that evaluated best
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

FORMAT, VERSION = "classyq-checkpoint", 2
SEGMENT_BYTES = 2**28  # of one file, about: more would be copied at once when it is written and when it is read


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be written or read, in words for the user."""


class Segmented(Protocol):
    """A replay, as far as checkpoints are concerned."""

    rows: int
    num_rows: int

    def layout(self) -> int: ...
    def segment(self, start: int, stop: int) -> dict[str, Tensor]: ...
    def restore(self, start: int, stop: int, segment: dict[str, Tensor]) -> None: ...


def num_bytes(value: Any) -> int:
    """Bytes of the tensors within nested containers."""
    if isinstance(value, Tensor):
        return value.nbytes
    if isinstance(value, dict):
        value = value.values()
    return sum(num_bytes(v) for v in value) if not isinstance(value, str | bytes | int | float | None) else 0


def save(value: Any, path: Path) -> None:
    """Write so that `path` holds either what it held or all of `value`: write beside it, flush to disk, rename.

    Raises:
        CheckpointError: where there is too little space, or the disk refuses.
    """
    partial = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        needed, free = num_bytes(value) + 2**20, shutil.disk_usage(path.parent).free
        if needed > free:
            raise CheckpointError(f"{path} needs {needed / 1e6:.0f} MB, but {free / 1e6:.0f} MB of disk are free")
        with partial.open("wb") as file:
            torch.save(value, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except CheckpointError:
        raise
    except (OSError, RuntimeError) as error:  # what torch.save makes of a full disk is the second
        raise CheckpointError(f"{path} cannot be written: {error}") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def read(path: Path, *, mmap: bool = False) -> dict[str, Any]:
    """Read a file that `save` wrote with our header.

    Raises:
        CheckpointError: where it is missing, truncated, or of another program or version.
    """
    try:
        value = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # torch raises many kinds for a damaged file
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path} is missing, damaged or not a checkpoint of classyq ({reason[:100]})") from error
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not a checkpoint of classyq")
    if value["version"] != VERSION:
        raise CheckpointError(f"{path} has version {value['version']}, this classyq reads version {VERSION}")
    return value


def found(run_dir: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    return sorted((run_dir / "checkpoints").glob("step-*.pt"))


class Checkpointer:
    """Writes and reads the checkpoints of one run, and removes what is no longer needed."""

    def __init__(self, run_dir: Path, keep: int):
        self.run_dir, self.keep = run_dir, keep
        self.segments: list[tuple[int, int]] = []
        self.layout = 0

    def save(self, step: int, state: dict[str, Any], replay: Segmented | None) -> Path:
        """Write what is new of the replay, if there is one, as a segment; then the checkpoint that refers to it."""
        if replay is not None:
            self.save_segment(replay)
        path = self.run_dir / "checkpoints" / f"step-{step:012d}.pt"
        header = {"format": FORMAT, "version": VERSION, "step": step, "segments": self.segments, "layout": self.layout}
        save(header | state, path)
        self.prune()
        return path

    def save_segment(self, replay: Segmented) -> None:
        """Write the rows that no segment has yet, and forget the segments that have left the ring."""
        if replay.layout() != self.layout:
            self.layout, self.segments = replay.layout(), []
        oldest = max(0, replay.rows - replay.num_rows)
        start = max(oldest, self.segments[-1][1] if self.segments else 0)
        while start < replay.rows:
            stop = min(replay.rows, start + max(1, SEGMENT_BYTES // num_bytes(replay.segment(start, start + 1))))
            header = {"format": FORMAT, "version": VERSION}
            save(header | {"rows": replay.segment(start, stop)}, self.segment_path(self.layout, start, stop))
            self.segments = [*self.segments, (start, stop)]
            start = stop
        self.segments = [s for s in self.segments if s[1] > oldest]

    def segment_path(self, layout: int, start: int, stop: int) -> Path:
        return self.run_dir / "replay" / f"{layout}-{start:012d}-{stop:012d}.pt"

    def prune(self) -> None:
        """Remove checkpoints beyond the last `keep`, segments that none of those refers to, and half-written files."""
        for path in (*found(self.run_dir)[: -self.keep], *self.run_dir.glob("*/*.partial")):
            path.unlink()
        needed = set()
        for path in found(self.run_dir):
            with contextlib.suppress(CheckpointError):  # a damaged one keeps nothing alive
                state = read(path, mmap=True)
                needed |= {self.segment_path(state["layout"], a, b) for a, b in state["segments"]}
        for path in (self.run_dir / "replay").glob("*.pt"):
            if path not in needed:
                path.unlink()

    def load(self, path: Path) -> dict[str, Any]:
        """The state of a checkpoint; the replay's rows follow with `restore`.

        Raises:
            CheckpointError: where it cannot be used; the message names the one before, if there is one.
        """
        with self.offering_the_one_before(path):
            state = read(path)
            if "segments" not in state:
                raise CheckpointError(f"{path} holds a policy alone, which is not enough to go on from")
            self.layout, self.segments = state["layout"], [(a, b) for a, b in state["segments"]]
            missing = [p for s in self.segments if not (p := self.segment_path(self.layout, *s)).is_file()]
            if missing:
                raise CheckpointError(f"{path} needs {missing[0]}, which is gone")
        return state

    def restore(self, path: Path, replay: Segmented) -> None:
        """Give the replay back the rows of the checkpoint at `path`.

        Raises:
            CheckpointError: as `load`.
        """
        with self.offering_the_one_before(path):
            for start, stop in self.segments:
                replay.restore(start, stop, read(self.segment_path(self.layout, start, stop))["rows"])

    @contextlib.contextmanager
    def offering_the_one_before(self, path: Path) -> Iterator[None]:
        """Adds to an error which checkpoint there is before `path`."""
        try:
            yield
        except CheckpointError as error:
            before = [p for p in found(self.run_dir) if p.name < path.name]
            offer = f"; the one before it is {before[-1]}" if before else "; there is none before it"
            raise CheckpointError(f"{error}{offer}") from error

    def give_up_after(self, step: int) -> None:
        """Remove the checkpoints of later steps: the run goes on from `step`."""
        for path in found(self.run_dir):
            if int(path.stem.removeprefix("step-")) > step:
                path.unlink()
