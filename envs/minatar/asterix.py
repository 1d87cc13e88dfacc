"""Asterix: take the gold, and let no enemy touch you."""

from typing import NamedTuple

import torch
from torch import Tensor

from envs.minatar.game import INT, SIZE, Chance, Draws, Game, choose, column

NUM_LANES = 8  # rows 1 .. 8, with room for one thing each
FIRST_SPAWN_INTERVAL, FIRST_MOVE_INTERVAL, RAMP_INTERVAL = 10, 5, 100
NOWHERE = -1


class AsterixState(NamedTuple):
    player_x: Tensor  # [N], as all that follows
    player_y: Tensor
    spawn_interval: Tensor
    spawn_timer: Tensor
    move_interval: Tensor
    move_timer: Tensor
    ramp_timer: Tensor
    num_ramps: Tensor
    x: Tensor  # [N, NUM_LANES], of the thing in each lane; NOWHERE in an empty one
    direction: Tensor  # [N, NUM_LANES], 1 to the right, -1 to the left, 0 in an empty lane
    gold: Tensor  # [N, NUM_LANES] bool, gold and no enemy


class Asterix(Game[AsterixState]):
    """The player moves in all four directions; enemies and gold come in from both sides, one in each lane."""

    channels = ("player", "enemy", "trail", "gold")
    minimal_actions = (0, 1, 2, 3, 4)
    # 840 is a multiple of 1 .. 8: its remainder is uniform, however many lanes are empty
    step_chances = {"to_the_right": Chance(2), "gold": Chance(3), "lane": Chance(840)}

    def __init__(self, device: torch.device | str = "cpu", *, difficulty_ramping: bool = True):
        super().__init__(device, difficulty_ramping=difficulty_ramping)
        self.lanes = torch.arange(1, NUM_LANES + 1, dtype=INT, device=self.device)

    def start(self, num_envs: int, draws: Draws) -> AsterixState:
        return AsterixState(
            player_x=self._constant(SIZE // 2, num_envs),
            player_y=self._constant(SIZE // 2, num_envs),
            spawn_interval=self._constant(FIRST_SPAWN_INTERVAL, num_envs),
            spawn_timer=self._constant(FIRST_SPAWN_INTERVAL, num_envs),
            move_interval=self._constant(FIRST_MOVE_INTERVAL, num_envs),
            move_timer=self._constant(FIRST_MOVE_INTERVAL, num_envs),
            ramp_timer=self._constant(RAMP_INTERVAL, num_envs),
            num_ramps=self._constant(0, num_envs),
            x=self._constant(NOWHERE, num_envs, NUM_LANES),
            direction=self._constant(0, num_envs, NUM_LANES),
            gold=torch.zeros(num_envs, NUM_LANES, dtype=torch.bool, device=self.device),
        )

    def step(self, state: AsterixState, action: Tensor, draws: Draws) -> tuple[AsterixState, Tensor, Tensor]:
        spawns, moves = state.spawn_timer == 0, state.move_timer == 0
        x, direction, gold = self._spawned(state, spawns, draws)
        player_x = (state.player_x + self.dx[action]).clamp(0, SIZE - 1)
        player_y = (state.player_y + self.dy[action]).clamp(1, NUM_LANES)
        moved = x + direction * column(moves)
        # a thing touches the player where it was, or where it is now
        touched = (x == column(player_x)) | (moved == column(player_x))
        touched &= self.lanes == column(player_y)
        taken = touched & gold
        on_board = (moved >= 0) & (moved < SIZE) & ~taken
        spawn_timer = choose(spawns, state.spawn_interval, state.spawn_timer) - 1
        move_timer = choose(moves, state.move_interval, state.move_timer) - 1
        state = state._replace(
            player_x=player_x,
            player_y=player_y,
            spawn_timer=spawn_timer,
            move_timer=move_timer,
            x=choose(on_board, moved, NOWHERE),
            direction=direction * on_board,
            gold=gold,
        )
        if self.difficulty_ramping:
            state = self._ramped(state)
        return state, taken.sum(1, dtype=INT), (touched & ~gold).any(1)

    def observe(self, state: AsterixState) -> Tensor:
        num_channels = len(self.channels)
        player = column((state.player_y * SIZE + state.player_x) * num_channels)
        first = self.lanes * (SIZE * num_channels)  # cell 0 of each lane
        things = first + state.x * num_channels + 1 + state.gold.to(INT) * 2
        behind = state.x - state.direction
        trails = first + behind * num_channels + 2
        there = state.x >= 0
        # what is not there is drawn over the player, where the board is on anyway
        things = choose(there, things, player)
        trails = choose(there & (behind >= 0) & (behind < SIZE), trails, player)
        return self._board(torch.cat([player, things, trails], 1))

    def _spawned(self, state: AsterixState, spawns: Tensor, draws: Draws) -> tuple[Tensor, Tensor, Tensor]:
        """Position, direction and kind of the things with a new one in an empty lane where `spawns`."""
        empty = state.direction == 0
        place = empty.cumsum(1, dtype=INT)  # 1 in the first empty lane, 2 in the second ...
        chosen = draws["lane"] % place[:, -1].clamp(min=1) + 1
        new = empty & (place == column(chosen)) & column(spawns)
        to_the_right = 1 - draws["to_the_right"]
        x = choose(new, column((1 - to_the_right) * (SIZE - 1)), state.x)
        direction = choose(new, column(2 * to_the_right - 1), state.direction)
        gold = torch.where(new, column(draws["gold"] == 0), state.gold)
        return x, direction, gold

    @staticmethod
    def _ramped(state: AsterixState) -> AsterixState:
        """Things come more often after each RAMP_INTERVAL, and after every second one they move faster too."""
        can_ramp = (state.spawn_interval > 1) | (state.move_interval > 1)
        ramps = can_ramp & (state.ramp_timer < 0)
        faster = ramps & (state.move_interval > 1) & (state.num_ramps % 2 == 1)
        return state._replace(
            spawn_interval=state.spawn_interval - (ramps & (state.spawn_interval > 1)).to(INT),
            move_interval=state.move_interval - faster.to(INT),
            ramp_timer=choose(ramps, RAMP_INTERVAL, state.ramp_timer - can_ramp.to(INT)),
            num_ramps=state.num_ramps + ramps.to(INT),
        )
