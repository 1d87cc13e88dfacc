"""Prioritised replay of sequences, for networks with a memory (Kapturowski et al. 2019, R2D2).

Dimensions: R rows of the ring, N environments, B batch, T steps of a trace, L burn-in steps before it, S numbers of a
recurrent state. A sequence is named by the (row, env) where its trace starts; its steps lie in the ring as in any
other replay, so sequences that overlap share them.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.learning.batch import SequenceBatch
from agents.learning.returns import sequence_priority
from agents.replay.observations import Shape
from agents.replay.prioritized import PrioritizedReplay
from agents.replay.rows import Indices, take


class SequenceReplay(PrioritizedReplay):
    """Sequences within episodes, sampled in proportion to priority**exponent.

    A trace starts at every `period_steps`-th step of an episode, from its first on, and is `trace_steps` long, or
    ends earlier with its episode; so every step of an episode is trained on. It comes with the `burn_in_steps` before
    it, or none where it starts with its episode, whose state is known. The recurrent state of acting is kept for every
    step. Priorities are eta max |td_error| + (1 - eta) mean |td_error| over a trace, in units of return; a sequence
    that no update has seen yet has the largest so far.

    Source: Kapturowski et al. 2019, s. 2.3 and table 2; burn-in and stored states s. 3. Where it leaves the paper: it
    takes first priorities from its actors, and its sequences are of one length. Acme pads the last of an episode
    behind, as here, and never trains on the first burn-in steps of an episode, which here start a trace.

    Args:
        state_size: S, given by the agent; 4 S bytes are kept for every step.
        burn_in_steps: L, at most period_steps, so that a trace has all of them or starts with its episode.
        trace_steps: T.
        period_steps: from the start of a trace to the next, at most trace_steps.
        eta: share of the maximum in a priority.
        exponent: 0 is uniform, 1 is proportional to the priority.
        importance_exponent: how much of the bias of sampling is corrected; see `PrioritizedReplay`.
        replay: the arguments of `PrioritizedReplay`.

    Raises:
        ValueError: where an option is out of its range.
        ReplayTooLargeError: before anything is allocated.
    """

    def __init__(
        self,
        capacity_steps: int,
        num_envs: int,
        obs_shape: Shape,
        obs_dtype: torch.dtype,
        *,
        state_size: int = 0,
        burn_in_steps: int = 40,
        trace_steps: int = 80,
        period_steps: int = 40,
        eta: float = 0.9,
        exponent: float = 0.9,
        importance_exponent: float = 0.6,
        **replay: Any,
    ):
        if state_size < 1:
            raise ValueError("replay 'sequences' keeps recurrent states: it is for an agent with a memory (r2d2)")
        if not 0 <= burn_in_steps <= period_steps <= trace_steps or period_steps < 1:
            raise ValueError(
                f"burn_in_steps {burn_in_steps}, period_steps {period_steps} and trace_steps {trace_steps}: wanted "
                "0 <= burn_in_steps <= period_steps <= trace_steps, and a period of at least 1"
            )
        if not 0 <= eta <= 1:
            raise ValueError(f"eta {eta} is not between 0 and 1")
        self.burn_in, self.trace, self.period, self.eta = burn_in_steps, trace_steps, period_steps, eta
        self.bytes_beside = super().bytes_beside + 4 * state_size
        stack = obs_shape[0] if replay.get("share_frames") else 1
        least = burn_in_steps + trace_steps + period_steps + stack + 2  # rows in which there is always a whole one
        super().__init__(
            max(capacity_steps, least * num_envs),
            num_envs,
            obs_shape,
            obs_dtype,
            exponent=exponent,
            importance_exponent=importance_exponent,
            **replay,
        )
        self.state = torch.zeros(self.num_rows, num_envs, state_size, device=self.device)
        self.num_sequences = 0
        self.trace_time = torch.arange(trace_steps, device=self.device).unsqueeze(-1)  # [T, 1]
        self.time = torch.arange(-burn_in_steps, trace_steps + 1, device=self.device).unsqueeze(-1)  # [L + T + 1, 1]

    def __len__(self) -> int:
        """How many sequences can be sampled."""
        self.weigh_new()
        return self.num_sequences

    def valid_rows(self) -> tuple[int, int]:
        """Absolute rows [first, stop) that can be read with their stack and the step before."""
        first = super().valid_rows()[0]
        return max(first, self.rows - self.num_rows + 1) if first else 0, self.rows

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
        state: Tensor | None = None,
    ) -> None:
        """As of uniform replay; `state` [N, S] is the recurrent state before `obs` was seen, 0 if not given."""
        self.state[self.rows % self.num_rows] = 0.0 if state is None else state.to(self.device)
        super().add(obs, action, reward, terminal, episode_end, next_obs, next_mask, mask)

    def weigh_new(self) -> None:
        """Bring the tree up to the sequences that are whole now."""
        (first, stop), (old_first, old_stop) = self.valid_rows(), self.weighted_rows
        if (first, stop) == (old_first, old_stop):
            return
        self.note_weighted(first, stop)
        start = max(old_first, first - self.num_rows)
        gone, age = self.leaves_and_ages(start, min(first + self.burn_in, stop))
        age[: first - start] = 1  # whatever lies there now
        gone = gone[age > 0].unique()  # a leaf may be that of a row before, and of one whose burn-in is gone
        self.num_sequences -= int((self.tree.weights[gone] > 0).sum())
        self.tree.set(gone, self.max_weight.new_zeros(len(gone)))
        start = max(first, old_stop - self.trace)  # earlier ones were whole before
        new, age = self.leaves_and_ages(start, stop)
        rows = torch.arange(start, stop, device=self.device).unsqueeze(-1)
        ended = self.episode_end[rows.squeeze(-1) % self.num_rows].flip(0).cumsum(0).flip(0) > 0  # from there on
        whole = (ended | (rows + self.trace < stop)) & ((age == 0) | (rows - self.burn_in >= first))
        new = new[(age % self.period == 0) & whole & (self.tree.weights[new] == 0)]
        self.num_sequences += len(new)
        self.tree.set(new, self.max_weight.expand(len(new)))

    def leaves_and_ages(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """The leaves, and the steps since their episodes began, of absolute rows [start, stop): [rows, N] both."""
        rows = torch.arange(start, max(start, stop), device=self.device) % self.num_rows
        env = torch.arange(self.num_envs, device=self.device)
        return rows.unsqueeze(-1) * self.num_envs + env, self.observations.age[rows]

    def real(self, start: Tensor) -> Tensor:
        """Which of the T steps of traces from `start` [B] on belong to the episode that they start in, bool [T, B]."""
        ends = take(self.episode_end, self.observations.place(start + self.num_envs * self.trace_time)).long()
        return (ends.cumsum(0) - ends) == 0

    def gather(self, indices: Indices) -> SequenceBatch:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The sequences whose traces start at `indices`."""
        start, N, place = indices.step, self.num_envs, self.observations.place
        real = self.real(start)
        last = start + N * (real.sum(0) - 1)  # the last step, [B]
        burnt_in = take(self.observations.age, place(start)) > 0
        first = torch.where(burnt_in, start - N * self.burn_in, start)
        position = torch.where(real, self.trace_time, 0)  # [T, B]
        steps = start + N * position
        ahead = self.look_ahead(steps.flatten(), limit=(self.trace - position).flatten())
        at, at_last = place(steps), ahead.at_last.view_as(steps)
        next_action = take(self.action, place(ahead.last + N)).view_as(steps)
        next_action = next_action.masked_fill(take(self.episode_end, at_last), -1)
        last_action, last_reward = self.before(start, first, last)
        return SequenceBatch(
            obs=self.seen(start, first, last),
            last_action=last_action,
            last_reward=last_reward,
            state=take(self.state, place(first)),
            burnt_in=burnt_in,
            action=take(self.action, at),
            reward=ahead.reward.view_as(steps),
            discount=ahead.discount.view_as(steps),
            position=position,
            next_position=(ahead.last.view_as(steps) - start) // N + 1,
            real=real,
            weight=torch.ones(len(start), device=self.device),
            next_action=next_action,
            next_mask=None if self.next_mask is None else take(self.next_mask, at_last),
            mask=None if self.mask is None else take(self.mask, at),
            bootstrap_mask=None if self.bootstrap_mask is None else take(self.bootstrap_mask, at),
        )

    def seen(self, start: Tensor, first: Tensor, last: Tensor) -> Tensor:
        """The observations of the steps from `first` to `last`, and what the last led to: [L + T + 1, B, *shape]."""
        steps = torch.minimum(torch.maximum(start + self.num_envs * self.time, first), last)
        obs = self.observations.read(steps.flatten()).unflatten(0, steps.shape)
        ended = take(self.episode_end, self.observations.place(last))
        columns = torch.arange(len(start), device=self.device)
        after = self.burn_in + (last - start) // self.num_envs + 1
        obs[after, columns] = self.observations.read_next(last, ended)
        return obs

    def before(self, start: Tensor, first: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
        """Actions and rewards before what is `seen`, [L + T + 1, B] both: -1 and 0 at an episode's start."""
        steps, place = torch.maximum(start + self.num_envs * self.time, first), self.observations.place
        at = place(torch.minimum(steps - self.num_envs, last))
        fresh = (steps == first) & (take(self.observations.age, place(first)) == 0)
        return take(self.action, at).masked_fill(fresh, -1), take(self.reward, at).masked_fill(fresh, 0.0)

    def update_priorities(self, indices: Indices, td_error: Tensor, losses: Tensor) -> None:
        """What an update saw of the steps of a batch, [T*B] each."""
        real = self.real(indices.step)
        error = sequence_priority(td_error.to(self.device).view_as(real), real, eta=self.eta)
        super().update_priorities(indices, error, losses)

    def row_names(self) -> list[str]:
        return [*super().row_names(), "state"]

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.num_sequences = int((self.tree.weights > 0).sum())
