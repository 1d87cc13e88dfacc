"""Uniform replay of n-step transitions from N environments that step together.

Dimensions: T rows, N environments, B batch, n steps of a return, M members of an ensemble. Row t holds what every
environment did at vector step t. A transition starts at (t, env) and runs until n steps are done, the value is
terminal, or the episode ends.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from agents.learning.batch import Batch
from agents.replay.host import HostReader
from agents.replay.mapped import usable_directory
from agents.replay.memory import check_fits
from agents.replay.observations import ObservationStore, Shape
from agents.replay.rows import ROW, Indices, RowWriter, sent, take


class Ahead(NamedTuple):
    """What n steps led to, [B] each."""

    reward: Tensor  # discounted, summed
    discount: Tensor  # gamma**n * (1 - terminal)
    last: Tensor  # the last of these steps
    at_last: Tensor  # its place


class UniformReplay:
    """The last `capacity_steps` transitions, each equally likely to be sampled.

    Args:
        capacity_steps: transitions kept, over all environments (rounded up to whole rows). The newest n_step rows (or
            future_steps), and the oldest that lack a frame of their stack, cannot be sampled.
        obs_shape, obs_dtype: of one observation.
        num_actions: given where the environment says which actions are legal, to keep those masks.
        num_members, bootstrap_probability: where the second is below 1, a mask is drawn for every transition as it is
            added: each member learns from it with that probability, now or never.
        n_step, gamma: rewards are summed over up to n_step steps, and the discount is gamma**(steps realised);
            `set_returns` changes both, up to this n_step.
        future_steps: how many steps after a transition's first are given as its future, for who predicts them.
        share_frames: try to keep one frame a step of observations [S, ...] that are stacks.
        map_dir: a directory for a file that holds the observations, of a replay on the CPU that shall not take memory.
        seed: of the sampling generator.

    Raises:
        ReplayTooLargeError: before anything is allocated.
        ValueError: where `map_dir` cannot be used.
    """

    bytes_beside = 0  # what a subclass keeps for every step

    def __init__(
        self,
        capacity_steps: int,
        num_envs: int,
        obs_shape: Shape,
        obs_dtype: torch.dtype,
        *,
        num_actions: int | None = None,
        num_members: int = 1,
        bootstrap_probability: float = 1.0,
        n_step: int = 1,
        gamma: float = 0.99,
        future_steps: int = 0,
        share_frames: bool = False,
        device: torch.device | str = "cpu",
        map_dir: str | None = None,
        seed: int = 0,
    ):
        self.device = device = torch.device(device)
        self.num_envs, self.n_step, self.future_steps = num_envs, n_step, future_steps
        self.horizon = max(n_step, future_steps)  # steps that must be there after a transition's observation
        least = self.horizon + (obs_shape[0] if share_frames else 1) + 1
        self.num_rows = T = max(math.ceil(capacity_steps / num_envs), least)
        frame = math.prod(obs_shape[1:] if share_frames else obs_shape) * obs_dtype.itemsize
        masked = bootstrap_probability < 1
        beside = 8 + 4 + 1 + 1 + 4 + 8 + 2 * (num_actions or 0) + masked * num_members + self.bytes_beside
        directory = None if map_dir is None else usable_directory(map_dir, device)
        check_fits(T, num_envs, beside + (frame if directory is None else 0), device)
        self.observations = ObservationStore(
            T, num_envs, obs_shape, obs_dtype, share_frames=share_frames, device=device, map_dir=directory
        )
        self.action = torch.zeros(T, num_envs, dtype=torch.int64, device=device)
        self.reward = torch.zeros(T, num_envs, device=device)
        self.terminal = torch.zeros(T, num_envs, dtype=torch.bool, device=device)
        self.episode_end = torch.zeros(T, num_envs, dtype=torch.bool, device=device)
        # Both masks, because neither is in a neighbouring row where an episode begins or ends.
        self.mask, self.next_mask = (
            torch.ones(T, num_envs, num_actions, dtype=torch.bool, device=device) if num_actions else None
            for _ in range(2)
        )
        self.bootstrap_probability = bootstrap_probability
        self.bootstrap_mask = torch.ones(T, num_envs, num_members, dtype=torch.bool, device=device) if masked else None
        self.write = RowWriter(*(getattr(self, name) for name in ROW))
        self.set_returns(n_step, gamma)
        self.generator = torch.Generator().manual_seed(seed)
        self.rows = 0  # absolute number of the next row
        self.age = np.zeros(num_envs, np.int32)
        self.amended: dict[int, dict[str, Tensor]] = {}  # rows that `cut` changed after a segment may have had them

    def set_returns(self, n_step: int, gamma: float) -> None:
        """From now on rewards are summed over up to `n_step` steps, with `gamma`.

        Which transitions can be sampled stays as it was: those that have the largest n before them.

        Raises:
            ValueError: where that is not enough for `n_step`.
        """
        if not 1 <= n_step <= self.n_step:
            raise ValueError(f"n_step is {n_step}, wanted 1 to {self.n_step}, which this replay was made for")
        self.powers = gamma ** np.arange(n_step + 1, dtype=np.float64)
        self.gammas = torch.from_numpy(self.powers).to(self.device)
        self.steps_ahead = torch.arange(n_step, device=self.device)

    def __len__(self) -> int:
        """How many transitions can be sampled."""
        first, stop = self.valid_rows()
        return max(0, stop - first) * self.num_envs

    def valid_rows(self) -> tuple[int, int]:
        """Absolute rows [first, stop) from which a whole transition, with its stack and its successor, is there."""
        first = max(0, self.rows - self.num_rows)
        first += self.observations.stack - 1 if first else 0
        return max(first, self.observations.first_whole), self.rows - self.horizon

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
        """One step of every environment, arrays [N, ...]. `next_obs` is the true successor, also at an episode's end.

        `terminal` ends the value (no bootstrapping); `episode_end` ends stacks and n-step sums. A lost life is the
        first without the second, a time limit the second without the first. The masks [N, A] say which actions are
        legal in `next_obs` and in `obs`; without one, all are.
        """
        store = self.observations
        if store.stack > 1 and not store.shares_frames(obs, next_obs, self.age):
            store.unshare(max(0, self.rows - self.num_rows), self.rows)
        at = self.rows % self.num_rows
        store.write(self.rows, obs, self.age, episode_end, next_obs)
        self.write(at, action, reward, terminal, episode_end)
        if self.mask is not None and self.next_mask is not None:
            self.next_mask[at] = True if next_mask is None else torch.from_numpy(next_mask)
            self.mask[at] = True if mask is None else torch.from_numpy(mask)
        if self.bootstrap_mask is not None:
            uniform = torch.rand(self.bootstrap_mask.shape[1:], generator=self.generator)
            self.bootstrap_mask[at] = sent(uniform < self.bootstrap_probability, self.device)
        self.rows += 1
        self.age += 1
        self.age[episode_end] = 0

    def sample(self, batch_size: int) -> tuple[Batch, Indices]:
        """`batch_size` transitions, drawn with replacement from all that are valid, and where they start.

        Raises:
            ValueError: where there are none yet.
        """
        if len(self) == 0:
            raise ValueError(f"replay has no whole transition yet: {self.rows} rows for {self.n_step}-step returns")
        indices = self.draw(batch_size)
        return self.gather(indices), indices

    def draw(self, batch_size: int) -> Indices:
        """Where the transitions of a batch start: uniformly among the valid."""
        first, stop = self.valid_rows()
        low, high = first * self.num_envs, stop * self.num_envs
        step = torch.randint(low, high, (batch_size,), generator=self.generator)
        return Indices(sent(step, self.device), self.num_envs)

    def gather(self, indices: Indices) -> Batch:
        """The transitions that start at `indices`."""
        if self.observations.may_look and not self.future_steps:
            return HostReader(self).gather(indices.step.numpy())
        step, place = indices.step, self.observations.place
        reward, discount, last, at_last = self.look_ahead(step)
        at, after = at_last if last is step else place(step), place(last + self.num_envs)
        ended = take(self.episode_end, at_last)
        return Batch(
            obs=self.observations.read(step, at),
            action=take(self.action, at),
            reward=reward,
            discount=discount,
            next_obs=self.observations.read_next(last, ended, after),
            weight=torch.ones_like(reward),
            next_action=take(self.action, after).masked_fill(ended, -1),
            next_mask=None if self.next_mask is None else take(self.next_mask, at_last),
            mask=None if self.mask is None else take(self.mask, at),
            bootstrap_mask=None if self.bootstrap_mask is None else take(self.bootstrap_mask, at),
            **(self.future(step) if self.future_steps else {}),
        )

    def future(self, step: Tensor) -> dict[str, Tensor]:
        """What came after steps [B]: the fields of a batch that begin with `future_`."""
        steps = step.unsqueeze(-1) + self.num_envs * torch.arange(self.future_steps, device=self.device)  # [B, K]
        at = self.observations.place(steps)
        goes_on = ~(take(self.terminal, at) | take(self.episode_end, at))
        return {
            "future_obs": self.observations.read((steps + self.num_envs).flatten()).unflatten(0, steps.shape),
            "future_action": take(self.action, at),
            "future_mask": goes_on.long().cumprod(-1).bool(),
        }

    def look_ahead(self, step: Tensor, limit: Tensor | None = None) -> Ahead:
        """The rewards of up to n steps from steps [B] on, at most `limit` [B] of them."""
        place = self.observations.place
        if len(self.steps_ahead) == 1:
            at = place(step)
            return Ahead(take(self.reward, at), torch.where(take(self.terminal, at), 0.0, self.powers[1]), step, at)
        at = place(step.unsqueeze(-1) + self.num_envs * self.steps_ahead)  # [B, n]
        stops = (take(self.terminal, at) | take(self.episode_end, at)).long()
        taken = (stops.cumsum(-1) - stops) == 0  # no stop before this step
        if limit is not None:
            taken &= self.steps_ahead < limit.unsqueeze(-1)
        length = taken.sum(-1)
        reward = (take(self.reward, at).double() * taken * self.gammas[:-1]).sum(-1).float()
        last = step + self.num_envs * (length - 1)
        at_last = place(last)
        discount = (self.gammas[length] * ~take(self.terminal, at_last)).float()
        return Ahead(reward, discount, last, at_last)

    def metrics(self) -> dict[str, float]:
        """Scalars by TensorBoard tag."""
        return {}

    def layout(self) -> int:
        """Frames of a shared stack, 1 where observations are whole: segments of another layout do not fit."""
        return self.observations.stack

    def cut(self, env: int, obs: np.ndarray) -> None:
        """End the running episode of one environment as truncated at `obs` [*shape], its true last observation."""
        if self.age[env] == 0:
            return
        done = np.arange(self.num_envs) == env
        at = (self.rows - 1) % self.num_rows
        self.episode_end[at, env] = True
        newest = self.observations.newest(np.broadcast_to(obs, (self.num_envs, *obs.shape)).copy())
        self.observations.write_finals(at, done, newest)
        self.age[env] = 0
        self.amended[self.rows - 1] = {}

    def segment(self, start: int, stop: int) -> dict[str, Tensor]:
        """A copy of rows [start, stop): what a checkpoint stores once and never again."""
        rows = torch.arange(start, stop, device=self.device)
        own = {name: getattr(self, name)[rows % self.num_rows] for name in self.row_names()}
        return own | self.observations.segment(rows)

    def restore(self, start: int, stop: int, segment: dict[str, Tensor]) -> None:
        """Put rows [start, stop) back, as far as they are still within the ring and with what was `cut` since."""
        self.put(start, stop, segment)
        for row, amended in self.amended.items():
            if start <= row < stop:
                self.put(row, row + 1, amended)

    def put(self, start: int, stop: int, segment: dict[str, Tensor]) -> None:
        keep = max(start, self.rows - self.num_rows)
        if keep >= stop:
            return
        rows = torch.arange(keep, stop, device=self.device)
        skipped_finals = int((segment["final_slot"][: keep - start] >= 0).sum())
        finals = segment["finals"][skipped_finals:]
        segment = {name: value[keep - start :] for name, value in segment.items()} | {"finals": finals}
        for name in self.row_names():
            getattr(self, name)[rows % self.num_rows] = segment[name].to(self.device)
        self.observations.restore(rows, {k: v.to(self.device) for k, v in segment.items()})

    def row_names(self) -> list[str]:
        masks = [] if self.next_mask is None else ["next_mask", "mask"]
        bootstrap = [] if self.bootstrap_mask is None else ["bootstrap_mask"]
        return [*ROW, *masks, *bootstrap]

    def state_dict(self) -> dict[str, Any]:
        """All but the rows, which go by `segment`; only those that were cut are here, as older segments lack that."""
        kept = [row for row in self.amended if row >= self.rows - self.num_rows]
        self.amended = {row: self.segment(row, row + 1) for row in kept}
        return {
            "rows": self.rows,
            "num_rows": self.num_rows,
            "age": self.age.tolist(),
            "generator": self.generator.get_state(),
            "observations": self.observations.state_dict(),
            "amended": dict(self.amended),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the state; the rows follow by `restore`."""
        self.rows, self.age = state["rows"], np.array(state["age"], np.int32)
        self.generator.set_state(state["generator"])
        self.observations.load_state_dict(state["observations"])
        self.amended = dict(state["amended"])
