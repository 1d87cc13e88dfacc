"""Space Invaders: shoot the aliens before they come down."""

from typing import NamedTuple

import torch
from torch import Tensor

from envs.minatar.game import INT, SIZE, Draws, Game, choose, column, count_down

NUM_ROWS, NUM_COLUMNS = 4, 6  # of aliens
FIRST_CANNON_X, FIRST_ALIEN_X = 5, 2
CANNON_SHOT_INTERVAL, ALIEN_SHOT_INTERVAL = 5, 10
FIRST_MOVE_INTERVAL, LEAST_MOVE_INTERVAL = 12, 6
BOTTOM = SIZE - 1
NOWHERE = -1


class SpaceInvadersState(NamedTuple):
    cannon_x: Tensor  # [N], as all that follows
    cannon_shot_timer: Tensor
    alien_x: Tensor  # column of the left column of aliens, who keep their places; it may be empty, and off the board
    alien_y: Tensor  # row of their top row; the rows below follow, after the bottom row again from the top
    alien_direction: Tensor  # 1 to the right, -1 to the left
    alien_move_timer: Tensor
    alien_move_interval: Tensor
    alien_shot_timer: Tensor
    alien_bullet_x: Tensor  # the aliens' bullet, which is gone before they shoot again; NOWHERE if there is none
    alien_bullet_y: Tensor
    aliens: Tensor  # [N, NUM_ROWS, NUM_COLUMNS] bool
    bullet_x: Tensor  # [N, SIZE], of the cannon's bullet in each row; NOWHERE if there is none


