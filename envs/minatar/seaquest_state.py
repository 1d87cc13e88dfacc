"""The state of Seaquest: what there is, and how it begins."""

from typing import NamedTuple

import torch
from torch import Tensor

from envs.minatar.game import INT, NOWHERE, SIZE, WIDE, choose

NUM_LANES = 8  # rows 1 .. 8
NUM_BULLETS, NUM_DIVERS = 2, 3  # no more can be on the board: older ones have left it
NUM_ENEMIES = 30  # 10 cells of 3 frames each, were there a new one in every frame
MAX_OXYGEN, OXYGEN_PER_CELL, MAX_ABOARD = 200, 20, 6
SHOT_INTERVAL, ENEMY_SHOT_INTERVAL = 5, 10
FIRST_SPAWN_INTERVAL, DIVER_SPAWN_INTERVAL = 20, 30
FIRST_MOVE_INTERVAL, LEAST_MOVE_INTERVAL, DIVER_MOVE_INTERVAL = 5, 2, 5


class SeaquestState(NamedTuple):
    x: Tensor  # [N], as all that follows: where the submarine's front is
    y: Tensor
    direction: Tensor  # 1 to the right, -1 to the left
    oxygen: Tensor  # int16
    aboard: Tensor  # int16, divers
    surfaced: Tensor  # bool
    until_fire: Tensor  # frames, as all that is called so
    spawn_interval: Tensor
    until_enemy: Tensor
    until_diver: Tensor
    move_interval: Tensor  # of enemies
    num_ramps: Tensor
    # What comes last is first in its queue. What is on the board no more keeps its place, with NOWHERE for x.
    bullet_x: Tensor  # [NUM_BULLETS, N]
    bullet_y: Tensor
    bullet_direction: Tensor
    diver_x: Tensor  # [NUM_DIVERS, N]
    diver_y: Tensor
    diver_direction: Tensor
    diver_until_move: Tensor
    enemy_x: Tensor  # [NUM_ENEMIES, N]
    enemy_y: Tensor
    enemy_direction: Tensor
    enemy_until_move: Tensor
    enemy_until_shot: Tensor
    enemy_shoots: Tensor  # bool, a submarine and no fish
    shot_x: Tensor  # of the enemy's shot, which is in its row, flies its way, and has left the board before the next


OF_ENEMIES = tuple(name for name in SeaquestState._fields if name.startswith(("enemy_", "shot_")))


def first_state(num_envs: int, device: torch.device) -> SeaquestState:
    """A submarine at the surface, and nothing else."""

    def all_of(value: int, *shape: int, dtype: torch.dtype = INT) -> Tensor:
        return torch.full((*shape, num_envs), value, dtype=dtype, device=device)

    return SeaquestState(
        x=all_of(SIZE // 2),
        y=all_of(0),
        direction=all_of(-1),
        oxygen=all_of(MAX_OXYGEN, dtype=WIDE),
        aboard=all_of(0, dtype=WIDE),
        surfaced=all_of(True, dtype=torch.bool),
        until_fire=all_of(0),
        spawn_interval=all_of(FIRST_SPAWN_INTERVAL),
        until_enemy=all_of(FIRST_SPAWN_INTERVAL),
        until_diver=all_of(DIVER_SPAWN_INTERVAL),
        move_interval=all_of(FIRST_MOVE_INTERVAL),
        num_ramps=all_of(0),
        bullet_x=all_of(NOWHERE, NUM_BULLETS),
        bullet_y=all_of(0, NUM_BULLETS),
        bullet_direction=all_of(0, NUM_BULLETS),
        diver_x=all_of(NOWHERE, NUM_DIVERS),
        diver_y=all_of(0, NUM_DIVERS),
        diver_direction=all_of(0, NUM_DIVERS),
        diver_until_move=all_of(0, NUM_DIVERS),
        enemy_x=all_of(NOWHERE, NUM_ENEMIES),
        enemy_y=all_of(0, NUM_ENEMIES),
        enemy_direction=all_of(0, NUM_ENEMIES),
        enemy_until_move=all_of(0, NUM_ENEMIES),
        enemy_until_shot=all_of(0, NUM_ENEMIES),
        enemy_shoots=all_of(False, NUM_ENEMIES, dtype=torch.bool),
        shot_x=all_of(NOWHERE, NUM_ENEMIES),
    )


def newest_enemies(state: SeaquestState, count: int) -> SeaquestState:
    """`state` with the first `count` places of its enemies only."""
    return state._replace(**{name: getattr(state, name)[:count] for name in OF_ENEMIES})


def with_older_enemies(state: SeaquestState, whole: SeaquestState) -> SeaquestState:
    """`state` with the places of enemies that `whole` has and it has not."""
    queues = {name: (getattr(state, name), getattr(whole, name)) for name in OF_ENEMIES}
    return state._replace(**{name: torch.cat([new, old[len(new) :]]) for name, (new, old) in queues.items()})


def pushed(queue: Tensor, new: Tensor, where: Tensor) -> Tensor:
    """`queue` [K, N] with `new` [N] before all others, and without the last, where `where` (bool [N])."""
    return choose(where, torch.cat([new.unsqueeze(0), queue[:-1]]), queue)
