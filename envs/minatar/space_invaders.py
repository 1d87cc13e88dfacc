"""Space Invaders: shoot the aliens before they come down."""

from typing import NamedTuple

import torch
from torch import Tensor

from envs.minatar.game import (
    INT,
    NOWHERE,
    SIZE,
    Draws,
    Game,
    anything,
    choose,
    count_down,
    gone,
)

NUM_ROWS, NUM_COLUMNS = 4, 6  # of aliens
FIRST_CANNON_X, FIRST_ALIEN_X = 5, 2
CANNON_SHOT_INTERVAL, ALIEN_SHOT_INTERVAL = 5, 10
FIRST_MOVE_INTERVAL, LEAST_MOVE_INTERVAL = 12, 6
BOTTOM = SIZE - 1
FAR = 4 * SIZE  # beyond all distances


class SpaceInvadersState(NamedTuple):
    cannon_x: Tensor  # [N], as all that follows
    until_fire: Tensor  # frames until the cannon can fire again
    alien_x: Tensor  # column of the left column of aliens, who keep their places; it may be empty, and off the board
    alien_y: Tensor  # row of their top row; the rows below follow, after the bottom row again from the top
    alien_direction: Tensor  # 1 to the right, -1 to the left
    march_interval: Tensor
    until_march: Tensor
    until_alien_shot: Tensor
    alien_bullet_x: Tensor  # the aliens' bullet, which is gone before they shoot again; NOWHERE if there is none
    alien_bullet_y: Tensor
    aliens: Tensor  # [NUM_ROWS, NUM_COLUMNS, N] bool
    bullet_x: Tensor  # [SIZE, N], of the cannon's bullet in each row; NOWHERE if there is none