class SpaceInvaders(Game[SpaceInvadersState]):
    """The aliens move to and fro, and down at each edge; the alien nearest to the cannon shoots.

    They move faster when few are left. A new wave, when all are gone, is a little faster from the start.
    """

    channels = ("cannon", "alien", "alien_left", "alien_right", "friendly_bullet", "enemy_bullet")
    minimal_actions = (0, 1, 3, 5)

    def __init__(self, device: torch.device | str = "cpu", *, difficulty_ramping: bool = True):
        super().__init__(device, difficulty_ramping=difficulty_ramping)
        self.rows = torch.arange(NUM_ROWS, dtype=INT, device=self.device)
        self.columns = torch.arange(NUM_COLUMNS, dtype=INT, device=self.device)
        self.board_rows = torch.arange(SIZE, dtype=INT, device=self.device)

    def start(self, num_envs: int, draws: Draws) -> SpaceInvadersState:
        return SpaceInvadersState(
            cannon_x=self._constant(FIRST_CANNON_X, num_envs),
            cannon_shot_timer=self._constant(0, num_envs),
            alien_x=self._constant(FIRST_ALIEN_X, num_envs),
            alien_y=self._constant(0, num_envs),
            alien_direction=self._constant(-1, num_envs),
            alien_move_timer=self._constant(FIRST_MOVE_INTERVAL, num_envs),
            alien_move_interval=self._constant(FIRST_MOVE_INTERVAL, num_envs),
            alien_shot_timer=self._constant(ALIEN_SHOT_INTERVAL, num_envs),
            alien_bullet_x=self._constant(NOWHERE, num_envs),
            alien_bullet_y=self._constant(NOWHERE, num_envs),
            aliens=torch.ones(num_envs, NUM_ROWS, NUM_COLUMNS, dtype=torch.bool, device=self.device),
            bullet_x=self._constant(NOWHERE, num_envs, SIZE),
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
        num_channels = len(self.channels)
        cannon = column((BOTTOM * SIZE + state.cannon_x) * num_channels)
        cells = self._alien_rows(state).unsqueeze(2) * SIZE + self._alien_columns(state).unsqueeze(1)
        aliens = choose(state.aliens, cells * num_channels + 1, cannon.unsqueeze(2)).flatten(1)
        # what is not there is drawn over the cannon, where the board is on anyway
        to_its_own = (state.alien_direction > 0).to(INT) + 1  # from the channel of all aliens to that of a direction
        directions = choose(state.aliens.flatten(1), aliens + column(to_its_own), cannon)
        bullets = (self.board_rows * SIZE + state.bullet_x) * num_channels + 4
        bullets = choose(state.bullet_x >= 0, bullets, cannon)
        alien_bullet = column((state.alien_bullet_y * SIZE + state.alien_bullet_x) * num_channels + 5)
        alien_bullet = choose(column(state.alien_bullet_x) >= 0, alien_bullet, cannon)
        return self._board(torch.cat([cannon, aliens, directions, bullets, alien_bullet], 1))

    def _alien_rows(self, state: SpaceInvadersState) -> Tensor:
        rows = column(state.alien_y) + self.rows
        return rows - (rows >= SIZE).to(INT) * SIZE  # [N, NUM_ROWS]

    def _alien_columns(self, state: SpaceInvadersState) -> Tensor:
        return column(state.alien_x) + self.columns  # [N, NUM_COLUMNS]

    def _aliens_at(self, state: SpaceInvadersState, row: int) -> Tensor:
        """Aliens in one row of the board, bool [N, NUM_COLUMNS]."""
        return (state.aliens & (self._alien_rows(state) == row).unsqueeze(2)).any(1)

    def _cannon_met(self, state: SpaceInvadersState) -> Tensor:
        """Whether an alien is where the cannon is, bool [N]."""
        above = self._alien_columns(state) == column(state.cannon_x)
        return (self._aliens_at(state, BOTTOM) & above).any(1)

    def _after_cannon(self, state: SpaceInvadersState, action: Tensor) -> tuple[SpaceInvadersState, Tensor]:
        """The cannon acts and all bullets fly; whether the aliens' one hits it, bool [N]."""
        fires = (action == 5) & (state.cannon_shot_timer == 0)
        cannon_x = (state.cannon_x + self.dx[action]).clamp(0, BOTTOM)
        fired = choose(fires, state.cannon_x, NOWHERE)
        # a new bullet starts in the bottom row and flies with the others
        bullet_x = torch.cat([state.bullet_x[:, 1:BOTTOM], column(fired), self._constant(NOWHERE, len(fired), 1)], 1)
        bullet_y = state.alien_bullet_y + 1
        state = state._replace(
            cannon_x=cannon_x,
            cannon_shot_timer=choose(fires, CANNON_SHOT_INTERVAL, state.cannon_shot_timer),
            alien_bullet_x=choose(bullet_y < SIZE, state.alien_bullet_x, NOWHERE),
            alien_bullet_y=bullet_y,
            bullet_x=bullet_x,
        )
        return state, (bullet_y == BOTTOM) & (state.alien_bullet_x == cannon_x)

    def _after_march(self, state: SpaceInvadersState) -> tuple[SpaceInvadersState, Tensor]:
        """The aliens move, if it is time; whether they reach the cannon or the bottom, bool [N]."""
        moves = state.alien_move_timer == 0
        met = self._cannon_met(state)
        edge = (state.alien_direction > 0).to(INT) * BOTTOM
        at_edge = (state.aliens.any(1) & (self._alien_columns(state) == column(edge))).any(1)
        down = moves & at_edge
        landed = down & self._aliens_at(state, BOTTOM).any(1)
        num_aliens = state.aliens.sum((1, 2), dtype=INT)
        state = state._replace(
            alien_move_timer=choose(
                moves, torch.minimum(num_aliens, state.alien_move_interval), state.alien_move_timer
            ),
            alien_direction=choose(down, -state.alien_direction, state.alien_direction),
            alien_x=state.alien_x + state.alien_direction * (moves & ~down),
            alien_y=(state.alien_y + down.to(INT)) % SIZE,
        )
        return state, met | landed | self._cannon_met(state)

    def _after_alien_shot(self, state: SpaceInvadersState) -> SpaceInvadersState:
        """The lowest alien of the column nearest to the cannon shoots, the left one of two as near."""
        shoots = state.alien_shot_timer == 0
        columns = self._alien_columns(state)
        farness = (columns - column(state.cannon_x)).abs() * 2 + (columns > column(state.cannon_x))
        nearest = choose(state.aliens.any(1), farness, 4 * SIZE)
        nearest = state.aliens & (nearest == nearest.amin(1, keepdim=True)).unsqueeze(1)
        x = choose(nearest.any(1), columns, NOWHERE).amax(1)
        y = choose(nearest.any(2), self._alien_rows(state), NOWHERE).amax(1)
        return state._replace(
            alien_shot_timer=choose(shoots, ALIEN_SHOT_INTERVAL, state.alien_shot_timer),
            alien_bullet_x=choose(shoots, x, state.alien_bullet_x),
            alien_bullet_y=choose(shoots, y, state.alien_bullet_y),
        )

    def _after_hits(self, state: SpaceInvadersState) -> tuple[SpaceInvadersState, Tensor]:
        """Aliens and bullets that meet are gone; the timers; a new wave after the last alien. And the reward [N]."""
        rows = self._alien_rows(state)
        bullet_x = state.bullet_x.gather(1, rows.long())  # [N, NUM_ROWS]
        hit = state.aliens & (bullet_x.unsqueeze(2) == self._alien_columns(state).unsqueeze(1))
        spent = choose(hit.any(2), NOWHERE, bullet_x)
        aliens = state.aliens & ~hit
        cleared = ~aliens.flatten(1).any(1)
        faster = cleared & (state.alien_move_interval > LEAST_MOVE_INTERVAL)
        interval = state.alien_move_interval - faster.to(INT) * self.difficulty_ramping
        state = state._replace(
            cannon_shot_timer=count_down(state.cannon_shot_timer),
            alien_x=choose(cleared, FIRST_ALIEN_X, state.alien_x),
            alien_y=choose(cleared, 0, state.alien_y),
            alien_move_timer=state.alien_move_timer - 1,
            alien_move_interval=interval,
            alien_shot_timer=state.alien_shot_timer - 1,
            aliens=aliens | cleared[:, None, None],
            bullet_x=state.bullet_x.scatter(1, rows.long(), spent),
        )
        return state, hit.sum((1, 2), dtype=INT)
