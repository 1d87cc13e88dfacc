"""A replay that is filled once, with everything there is: what a data set becomes in memory.

Dimensions: T rows, N environments, E ends of episodes.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from agents.replay.uniform import UniformReplay


class FixedReplay(UniformReplay):
    """All rows of a data set, of which every one can be sampled.

    Its last row ends the episode of every environment, so no transition leads out of it.
    """

    def valid_rows(self) -> tuple[int, int]:
        return 0, self.rows

    def fill(self, rows: Mapping[str, Tensor], final_obs: Tensor, *, stack: int, pad_zeros: bool) -> None:
        """Take in all rows.

        Args:
            rows: `obs` [T, N, ...] (with stack > 1 the newest frame of each) and what `add` is given, [T, N] each.
            final_obs: the true last observations of episodes, [E, ...], in order of rows, then of environments.
            stack: frames in the leading axis of an observation; 1 where observations are whole.
            pad_zeros: whether the stack at an episode's start is padded by zeros, and not by its first frame.
        """
        num_rows = len(rows["obs"])
        observations = {
            "stack": stack,
            "pad_zeros": pad_zeros,
            "num_written": num_rows,
            "num_finals": len(final_obs),
            "oldest_final": 0,
            "first_whole": 0,
            "finals_capacity": len(final_obs),
        }
        self.load_state_dict(self.state_dict() | {"rows": num_rows, "observations": observations})
        ends = rows["episode_end"]
        places = {"age": ages(ends), "final_slot": final_slots(ends)}
        self.restore(0, num_rows, {**rows, **places, "frames": rows["obs"], "finals": final_obs})


def ages(episode_end: Tensor) -> Tensor:
    """Steps since the episode began, int32 [T, N], from where episodes end, bool [T, N]."""
    begins = torch.ones_like(episode_end)
    begins[1:] = episode_end[:-1]
    row = torch.arange(len(episode_end)).unsqueeze(-1)
    return (row - (row * begins).cummax(0).values).int()


def final_slots(episode_end: Tensor) -> Tensor:
    """Which final observation belongs to a row, int64 [T, N], in order of rows, then of environments; else -1."""
    places = episode_end.flatten().long().cumsum(0) - 1
    return places.view_as(episode_end).masked_fill(~episode_end, -1)
