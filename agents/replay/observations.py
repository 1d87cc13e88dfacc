"""Where replay keeps observations: whole, or as single frames from which stacks are rebuilt.

Dimensions: T rows of the ring, N environments, B batch, S frames of a stack (oldest first). A row is one vector step
and has an absolute number; it lies at `row % T`.

A stack shares S - 1 frames with the stack before it, so one frame a step is enough. Whether that is so is checked
when a step is added; where it is not, everything is kept whole from then on.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.replay.mapped import mapped_zeros
from agents.replay.memory import check_fits
from agents.replay.rows import RowWriter, put, take

Shape = Sequence[int]
NO_SLOT = np.array(-1)


def is_stack(obs_shape: Shape, frame_stack: int | None) -> bool:
    """Whether observations are stacks of frames: because we make them, or by their shape, [4, 84, 84]."""
    return frame_stack is not None or (len(obs_shape) >= 3 and obs_shape[0] < min(obs_shape[1:]))


class ObservationStore:
    """Observations of T rows and the true final observation of every episode that ended among them.

    Final observations lie in a ring of their own, `finals`, that grows as needed; `final_slot` [T, N] is the absolute
    number of a row's final observation, or -1. `age` [T, N] counts the steps since an episode began. With `map_dir`
    the observations of the rows, which are nearly everything, lie in a file there.

    Raises:
        ReplayTooLargeError: where they do not fit.
    """

    def __init__(
        self,
        rows: int,
        num_envs: int,
        obs_shape: Shape,
        dtype: torch.dtype,
        *,
        share_frames: bool,
        device: torch.device,
        map_dir: Path | None = None,
    ):
        self.num_rows, self.num_envs, self.obs_shape, self.dtype = rows, num_envs, tuple(obs_shape), dtype
        self.device, self.map_dir = device, map_dir
        self.may_look = device.type == "cpu"  # whether what is in a tensor may decide what is done: else it waits
        self.stack = obs_shape[0] if share_frames else 1
        self.pad_zeros = False
        self.age = torch.zeros(rows, num_envs, dtype=torch.int32, device=device)
        self.final_slot = torch.full((rows, num_envs), -1, dtype=torch.int64, device=device)
        self.keep_in(self.new_frames())
        self.finals = torch.zeros(64, *self.frame_shape, dtype=dtype, device=device)
        self.num_finals = 0
        self.oldest_final = 0
        self.num_written = 0
        self.first_whole = 0  # rows before this one lost frames of their stacks before `unshare` could rebuild them

    @property
    def frame_shape(self) -> tuple[int, ...]:
        return self.obs_shape[1:] if self.stack > 1 else self.obs_shape

    def new_frames(self) -> Tensor:
        """Zeros for what is stored of every row, [T, N, ...], once it is known that they fit."""
        bytes_per_step = math.prod(self.frame_shape) * self.dtype.itemsize
        check_fits(self.num_rows, self.num_envs, bytes_per_step, self.map_dir or self.device)
        shape = (self.num_rows, self.num_envs, *self.frame_shape)
        if self.map_dir is not None:
            return mapped_zeros(shape, self.dtype, self.map_dir)
        return torch.zeros(shape, dtype=self.dtype, device=self.device)

    def keep_in(self, frames: Tensor) -> None:
        """Take memory for what is stored of every row into use."""
        self.frames = frames
        self.write_row = RowWriter(frames, self.age, self.final_slot)

    def newest(self, obs: np.ndarray) -> np.ndarray:
        """What is stored of observations [N, *shape]."""
        return obs[:, -1] if self.stack > 1 else obs

    def shares_frames(self, obs: np.ndarray, next_obs: np.ndarray, age: np.ndarray) -> bool:
        """Whether this step can be rebuilt from single frames: older frames repeat, and a start is padded one way."""
        if not np.array_equal(next_obs[:, :-1], obs[:, 1:]):
            return False
        first = obs[age == 0]
        if len(first) == 0:
            return True
        repeated, zero = bool((first[:, :-1] == first[:, -1:]).all()), not first[:, :-1].any()
        if not self.num_written and zero and not repeated:
            self.pad_zeros = True
        return zero if self.pad_zeros else repeated

    def write(self, row: int, obs: np.ndarray, age: np.ndarray, done: np.ndarray, next_obs: np.ndarray) -> None:
        """Put observations [N, *shape] into a row, with the final ones where an episode is `done`."""
        at = row % self.num_rows
        self.num_written = row + 1
        self.write_row(at, self.newest(obs), age, NO_SLOT)
        if np.count_nonzero(done):
            self.write_finals(at, done, self.newest(next_obs))

    def write_finals(self, at: int, done: np.ndarray, newest: np.ndarray) -> None:
        ended = np.flatnonzero(done)
        self.make_room(len(ended))
        slots = np.arange(self.num_finals, self.num_finals + len(ended))
        put(self.final_slot[at], ended, slots)
        put(self.finals, slots % len(self.finals), newest[ended])
        self.num_finals += len(ended)

    def make_room(self, count: int) -> None:
        """Let the ring of final observations take `count` more: forget those whose row is gone, or grow."""
        if self.num_finals + count - self.oldest_final <= len(self.finals):
            return
        live = self.final_slot[self.final_slot >= 0]
        self.oldest_final = int(live.min()) if len(live) else self.num_finals
        needed = self.num_finals + count - self.oldest_final
        if needed > 0.75 * len(self.finals):
            slots = torch.arange(self.oldest_final, self.num_finals, device=self.device)
            kept = self.finals[slots % len(self.finals)]
            check_fits(2 * needed, 1, kept[:1].nbytes or 1, self.device)
            self.finals = torch.zeros(2 * needed, *self.frame_shape, dtype=self.dtype, device=self.device)
            self.finals[slots % len(self.finals)] = kept

    def read(self, step: Tensor, at: Tensor | None = None) -> Tensor:
        """Observations at steps [B] by their absolute numbers, which lie `at` these places: [B, *shape]."""
        at = self.place(step) if at is None else at
        if self.stack == 1:
            return take(self.frames, at)
        back = torch.arange(self.stack - 1, -1, -1, device=self.device)
        age = take(self.age, at).unsqueeze(-1)
        steps = step.unsqueeze(-1) - self.num_envs * torch.minimum(back, age)
        stacks = take(self.frames, self.place(steps))
        if self.pad_zeros:
            before_start = back > age
            if not self.may_look:
                return stacks * ~before_start[(..., *[None] * len(self.frame_shape))]
            if before_start.any():
                stacks[before_start] = 0
        return stacks

    def place(self, step: Tensor) -> Tensor:
        """Where steps [...], by their absolute numbers, lie in columns, see `take`."""
        return step % (self.num_rows * self.num_envs)

    def read_next(self, step: Tensor, ended: Tensor, after: Tensor | None = None) -> Tensor:
        """The true successors of steps [B]: the next row's observation, or the final one where `ended`.

        The next row lies at `after`, where that is known.
        """
        next_obs = self.read(step + self.num_envs, after)
        if not self.may_look:
            return self.with_finals(next_obs, step, ended)
        where = ended.nonzero().squeeze(-1)
        if len(where):
            next_obs.index_copy_(0, where, self.read_final(step.index_select(0, where)))
        return next_obs

    def with_finals(self, next_obs: Tensor, step: Tensor, ended: Tensor) -> Tensor:
        """`next_obs` [B, *shape] with final observations where `ended`, without waiting for the device to say where.

        It reads one for every step, which is any of the ring where there is none.
        """
        where = ended.view(-1, *[1] * len(self.obs_shape))
        return torch.where(where, self.read_final(step), next_obs)

    def read_final(self, step: Tensor) -> Tensor:
        """The final observations that steps [B] led to."""
        final = self.finals.index_select(0, take(self.final_slot, self.place(step)) % len(self.finals))
        return torch.cat([self.read(step)[:, 1:], final.unsqueeze(1)], 1) if self.stack > 1 else final

    def unshare(self, first_row: int, stop_row: int) -> None:
        """Keep whole observations from now on: rebuild the rows [first_row, stop_row) from their frames.

        Raises:
            ReplayTooLargeError: where whole observations do not fit.
        """
        whole = ObservationStore(
            self.num_rows,
            self.num_envs,
            self.obs_shape,
            self.dtype,
            share_frames=False,
            device=self.device,
            map_dir=self.map_dir,
        )
        self.first_whole = first_row + self.stack - 1 if first_row else 0
        whole.age, whole.final_slot = self.age, self.final_slot
        whole.finals = torch.zeros(len(self.finals), *self.obs_shape, dtype=self.dtype, device=self.device)
        everywhere = torch.arange(self.num_envs, device=self.device)
        for row in range(first_row, stop_row):
            steps = row * self.num_envs + everywhere
            whole.frames[row % self.num_rows] = self.read(steps)
            ended = self.final_slot[row % self.num_rows] >= 0
            if ended.any():
                slots = self.final_slot[row % self.num_rows][ended] % len(self.finals)
                whole.finals[slots] = self.read_next(steps[ended], ended[ended])
        self.stack, self.finals = 1, whole.finals
        self.keep_in(whole.frames)

    def segment(self, rows: Tensor) -> dict[str, Tensor]:
        """A copy of what lies in rows (absolute, [R]), to be given to `restore`."""
        at = rows % self.num_rows
        slots = self.final_slot[at]
        finals = self.finals[slots[slots >= 0] % len(self.finals)]
        return {"frames": self.frames[at], "age": self.age[at], "final_slot": slots, "finals": finals}

    def restore(self, rows: Tensor, segment: dict[str, Tensor]) -> None:
        """Put back what `segment` gave for the same rows."""
        at = rows % self.num_rows
        slots = segment["final_slot"]
        self.frames[at], self.age[at], self.final_slot[at] = segment["frames"], segment["age"], slots
        self.finals[slots[slots >= 0] % len(self.finals)] = segment["finals"]

    def state_dict(self) -> dict[str, Any]:
        names = ("stack", "pad_zeros", "num_written", "num_finals", "oldest_final", "first_whole")
        return {name: getattr(self, name) for name in names} | {"finals_capacity": len(self.finals)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the layout; rows follow by `restore`.

        Raises:
            ReplayTooLargeError: where the observations that are whole in it do not fit.
        """
        capacity, frame_shape = state["finals_capacity"], self.frame_shape
        for name in state.keys() - {"finals_capacity"}:
            setattr(self, name, state[name])
        if self.frame_shape != frame_shape:
            del self.frames, self.write_row  # before there are others, as both may not fit
            self.keep_in(self.new_frames())
        self.final_slot.fill_(-1)
        self.finals = torch.zeros(capacity, *self.frame_shape, dtype=self.dtype, device=self.device)
