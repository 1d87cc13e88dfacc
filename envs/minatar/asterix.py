"""Asterix: take the gold, and let no enemy touch you."""

from typing import NamedTuple

import torch
from torch import Tensor

from envs.minatar.game import (
    INT,
    NOWHERE,
    SIZE,
    Chance,
    Draws,
    Game,
    anything,
    choose,
    gone,
    move,
    on_board,
    there,
)

NUM_LANES = 8  # rows 1 .. 8, with room for one thing each
FIRST_SPAWN_INTERVAL, FIRST_MOVE_INTERVAL, RAMP_INTERVAL = 10, 5, 100


class AsterixState(NamedTuple):
    player_x: Tensor  # [N], as all that follows
    player_y: Tensor
    spawn_interval: Tensor
    until_spawn: Tensor  # frames, as all that is called so
    move_interval: Tensor
    until_move: Tensor
    until_ramp: Tensor
    num_ramps: Tensor
    x: Tensor  # [NUM_LANES, N], of the thing in each lane; NOWHERE in an empty one
    direction: Tensor  # [NUM_LANES, N], 1 to the right, -1 to the left; of no matter in an empty lane
    gold: Tensor  # [NUM_LANES, N] bool, gold and no enemy


class Asterix(Game[AsterixState]):
    """The player moves in all four directions; enemies and gold come in from both sides, one in each lane."""

    channels = ("player", "enemy", "trail", "gold")
    minimal_actions = (0, 1, 2, 3, 4)
    # 840 is a multiple of 1 .. 8: its remainder is uniform, however many lanes are empty
    step_chances = {"to_the_left": Chance(2), "gold": Chance(3), "lane": Chance(840)}

    def __init__(self, device: torch.device | str = "cpu", *, difficulty_ramping: bool = True):
        super().__init__(device, difficulty_ramping=difficulty_ramping)
        self.lanes = torch.arange(1, NUM_LANES + 1, dtype=INT, device=self.device).unsqueeze(1)

    def start(self, num_envs: int, draws: Draws) -> AsterixState:
        return AsterixState(
            player_x=self._constant(SIZE // 2, num_envs),
            player_y=self._constant(SIZE // 2, num_envs),
            spawn_interval=self._constant(FIRST_SPAWN_INTERVAL, num_envs),
            until_spawn=self._constant(FIRST_SPAWN_INTERVAL, num_envs),
            move_interval=self._constant(FIRST_MOVE_INTERVAL, num_envs),
            until_move=self._constant(FIRST_MOVE_INTERVAL, num_envs),
            until_ramp=self._constant(RAMP_INTERVAL, num_envs),
            num_ramps=self._constant(0, num_envs),
            x=self._constant(NOWHERE, NUM_LANES, num_envs),
            direction=self._constant(1, NUM_LANES, num_envs),
            gold=self._constant(False, NUM_LANES, num_envs, dtype=torch.bool),
        )

    def step(self, state: AsterixState, action: Tensor, draws: Draws) -> tuple[AsterixState, Tensor, Tensor]:
        spawns, moves = state.until_spawn == 0, state.until_move == 0
        x, direction, gold = self._spawned(state, spawns, draws)
        player_x = (state.player_x + self.dx[action]).clamp(0, SIZE - 1)
        player_y = (state.player_y + self.dy[action]).clamp(1, NUM_LANES)
        moved = move(x, direction * moves.view(INT))
        # a thing touches the player where it was, or where it is now
        touched = ((x == player_x) | (moved == player_x)) & (self.lanes == player_y)
        taken = touched & gold
        until_spawn = choose(spawns, state.spawn_interval, state.until_spawn) - 1
        until_move = choose(moves, state.move_interval, state.until_move) - 1
        state = state._replace(
            player_x=player_x,
            player_y=player_y,
            until_spawn=until_spawn,
            until_move=until_move,
            x=gone(moved, taken),
            direction=direction,
            gold=gold,
        )
        if self.difficulty_ramping:
            state = self._ramped(state)
        return state, taken.sum(0, dtype=INT), anything(touched & ~gold)

    def observe(self, state: AsterixState) -> Tensor:
        behind = gone(on_board(state.x - state.direction), ~there(state.x))
        return self._board(
            (state.player_x, state.player_y, 0),
            (state.x, self.lanes, state.gold.view(INT) * 2 + 1),
            (behind, self.lanes, 2),
        )

    def _spawned(self, state: AsterixState, spawns: Tensor, draws: Draws) -> tuple[Tensor, Tensor, Tensor]:
        """Position, direction and kind of the things with a new one in an empty lane where `spawns`."""
        empty = ~there(state.x)
        place = empty.cumsum(0, dtype=INT)  # 1 in the first empty lane, 2 in the second ...
        chosen = draws["lane"] % place[-1].clamp(min=1) + 1
        new = empty & (place == chosen.to(INT)) & spawns
        to_the_left = draws["to_the_left"]
        x = choose(new, to_the_left * (SIZE - 1), state.x)
        direction = choose(new, 1 - 2 * to_the_left, state.direction)
        gold = (new & (draws["gold"] == 0)) | (state.gold & ~new)
        return x, direction, gold

    @staticmethod
    def _ramped(state: AsterixState) -> AsterixState:
        """Things come more often after each RAMP_INTERVAL, and after every second one they move faster too."""
        comes_faster, moves_faster = state.spawn_interval > 1, state.move_interval > 1
        can_ramp = comes_faster | moves_faster
        ramps = can_ramp & (state.until_ramp < 0)
        moves_faster = ramps & moves_faster & (state.num_ramps % 2 == 1)
        return state._replace(
            spawn_interval=state.spawn_interval - (ramps & comes_faster).view(INT),
            move_interval=state.move_interval - moves_faster.view(INT),
            until_ramp=choose(ramps, RAMP_INTERVAL, state.until_ramp - can_ramp.view(INT)),
            num_ramps=state.num_ramps + ramps.view(INT),
        )
