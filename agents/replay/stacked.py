"""The replays of many runs side by side: one writes, one reads, and each still samples with a generator of its own.

Dimensions: S replays of N environments each, T rows, B batch.
"""

from collections.abc import Sequence

import numpy as np
import torch

from agents.replay.rows import ROW, Indices, RowWriter
from agents.replay.uniform import UniformReplay


class StackedReplay(UniformReplay):
    """S uniform replays as one of S * N environments, in which replay i has the columns i * N to (i + 1) * N.

    A batch of B is B transitions of each, one replay after the other: [S * B]. What each replay has drawn alone is
    drawn here, by its own generator. Its rows are views of these, so that they are never there twice; the rest of it
    is brought in with `take` and back with `give`.

    Raises:
        ValueError: replays that cannot lie side by side.
    """

    def __init__(self, replays: Sequence[UniformReplay]):
        first = replays[0]
        if any(type(replay) is not UniformReplay for replay in replays):
            raise ValueError(f"only uniform replays can lie side by side, got {type(first).__name__}")
        if first.observations.stack > 1 or first.observations.map_dir is not None:
            raise ValueError("replays of stacked frames or in a file cannot lie side by side: share_frames, map_dir")
        self.replays, self.envs_each = replays, first.num_envs
        super().__init__(
            first.num_rows * first.num_envs * len(replays),
            first.num_envs * len(replays),
            first.observations.obs_shape,
            first.observations.dtype,
            num_actions=None if first.mask is None else first.mask.shape[-1],
            n_step=first.n_step,
            future_steps=first.future_steps,
            device=first.device,
        )
        self.ended = np.zeros(len(replays), np.int64)  # episodes of each that have ended
        self.powers, self.gammas, self.steps_ahead = first.powers, first.gammas, first.steps_ahead
        for i, replay in enumerate(replays):
            for name in self.row_names():
                setattr(replay, name, getattr(self, name)[:, self.columns(i)])
            for name in ("frames", "age"):
                setattr(replay.observations, name, getattr(self.observations, name)[:, self.columns(i)])
            replay.write = RowWriter(*(getattr(replay, name) for name in ROW))
            replay.observations.keep_in(replay.observations.frames)

    def columns(self, i: int) -> slice:
        """The environments of replay i."""
        return slice(i * self.envs_each, (i + 1) * self.envs_each)

    def __len__(self) -> int:
        """How many transitions of each replay can be sampled."""
        return super().__len__() // len(self.replays)

    def add(
        self,
        obs: np.ndarray,
        action: np.ndarray,
        reward: np.ndarray,
        terminal: np.ndarray,
        episode_end: np.ndarray,
        next_obs: np.ndarray,
        next_mask: np.ndarray | None = None,
        mask: np.ndarray | None = None,
    ) -> None:
        super().add(obs, action, reward, terminal, episode_end, next_obs, next_mask, mask)
        self.ended += episode_end.reshape(len(self.replays), -1).sum(-1)
        for replay in self.replays:
            replay.rows = self.rows

    def draw(self, batch_size: int) -> Indices:
        """Where the transitions of the batches start, [S * B]: for each replay uniformly among its own."""
        first, stop = self.valid_rows()
        drawn = [
            torch.randint((stop - first) * self.envs_each, (batch_size,), generator=replay.generator)
            for replay in self.replays
        ]
        flat = torch.stack(drawn).to(self.device)  # [S, B], from 0 at the first valid row
        columns = torch.arange(len(self.replays), device=self.device).unsqueeze(-1) * self.envs_each
        rows, envs = first + flat // self.envs_each, columns + flat % self.envs_each
        return Indices.of(rows.flatten(), envs.flatten(), self.num_envs)

    def take(self) -> None:
        """Go on from what the replays know; their rows are here already.

        Raises:
            ValueError: replays that have not taken the same number of steps.
        """
        store, slots = self.observations, 0
        if len({replay.rows for replay in self.replays}) > 1:
            raise ValueError(f"replays with {[r.rows for r in self.replays]} rows cannot go on side by side")
        self.rows = store.num_written = self.replays[0].rows
        self.age = np.concatenate([replay.age for replay in self.replays])
        self.amended = {row: {} for replay in self.replays for row in replay.amended}
        self.ended = np.array([replay.observations.num_finals for replay in self.replays])
        finals = []
        for i, replay in enumerate(self.replays):
            own = replay.observations
            live = own.final_slot[own.final_slot >= 0]
            shift = slots - int(live.min()) if len(live) else 0
            store.final_slot[:, self.columns(i)] = torch.where(own.final_slot >= 0, own.final_slot + shift, -1)
            finals.append((live + shift, own.finals[live % len(own.finals)]))
            slots += len(live)
        store.oldest_final, store.num_finals = 0, slots
        store.finals = store.finals.new_zeros(max(64, 2 * slots), *store.frame_shape)
        for numbers, of_one in finals:
            store.finals[numbers] = of_one

    def give(self) -> None:
        """Bring the replays up to date.

        Final observations get the numbers that they would have in a replay alone, where each that comes has the next:
        rows that were saved before refer to them by number.
        """
        store = self.observations
        for i, replay in enumerate(self.replays):
            own, count = replay.observations, int(self.ended[i])
            replay.rows = own.num_written = self.rows
            replay.age = self.age[self.columns(i)].copy()
            replay.amended = {row: {} for row in self.amended}
            slots = store.final_slot[:, self.columns(i)].contiguous()
            live = slots[slots >= 0].sort().values  # the last that came, as rows are forgotten in order
            own.num_finals, own.oldest_final = count, count - len(live)
            own.final_slot = torch.where(slots >= 0, own.oldest_final + torch.searchsorted(live, slots), -1)
            own.keep_in(own.frames)
            own.finals = own.finals.new_zeros(max(64, 2 * len(live)), *own.frame_shape)
            numbers = torch.arange(own.oldest_final, own.num_finals, device=self.device)
            own.finals[numbers % len(own.finals)] = store.finals[live % len(store.finals)]