class SpaceInvaders(Game[SpaceInvadersState]):
    """The aliens march to and fro, and down at each edge; the alien nearest to the cannon shoots.

    They march faster when few are left. A new wave, when all are gone, is a little faster from the start.
    """

    channels = ("cannon", "alien", "alien_left", "alien_right", "friendly_bullet", "enemy_bullet")
    minimal_actions = (0, 1, 3, 5)

    def __init__(self, device: torch.device | str = "cpu", *, difficulty_ramping: bool = True):
        super().__init__(device, difficulty_ramping=difficulty_ramping)
        self.rows, self.columns, self.board_rows = (
            torch.arange(count, dtype=INT, device=self.device).unsqueeze(1) for count in (NUM_ROWS, NUM_COLUMNS, SIZE)
        )

    def start(self, num_envs: int, draws: Draws) -> SpaceInvadersState:
        return SpaceInvadersState(
            cannon_x=self._constant(FIRST_CANNON_X, num_envs),
            until_fire=self._constant(0, num_envs),
            alien_x=self._constant(FIRST_ALIEN_X, num_envs),
            alien_y=self._constant(0, num_envs),
            alien_direction=self._constant(-1, num_envs),
            march_interval=self._constant(FIRST_MOVE_INTERVAL, num_envs),
            until_march=self._constant(FIRST_MOVE_INTERVAL, num_envs),
            until_alien_shot=self._constant(ALIEN_SHOT_INTERVAL, num_envs),
            alien_bullet_x=self._constant(NOWHERE, num_envs),
            alien_bullet_y=self._constant(NOWHERE, num_envs),
            aliens=self._constant(True, NUM_ROWS, NUM_COLUMNS, num_envs, dtype=torch.bool),
            bullet_x=self._constant(NOWHERE, SIZE, num_envs),
        )

    def step(
        self, state: SpaceInvadersState, action: Tensor, draws: Draws
    ) -> tuple[SpaceInvadersState, Tensor, Tensor]:
        state, shot = self._after_cannon(state, action)
        state, reached = self._after_march(state)
        state = self._after_alien_shot(state)
        state, reward = self._after_hits(state)
        return state, reward, shot | reached

    def observe(self, state: SpaceInvadersState) -> Tensor:
        x = gone(self._alien_columns(state), ~state.aliens).flatten(0, 1)
        y = self._alien_rows(state).repeat_interleave(NUM_COLUMNS, 0)
        to_the_right = (state.alien_direction > 0).view(INT)
        return self._board(
            (state.cannon_x, BOTTOM, 0),
            (x, y, 1),
            (x, y, to_the_right + 2),
            (state.bullet_x, self.board_rows, 4),
            (state.alien_bullet_x, state.alien_bullet_y, 5),
        )

    def _alien_rows(self, state: SpaceInvadersState) -> Tensor:
        rows = state.alien_y + self.rows
        return rows - (rows >= SIZE).view(INT) * SIZE  # [NUM_ROWS, N]

    def _alien_columns(self, state: SpaceInvadersState) -> Tensor:
        return state.alien_x + self.columns  # [NUM_COLUMNS, N]

    def _bottom_aliens(self, state: SpaceInvadersState) -> Tensor:
        """Aliens in the bottom row of the board, bool [NUM_COLUMNS, N]."""
        return anything(state.aliens & (self._alien_rows(state) == BOTTOM).unsqueeze(1))

    def _cannon_met(self, state: SpaceInvadersState) -> Tensor:
        """Whether an alien is where the cannon is, bool [N]."""
        return anything(self._bottom_aliens(state) & (self._alien_columns(state) == state.cannon_x))

    def _after_cannon(self, state: SpaceInvadersState, action: Tensor) -> tuple[SpaceInvadersState, Tensor]:
        """The cannon acts and all bullets fly; whether the aliens' one hits it, bool [N]."""
        fires = (action == 5) & (state.until_fire == 0)
        cannon_x = (state.cannon_x + self.dx[action]).clamp(0, BOTTOM)
        fired = gone(state.cannon_x, ~fires)
        # a new bullet starts in the bottom row and flies with the others
        above = state.bullet_x[1:BOTTOM]
        bullet_x = torch.cat([above, fired.unsqueeze(0), self._constant(NOWHERE, 1, len(fired))])
        bullet_y = state.alien_bullet_y + 1
        state = state._replace(
            cannon_x=cannon_x,
            until_fire=choose(fires, CANNON_SHOT_INTERVAL, state.until_fire),
            alien_bullet_x=gone(state.alien_bullet_x, bullet_y >= SIZE),
            alien_bullet_y=bullet_y,
            bullet_x=bullet_x,
        )
        return state, (bullet_y == BOTTOM) & (state.alien_bullet_x == cannon_x)

    def _after_march(self, state: SpaceInvadersState) -> tuple[SpaceInvadersState, Tensor]:
        """The aliens move, if it is time; whether they reach the cannon or the bottom, bool [N]."""
        moves = state.until_march == 0
        met = self._cannon_met(state)
        edge = (state.alien_direction > 0).view(INT) * BOTTOM
        at_edge = anything(anything(state.aliens) & (self._alien_columns(state) == edge))
        down = moves & at_edge
        landed = down & anything(self._bottom_aliens(state))
        num_aliens = state.aliens.sum((0, 1), dtype=INT)
        state = state._replace(
            until_march=choose(moves, torch.minimum(num_aliens, state.march_interval), state.until_march),
            alien_direction=choose(down, -state.alien_direction, state.alien_direction),
            alien_x=state.alien_x + state.alien_direction * (moves & ~down),
            alien_y=(state.alien_y + down.view(INT)) % SIZE,
        )
        return state, met | landed | self._cannon_met(state)

    def _after_alien_shot(self, state: SpaceInvadersState) -> SpaceInvadersState:
        """The lowest alien of the column nearest to the cannon shoots, the left one of two as near."""
        shoots = state.until_alien_shot == 0
        columns = self._alien_columns(state)
        farness = (columns - state.cannon_x).abs() * 2 + (columns > state.cannon_x)
        farness = choose(anything(state.aliens), farness, self._constant(FAR, 1, 1))
        shooters = state.aliens & (farness == farness.amin(0))  # [NUM_ROWS, NUM_COLUMNS, N], one column of them
        x = gone(columns, ~anything(shooters)).amax(0)
        y = gone(self._alien_rows(state), ~anything(shooters.transpose(0, 1))).amax(0)
        return state._replace(
            until_alien_shot=choose(shoots, ALIEN_SHOT_INTERVAL, state.until_alien_shot),
            alien_bullet_x=choose(shoots, x, state.alien_bullet_x),
            alien_bullet_y=choose(shoots, y, state.alien_bullet_y),
        )

    def _after_hits(self, state: SpaceInvadersState) -> tuple[SpaceInvadersState, Tensor]:
        """Aliens and bullets that meet are gone; the timers; a new wave after the last alien. And the reward [N]."""
        rows = self._alien_rows(state).long()
        bullet_x = state.bullet_x.gather(0, rows)  # [NUM_ROWS, N]
        hit = state.aliens & (bullet_x.unsqueeze(1) == self._alien_columns(state))
        spent = gone(bullet_x, anything(hit.transpose(0, 1)))
        aliens = state.aliens & ~hit
        cleared = ~anything(anything(aliens))
        faster = cleared & (state.march_interval > LEAST_MOVE_INTERVAL)
        state = state._replace(
            until_fire=count_down(state.until_fire),
            alien_x=choose(cleared, FIRST_ALIEN_X, state.alien_x),
            alien_y=choose(cleared, 0, state.alien_y),
            until_march=state.until_march - 1,
            march_interval=state.march_interval - faster.view(INT) * self.difficulty_ramping,
            until_alien_shot=state.until_alien_shot - 1,
            aliens=aliens | cleared,
            bullet_x=state.bullet_x.scatter(0, rows, spent),
        )
        return state, hit.sum((0, 1), dtype=INT)
