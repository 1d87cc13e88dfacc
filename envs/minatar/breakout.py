"""Breakout: keep the ball in play with the paddle, and break the bricks."""

from typing import NamedTuple

import torch
from torch import Tensor

from envs.minatar.game import INT, SIZE, Chance, Draws, Game, choose, column

FIRST_BRICK_ROW, NUM_BRICK_ROWS = 1, 3
FIRST_PADDLE_X, FIRST_BALL_Y = 4, 3


class BreakoutState(NamedTuple):
    paddle_x: Tensor  # [N], as all that follows
    ball_x: Tensor
    ball_y: Tensor
    dx: Tensor  # direction of the ball, 1 or -1
    dy: Tensor
    last_x: Tensor  # where the ball was
    last_y: Tensor
    in_brick: Tensor  # bool, the ball met a brick in the step before
    bricks: Tensor  # [N, NUM_BRICK_ROWS * SIZE] bool


class Breakout(Game[BreakoutState]):
    """The ball moves diagonally; a brick that it meets breaks, unless it met another in the step before."""

    channels = ("paddle", "ball", "trail", "brick")
    minimal_actions = (0, 1, 3)
    start_chances = {"from_the_right": Chance(2)}

    def __init__(self, device: torch.device | str = "cpu", *, difficulty_ramping: bool = True):
        super().__init__(device, difficulty_ramping=difficulty_ramping)
        self.brick_cells = torch.arange(NUM_BRICK_ROWS * SIZE, dtype=INT, device=self.device)
        self.brick_cells += FIRST_BRICK_ROW * SIZE

    def start(self, num_envs: int, draws: Draws) -> BreakoutState:
        ball_x = draws["from_the_right"] * (SIZE - 1)
        ball_y = self._constant(FIRST_BALL_Y, num_envs)
        return BreakoutState(
            paddle_x=self._constant(FIRST_PADDLE_X, num_envs),
            ball_x=ball_x,
            ball_y=ball_y,
            dx=1 - 2 * draws["from_the_right"],
            dy=self._constant(1, num_envs),
            last_x=ball_x,
            last_y=ball_y,
            in_brick=torch.zeros(num_envs, dtype=torch.bool, device=self.device),
            bricks=torch.ones(num_envs, NUM_BRICK_ROWS * SIZE, dtype=torch.bool, device=self.device),
        )

    def step(self, state: BreakoutState, action: Tensor, draws: Draws) -> tuple[BreakoutState, Tensor, Tensor]:
        paddle_x = (state.paddle_x + self.dx[action]).clamp(0, SIZE - 1)
        x, y = state.ball_x + state.dx, state.ball_y + state.dy
        wall = (x < 0) | (x > SIZE - 1)
        x = x.clamp(0, SIZE - 1)
        met = state.bricks & (self.brick_cells == column(y * SIZE + x))
        brick = met.any(1)
        breaks = brick & ~state.in_brick
        bricks = state.bricks & ~(met & column(breaks))
        bottom = y == SIZE - 1
        bricks = bricks | column(bottom & ~bricks.any(1))  # a new wall where none is left
        straight = bottom & (state.ball_x == paddle_x)
        corner = bottom & ~straight & (x == paddle_x)
        bounces = (y < 0) | breaks | straight | corner
        state = BreakoutState(
            paddle_x=paddle_x,
            ball_x=x,
            ball_y=choose(bounces, state.ball_y, y),
            dx=choose(wall ^ corner, -state.dx, state.dx),
            dy=choose(bounces, -state.dy, state.dy),
            last_x=state.ball_x,
            last_y=state.ball_y,
            in_brick=brick,
            bricks=bricks,
        )
        return state, breaks.to(INT), bottom & ~straight & ~corner

    def observe(self, state: BreakoutState) -> Tensor:
        num_channels = len(self.channels)
        paddle = ((SIZE - 1) * SIZE + state.paddle_x) * num_channels
        ball = (state.ball_y * SIZE + state.ball_x) * num_channels + 1
        trail = (state.last_y * SIZE + state.last_x) * num_channels + 2
        board = self._board(torch.stack([paddle, ball, trail], 1))
        rows = slice(FIRST_BRICK_ROW, FIRST_BRICK_ROW + NUM_BRICK_ROWS)
        board[:, rows, :, 3] = state.bricks.view(-1, NUM_BRICK_ROWS, SIZE)
        return board
