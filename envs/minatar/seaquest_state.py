"""The state of Seaquest: what there is, and how it begins."""

from typing import NamedTuple

import torch
from torch import Tensor

from envs.minatar.game import INT, SIZE, choose, column

NUM_LANES = 8  # rows 1 .. 8
NUM_BULLETS, NUM_DIVERS = 2, 3  # no more can be alive: older ones have left the board
NUM_ENEMIES = 32  # at most 30 are alive, 10 cells of 3 frames each with a new one in every frame; a power of 2
MAX_OXYGEN, OXYGEN_PER_CELL, MAX_ABOARD = 200, 20, 6
SHOT_INTERVAL, ENEMY_SHOT_INTERVAL = 5, 10
FIRST_SPAWN_INTERVAL, DIVER_SPAWN_INTERVAL = 20, 30
FIRST_MOVE_INTERVAL, LEAST_MOVE_INTERVAL, DIVER_MOVE_INTERVAL = 5, 2, 5
NOWHERE = -1


class SeaquestState(NamedTuple):
    x: Tensor  # [N], as all that follows: where the submarine's front is
    y: Tensor
    direction: Tensor  # 1 to the right, -1 to the left
    oxygen: Tensor
    aboard: Tensor  # divers
    surfaced: Tensor  # bool
    shot_timer: Tensor
    spawn_interval: Tensor
    spawn_timer: Tensor
    diver_spawn_timer: Tensor
    move_interval: Tensor  # of enemies
    num_ramps: Tensor
    bullet_x: Tensor  # [N, NUM_BULLETS], the newer one first; x is NOWHERE in an empty place, here and below
    bullet_y: Tensor
    bullet_direction: Tensor
    diver_x: Tensor  # [N, NUM_DIVERS], the newest first
    diver_y: Tensor
    diver_direction: Tensor
    diver_timer: Tensor
    next_place: Tensor  # [N], where the next enemy goes: what is there is the oldest one
    enemy_x: Tensor  # [N, NUM_ENEMIES], a ring
    enemy_y: Tensor
    enemy_direction: Tensor
    enemy_timer: Tensor
    enemy_shot_timer: Tensor
    enemy_shoots: Tensor  # bool, a submarine and no fish
    shots: Tensor  # [N, 2, NUM_LANES, SIZE] bool, of the enemies: to the right, to the left


def first_state(num_envs: int, device: torch.device) -> SeaquestState:
    """A submarine at the surface, and nothing else."""

    def all_of(value: int, *shape: int) -> Tensor:
        return torch.full((num_envs, *shape), value, dtype=INT, device=device)

    return SeaquestState(
        x=all_of(SIZE // 2),
        y=all_of(0),
        direction=all_of(-1),
        oxygen=all_of(MAX_OXYGEN),
        aboard=all_of(0),
        surfaced=all_of(1).bool(),
        shot_timer=all_of(0),
        spawn_interval=all_of(FIRST_SPAWN_INTERVAL),
        spawn_timer=all_of(FIRST_SPAWN_INTERVAL),
        diver_spawn_timer=all_of(DIVER_SPAWN_INTERVAL),
        move_interval=all_of(FIRST_MOVE_INTERVAL),
        num_ramps=all_of(0),
        bullet_x=all_of(NOWHERE, NUM_BULLETS),
        bullet_y=all_of(0, NUM_BULLETS),
        bullet_direction=all_of(0, NUM_BULLETS),
        diver_x=all_of(NOWHERE, NUM_DIVERS),
        diver_y=all_of(0, NUM_DIVERS),
        diver_direction=all_of(0, NUM_DIVERS),
        diver_timer=all_of(0, NUM_DIVERS),
        next_place=all_of(0),
        enemy_x=all_of(NOWHERE, NUM_ENEMIES),
        enemy_y=all_of(0, NUM_ENEMIES),
        enemy_direction=all_of(0, NUM_ENEMIES),
        enemy_timer=all_of(0, NUM_ENEMIES),
        enemy_shot_timer=all_of(0, NUM_ENEMIES),
        enemy_shoots=all_of(0, NUM_ENEMIES).bool(),
        shots=all_of(0, 2, NUM_LANES, SIZE).bool(),
    )


def on_board(x: Tensor) -> Tensor:
    """Columns, NOWHERE where they are off the board."""
    return choose((x >= 0) & (x < SIZE), x, NOWHERE)


def pushed(queue: Tensor, new: Tensor, where: Tensor) -> Tensor:
    """`queue` [N, K] with `new` [N] before all others, and without the last, where `where` (bool [N])."""
    return choose(column(where), torch.cat([column(new), queue[:, :-1]], 1), queue)
