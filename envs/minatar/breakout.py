"""Breakout: keep the ball in play with the paddle, and break the bricks."""

from typing import NamedTuple

import torch
from torch import Tensor

from envs.minatar.game import INT, SIZE, Chance, Draws, Game, anything, cell, choose

FIRST_BRICK_ROW, NUM_BRICK_ROWS = 1, 3
FIRST_PADDLE_X, FIRST_BALL_Y = 4, 3
NUM_BRICKS = NUM_BRICK_ROWS * SIZE


class BreakoutState(NamedTuple):
    paddle_x: Tensor  # [N], as all that follows
    ball_x: Tensor
    ball_y: Tensor
    dx: Tensor  # direction of the ball, 1 or -1
    dy: Tensor
    trail_x: Tensor  # where the ball was
    trail_y: Tensor
    in_brick: Tensor  # bool, the ball met a brick in the step before
    bricks: Tensor  # [NUM_BRICKS, N] bool


class Breakout(Game[BreakoutState]):
    """The ball moves diagonally; a brick that it meets breaks, unless it met another in the step before."""

    channels = ("paddle", "ball", "trail", "brick")
    minimal_actions = (0, 1, 3)
    start_chances = {"from_the_right": Chance(2)}

    def start(self, num_envs: int, draws: Draws) -> BreakoutState:
        ball_x = draws["from_the_right"] * (SIZE - 1)
        ball_y = self._constant(FIRST_BALL_Y, num_envs)
        return BreakoutState(
            paddle_x=self._constant(FIRST_PADDLE_X, num_envs),
            ball_x=ball_x,
            ball_y=ball_y,
            dx=1 - 2 * draws["from_the_right"],
            dy=self._constant(1, num_envs),
            trail_x=ball_x,
            trail_y=ball_y,
            in_brick=self._constant(False, num_envs, dtype=torch.bool),
            bricks=self._constant(True, NUM_BRICKS, num_envs, dtype=torch.bool),
        )

    def step(self, state: BreakoutState, action: Tensor, draws: Draws) -> tuple[BreakoutState, Tensor, Tensor]:
        paddle_x = (state.paddle_x + self.dx[action]).clamp(0, SIZE - 1)
        x, y = state.ball_x + state.dx, state.ball_y + state.dy
        inside = x.clamp(0, SIZE - 1)
        wall, x = x != inside, inside
        bottom = y == SIZE - 1

        number = cell(x, y - FIRST_BRICK_ROW)  # of the brick, where there is one
        place = number.clamp(0, NUM_BRICKS - 1).long().unsqueeze(0)
        stands = state.bricks.gather(0, place)
        met = stands[0] & (place[0] == number)
        breaks = met & ~state.in_brick
        bricks = state.bricks.scatter(0, place, stands & ~breaks)
        bricks = bricks | (bottom & ~anything(bricks))  # a new wall where none is left

        straight = bottom & (state.ball_x == paddle_x)
        corner = bottom & ~straight & (x == paddle_x)
        bounces = (y < 0) | breaks | straight | corner
        state = BreakoutState(
            paddle_x=paddle_x,
            ball_x=x,
            ball_y=choose(bounces, state.ball_y, y),
            dx=choose(wall ^ corner, -state.dx, state.dx),
            dy=choose(bounces, -state.dy, state.dy),
            trail_x=state.ball_x,
            trail_y=state.ball_y,
            in_brick=met,
            bricks=bricks,
        )
        return state, breaks.to(INT), bottom & ~straight & ~corner

    def observe(self, state: BreakoutState) -> Tensor:
        board = self._board(
            (state.paddle_x, SIZE - 1, 0),
            (state.ball_x, state.ball_y, 1),
            (state.trail_x, state.trail_y, 2),
        )
        rows = slice(FIRST_BRICK_ROW, FIRST_BRICK_ROW + NUM_BRICK_ROWS)
        board[:, rows, :, 3] = state.bricks.t().reshape(-1, NUM_BRICK_ROWS, SIZE)
        return board
