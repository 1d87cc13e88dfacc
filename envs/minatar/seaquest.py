"""Seaquest: bring divers up, shoot what comes, and mind your oxygen."""

from typing import NamedTuple

import torch
from torch import Tensor

from envs.minatar.game import INT, SIZE, Chance, Draws, Game, column, count_down

NUM_LANES = 8  # rows 1 .. 8
NUM_BULLETS, NUM_DIVERS, NUM_ENEMIES = 2, 3, 32  # no more can be alive: older ones have left the board
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
    bullet_x: Tensor  # [N, NUM_BULLETS], the older one first; x is NOWHERE in an empty place, here and below
    bullet_y: Tensor
    bullet_direction: Tensor
    diver_x: Tensor  # [N, NUM_DIVERS], the oldest first
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


class Seaquest(Game[SeaquestState]):
    """Fish and submarines come in from both sides, and so do divers; coming up makes the enemies more and faster.

    What happens in a frame, in this order: an enemy and a diver may come in; the player acts; its bullets fly; divers
    swim; enemies move, and submarines shoot; their shots fly; a breath is taken.

    A debt of divers: who comes up with all MAX_ABOARD is left with -1 of them and not with 0, as in the original, and
    may come up once more at no cost (and again with -2, ...) until a diver taken aboard makes it 0.
    """

    channels = (
        *("sub_front", "sub_back", "friendly_bullet", "trail", "enemy_bullet"),
        *("enemy_fish", "enemy_sub", "oxygen_gauge", "diver_gauge", "diver"),
    )
    minimal_actions = (0, 1, 2, 3, 4, 5)
    step_chances = {
        "enemy_to_the_right": Chance(2),
        "enemy_shoots": Chance(3),
        "enemy_lane": Chance(NUM_LANES),
        "diver_to_the_right": Chance(2),
        "diver_lane": Chance(NUM_LANES),
    }

    def __init__(self, device: torch.device | str = "cpu", *, difficulty_ramping: bool = True):
        super().__init__(device, difficulty_ramping=difficulty_ramping)
        self.places = torch.arange(NUM_ENEMIES, dtype=INT, device=self.device)
        self.columns = torch.arange(SIZE, dtype=INT, device=self.device)

    def start(self, num_envs: int, draws: Draws) -> SeaquestState:
        def all_of(value: int, *shape: int) -> Tensor:
            return self._constant(value, num_envs, *shape)

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

    def step(self, state: SeaquestState, action: Tensor, draws: Draws) -> tuple[SeaquestState, Tensor, Tensor]:
        state = self._with_enemy(state, draws)
        state = self._with_diver(state, draws)
        state = self._after_player(state, action)
        state, shot_down = self._after_bullets(state)
        state = self._after_divers(state)
        state, rammed, run_into = self._after_enemies(state)
        state, hit = self._after_shots(state)
        state, brought, out_of_air = self._after_breath(state)
        return state, shot_down + run_into + brought, rammed | hit | out_of_air

    def observe(self, state: SeaquestState) -> Tensor:
        num_channels = len(self.channels)

        def cells(x: Tensor, y: Tensor, channel: Tensor | int) -> Tensor:
            return (y * SIZE + x) * num_channels + channel

        front = column(cells(state.x, state.y, 0))
        back = column(cells(state.x - state.direction, state.y, 1))
        bullets = cells(state.bullet_x, state.bullet_y, 2)
        enemies = cells(state.enemy_x, state.enemy_y, 5 + state.enemy_shoots.to(INT))
        divers = cells(state.diver_x, state.diver_y, 9)
        x = torch.cat([state.enemy_x, state.diver_x], 1)
        behind = x - torch.cat([state.enemy_direction, state.diver_direction], 1)
        trails = cells(behind, torch.cat([state.enemy_y, state.diver_y], 1), 3)
        trailing = (x >= 0) & (behind >= 0) & (behind < SIZE)
        there = torch.cat([state.bullet_x >= 0, x >= 0, trailing], 1)
        # what is not there is drawn over the submarine, where the board is on anyway
        things = torch.where(there, torch.cat([bullets, enemies, divers, trails], 1), front)
        board = self._board(torch.cat([front, back, things], 1))
        board[:, 1 : NUM_LANES + 1, :, 4] = state.shots.any(1)
        level = torch.div(state.oxygen, OXYGEN_PER_CELL, rounding_mode="floor")
        board[:, -1, :, 7] = self.columns < column(level)
        board[:, -1, :, 8] = (self.columns >= column(SIZE - 1 - state.aboard)) & (self.columns < SIZE - 1)
        return board

    def _with_enemy(self, state: SeaquestState, draws: Draws) -> SeaquestState:
        """With a new enemy, if it is time, unless one in its lane goes the other way."""
        due = state.spawn_timer == 0
        lane = column(draws["enemy_lane"] + 1)
        to_the_right = column(1 - draws["enemy_to_the_right"])
        direction = 2 * to_the_right - 1
        against = (state.enemy_x >= 0) & (state.enemy_y == lane) & (state.enemy_direction != direction)
        comes = due & ~against.any(1)
        new = (self.places == column(state.next_place)) & column(comes)
        return state._replace(
            spawn_timer=torch.where(due, state.spawn_interval, state.spawn_timer),
            next_place=(state.next_place + comes.to(INT)) % NUM_ENEMIES,
            enemy_x=torch.where(new, (1 - to_the_right) * (SIZE - 1), state.enemy_x),
            enemy_y=torch.where(new, lane, state.enemy_y),
            enemy_direction=torch.where(new, direction, state.enemy_direction),
            enemy_timer=torch.where(new, column(state.move_interval), state.enemy_timer),
            enemy_shot_timer=torch.where(new, ENEMY_SHOT_INTERVAL, state.enemy_shot_timer),
            enemy_shoots=torch.where(new, column(draws["enemy_shoots"] == 0), state.enemy_shoots),
        )

    def _with_diver(self, state: SeaquestState, draws: Draws) -> SeaquestState:
        due = state.diver_spawn_timer == 0
        to_the_right = 1 - draws["diver_to_the_right"]
        timer = self._constant(DIVER_MOVE_INTERVAL, len(due))
        return state._replace(
            diver_spawn_timer=torch.where(due, DIVER_SPAWN_INTERVAL, state.diver_spawn_timer),
            diver_x=pushed(state.diver_x, (1 - to_the_right) * (SIZE - 1), due),
            diver_y=pushed(state.diver_y, draws["diver_lane"] + 1, due),
            diver_direction=pushed(state.diver_direction, 2 * to_the_right - 1, due),
            diver_timer=pushed(state.diver_timer, timer, due),
        )

    def _after_player(self, state: SeaquestState, action: Tensor) -> SeaquestState:
        fires = (action == 5) & (state.shot_timer == 0)
        dx = self.dx[action]
        return state._replace(
            x=(state.x + dx).clamp(0, SIZE - 1),
            y=(state.y + self.dy[action]).clamp(0, NUM_LANES),
            direction=torch.where(dx == 0, state.direction, dx),
            shot_timer=torch.where(fires, SHOT_INTERVAL, state.shot_timer),
            bullet_x=pushed(state.bullet_x, state.x, fires),
            bullet_y=pushed(state.bullet_y, state.y, fires),
            bullet_direction=pushed(state.bullet_direction, state.direction, fires),
        )

    def _after_bullets(self, state: SeaquestState) -> tuple[SeaquestState, Tensor]:
        """The player's bullets fly, and take the oldest fish that they meet, else the oldest submarine."""
        x = state.bullet_x + state.bullet_direction * (state.bullet_x >= 0)
        state = state._replace(bullet_x=on_board(x))
        return self._shot_down(state, state.enemy_x >= 0, self._age_order(state, last=state.enemy_shoots))

    def _after_divers(self, state: SeaquestState) -> SeaquestState:
        """Divers swim; one that the player meets, before or after, comes aboard while there is room."""
        moves = state.diver_timer == 0
        moved = on_board(state.diver_x + state.diver_direction * (moves & (state.diver_x >= 0)))
        met = (state.diver_x == column(state.x)) | (moved == column(state.x))
        met &= state.diver_y == column(state.y)
        taken = met & (column(state.aboard) + met.cumsum(1, dtype=INT) <= MAX_ABOARD)
        return state._replace(
            aboard=state.aboard + taken.sum(1, dtype=INT),
            diver_x=torch.where(taken, NOWHERE, moved),
            diver_timer=torch.where(moves, DIVER_MOVE_INTERVAL, state.diver_timer - 1),
        )

    def _after_enemies(self, state: SeaquestState) -> tuple[SeaquestState, Tensor, Tensor]:
        """Enemies move and submarines shoot; whether one meets the player, and how many run into bullets.

        A submarine that runs into a bullet still shoots.
        """
        alive, moves = state.enemy_x >= 0, state.enemy_timer == 0
        moved = on_board(state.enemy_x + state.enemy_direction * (moves & alive))
        in_lane = state.enemy_y == column(state.y)
        after = in_lane & (moved == column(state.x))
        rammed = (in_lane & (state.enemy_x == column(state.x))) | after
        shoots = state.enemy_shoots & (moved >= 0) & (state.enemy_shot_timer == 0)
        cells = (state.enemy_direction < 0) * (NUM_LANES * SIZE) + (state.enemy_y - 1) * SIZE + moved
        # those that do not shoot put theirs where it leaves the board at once: in the last column, to the right
        cells = torch.where(shoots, cells, SIZE - 1).long()
        state = state._replace(
            enemy_x=moved,
            enemy_timer=torch.where(moves, column(state.move_interval), state.enemy_timer - 1),
            enemy_shot_timer=torch.where(state.enemy_shot_timer == 0, ENEMY_SHOT_INTERVAL, state.enemy_shot_timer - 1),
        )
        new_shots = torch.zeros_like(state.shots).flatten(1).scatter_(1, cells, True).view_as(state.shots)
        met = self._shots_meet_player(state)
        state = state._replace(shots=state.shots | new_shots)
        movers = moves & (moved >= 0) & ~after
        state, run_into = self._shot_down(state, movers, self._age_order(state, last=~state.enemy_shoots))
        return state, rammed.any(1) | met, run_into

    def _after_shots(self, state: SeaquestState) -> tuple[SeaquestState, Tensor]:
        """The enemies' shots fly; whether one hits the player, bool [N]."""
        to_the_right, to_the_left = state.shots.unbind(1)
        to_the_right = torch.nn.functional.pad(to_the_right[..., :-1], (1, 0))
        to_the_left = torch.nn.functional.pad(to_the_left[..., 1:], (0, 1))
        state = state._replace(shots=torch.stack([to_the_right, to_the_left], 1))
        return state, self._shots_meet_player(state)

    def _after_breath(self, state: SeaquestState) -> tuple[SeaquestState, Tensor, Tensor]:
        """Under water oxygen goes; at the surface divers leave. Reward [N], and whether it was too late, bool [N]."""
        under = state.y > 0
        comes_up = ~under & ~state.surfaced
        brings = comes_up & (state.aboard != 0)
        all_aboard = brings & (state.aboard == MAX_ABOARD)
        reward = torch.where(all_aboard, torch.div(state.oxygen, OXYGEN_PER_CELL, rounding_mode="floor"), 0)
        left = torch.where(all_aboard, 0, state.aboard) - brings.to(INT)
        oxygen = torch.where(brings, MAX_OXYGEN, state.oxygen - under.to(INT))
        too_late = (state.oxygen <= 0) | (comes_up & ~brings)
        state = state._replace(
            oxygen=oxygen,
            aboard=left,
            surfaced=~under & (state.surfaced | brings),
            shot_timer=count_down(state.shot_timer),
            spawn_timer=count_down(state.spawn_timer),
            diver_spawn_timer=count_down(state.diver_spawn_timer),
        )
        return self._ramped(state, brings) if self.difficulty_ramping else state, reward, too_late

    def _ramped(self, state: SeaquestState, brings: Tensor) -> SeaquestState:
        """Enemies come more often after each time that the player came up, and move faster after every second."""
        slow = state.move_interval > LEAST_MOVE_INTERVAL
        ramps = brings & (slow | (state.spawn_interval > 1))
        faster = ramps & slow & (state.num_ramps % 2 == 1)
        return state._replace(
            spawn_interval=state.spawn_interval - (ramps & (state.spawn_interval > 1)).to(INT),
            move_interval=state.move_interval - faster.to(INT),
            num_ramps=state.num_ramps + ramps.to(INT),
        )

    def _age_order(self, state: SeaquestState, last: Tensor) -> Tensor:
        """Rank of each enemy, the oldest first, and those of `last` after all others; [N, NUM_ENEMIES]."""
        return (self.places - column(state.next_place)) % NUM_ENEMIES + last * NUM_ENEMIES

    def _shot_down(self, state: SeaquestState, enemies: Tensor, order: Tensor) -> tuple[SeaquestState, Tensor]:
        """Each bullet, the older one first, takes the first of `enemies` in its cell; how many it were, [N]."""
        bullets = []
        enemy_x, num_hits = state.enemy_x, torch.zeros_like(state.x)
        for k in range(NUM_BULLETS):
            x, y = state.bullet_x[:, k : k + 1], state.bullet_y[:, k : k + 1]
            met = enemies & (enemy_x >= 0) & (enemy_x == x) & (state.enemy_y == y)
            rank = torch.where(met, order, 2 * NUM_ENEMIES)
            hit = met & (rank == rank.amin(1, keepdim=True))
            hits = hit.any(1)
            bullets.append(torch.where(hits, NOWHERE, state.bullet_x[:, k]))
            enemy_x = torch.where(hit, NOWHERE, enemy_x)
            num_hits = num_hits + hits.to(INT)
        return state._replace(enemy_x=enemy_x, bullet_x=torch.stack(bullets, 1)), num_hits

    def _shots_meet_player(self, state: SeaquestState) -> Tensor:
        cell = (state.y - 1) * SIZE + state.x
        there = state.shots.any(1).flatten(1).gather(1, column(cell.clamp(min=0).long())).squeeze(1)
        return there & (state.y > 0)


def on_board(x: Tensor) -> Tensor:
    """Columns, NOWHERE where they are off the board."""
    return torch.where((x >= 0) & (x < SIZE), x, NOWHERE)


def pushed(queue: Tensor, new: Tensor, where: Tensor) -> Tensor:
    """`queue` [N, K] with `new` [N] at its end in place of the first, where `where` (bool [N])."""
    return torch.where(column(where), torch.cat([queue[:, 1:], column(new)], 1), queue)
