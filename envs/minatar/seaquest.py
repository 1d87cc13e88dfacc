"""Seaquest: bring divers up, shoot what comes, and mind your oxygen."""

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
    cell,
    choose,
    count_down,
    gone,
    move,
    on_board,
    there,
)
from envs.minatar.seaquest_state import (
    DIVER_MOVE_INTERVAL,
    DIVER_SPAWN_INTERVAL,
    ENEMY_SHOT_INTERVAL,
    LEAST_MOVE_INTERVAL,
    MAX_ABOARD,
    MAX_OXYGEN,
    NUM_ENEMIES,
    NUM_LANES,
    OXYGEN_PER_CELL,
    SHOT_INTERVAL,
    SeaquestState,
    first_state,
    newest_enemies,
    pushed,
    with_older_enemies,
)

NEWER, OLDER = 0, 1  # places of bullets
NO_CELL = -2  # of a bullet that is not on the board: no enemy is there, not even one that is NOWHERE


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
        "enemy_to_the_left": Chance(2),
        "enemy_shoots": Chance(3),
        "enemy_lane": Chance(NUM_LANES),
        "diver_to_the_left": Chance(2),
        "diver_lane": Chance(NUM_LANES),
    }

    def __init__(self, device: torch.device | str = "cpu", *, difficulty_ramping: bool = True):
        super().__init__(device, difficulty_ramping=difficulty_ramping)
        self.places = torch.arange(NUM_ENEMIES, dtype=INT, device=self.device).unsqueeze(1)
        self.columns = torch.arange(SIZE, dtype=INT, device=self.device)

    def start(self, num_envs: int, draws: Draws) -> SeaquestState:
        return first_state(num_envs, self.device)

    def step(self, state: SeaquestState, action: Tensor, draws: Draws) -> tuple[SeaquestState, Tensor, Tensor]:
        whole = state
        state = self._with_enemy(newest_enemies(state, min(self._num_places(state) + 1, NUM_ENEMIES)), draws)
        state = self._with_diver(state, draws)
        state = self._after_player(state, action)
        state, shot_down = self._after_bullets(state)
        state = self._after_divers(state)
        state, rammed, run_into = self._after_enemies(state)
        state, hit = self._after_shots(state)
        state, brought, out_of_air = self._after_breath(state)
        return with_older_enemies(state, whole), shot_down + run_into + brought, rammed | hit | out_of_air

    def observe(self, state: SeaquestState) -> Tensor:
        state = newest_enemies(state, self._num_places(state))
        enemies_behind = gone(on_board(state.enemy_x - state.enemy_direction), ~there(state.enemy_x))
        divers_behind = gone(on_board(state.diver_x - state.diver_direction), ~there(state.diver_x))
        board = self._board(
            (state.x, state.y, 0),
            (state.x - state.direction, state.y, 1),
            (state.bullet_x, state.bullet_y, 2),
            (enemies_behind, state.enemy_y, 3),
            (divers_behind, state.diver_y, 3),
            (state.shot_x, state.enemy_y, 4),
            (state.enemy_x, state.enemy_y, state.enemy_shoots.view(INT) + 5),
            (state.diver_x, state.diver_y, 9),
        )
        board[:, -1, :, 7] = self.columns < (state.oxygen // OXYGEN_PER_CELL).unsqueeze(1)
        first = (SIZE - 1 - state.aboard).unsqueeze(1)
        board[:, -1, :, 8] = (self.columns >= first) & (self.columns < SIZE - 1)
        return board

    def _num_places(self, state: SeaquestState) -> int:
        """How many places of enemies there are to be looked at.

        Nearly always a few are enough. On a GPU it is all of them: to know how many, the CPU would have to wait for it.
        """
        if self.device.type != "cpu":
            return NUM_ENEMIES
        in_use = (there(state.enemy_x) | there(state.shot_x)).view(INT).amax(1).nonzero()
        return int(in_use[-1]) + 1 if len(in_use) else 0

    def _with_enemy(self, state: SeaquestState, draws: Draws) -> SeaquestState:
        """With a new enemy, if it is time, unless one in its lane goes the other way."""
        due = state.until_enemy == 0
        lane, shoots = draws["enemy_lane"] + 1, draws["enemy_shoots"] == 0
        to_the_left = draws["enemy_to_the_left"]
        direction = 1 - 2 * to_the_left
        against = (state.enemy_y * state.enemy_direction == -lane * direction) & there(state.enemy_x)
        comes = due & ~anything(against)
        return state._replace(
            until_enemy=choose(due, state.spawn_interval, state.until_enemy),
            enemy_x=pushed(state.enemy_x, to_the_left * (SIZE - 1), comes),
            enemy_y=pushed(state.enemy_y, lane, comes),
            enemy_direction=pushed(state.enemy_direction, direction, comes),
            enemy_until_move=pushed(state.enemy_until_move, state.move_interval, comes),
            enemy_until_shot=pushed(state.enemy_until_shot, torch.full_like(lane, ENEMY_SHOT_INTERVAL), comes),
            enemy_shoots=pushed(state.enemy_shoots.view(INT), shoots.view(INT), comes).view(torch.bool),
            shot_x=pushed(state.shot_x, torch.full_like(lane, NOWHERE), comes),
        )

    def _with_diver(self, state: SeaquestState, draws: Draws) -> SeaquestState:
        due = state.until_diver == 0
        lane, to_the_left = draws["diver_lane"] + 1, draws["diver_to_the_left"]
        return state._replace(
            until_diver=choose(due, DIVER_SPAWN_INTERVAL, state.until_diver),
            diver_x=pushed(state.diver_x, to_the_left * (SIZE - 1), due),
            diver_y=pushed(state.diver_y, lane, due),
            diver_direction=pushed(state.diver_direction, 1 - 2 * to_the_left, due),
            diver_until_move=pushed(state.diver_until_move, torch.full_like(lane, DIVER_MOVE_INTERVAL), due),
        )

    def _after_player(self, state: SeaquestState, action: Tensor) -> SeaquestState:
        fires = (action == 5) & (state.until_fire == 0)
        dx = self.dx[action]
        return state._replace(
            x=(state.x + dx).clamp(0, SIZE - 1),
            y=(state.y + self.dy[action]).clamp(0, NUM_LANES),
            direction=choose(dx == 0, state.direction, dx),
            until_fire=choose(fires, SHOT_INTERVAL, state.until_fire),
            bullet_x=pushed(state.bullet_x, state.x, fires),
            bullet_y=pushed(state.bullet_y, state.y, fires),
            bullet_direction=pushed(state.bullet_direction, state.direction, fires),
        )

    def _after_bullets(self, state: SeaquestState) -> tuple[SeaquestState, Tensor]:
        """The player's bullets fly; the newer one first, they take the oldest fish that they meet, else submarine."""
        state = state._replace(bullet_x=move(state.bullet_x, state.bullet_direction))
        order = state.enemy_shoots.view(INT) * NUM_ENEMIES - self.places[: len(state.enemy_x)]
        return self._shot_down(state, (NEWER, OLDER), cell(state.enemy_x, state.enemy_y), order)

    def _after_divers(self, state: SeaquestState) -> SeaquestState:
        """Divers swim; those that the player meets, before or after, come aboard while there is room.

        The newest comes first, which counts where two meet the player and there is room for one.
        """
        moves = state.diver_until_move.logical_not()
        x = move(state.diver_x, state.diver_direction * moves.view(INT))
        met = ((state.diver_x == state.x) | (x == state.x)) & (state.diver_y == state.y)
        taken = met & (state.aboard + met.cumsum(0, dtype=INT) <= MAX_ABOARD)
        return state._replace(
            aboard=state.aboard + taken.sum(0, dtype=INT),
            diver_x=gone(x, taken),
            diver_until_move=choose(moves, DIVER_MOVE_INTERVAL, state.diver_until_move - 1),
        )

    def _after_enemies(self, state: SeaquestState) -> tuple[SeaquestState, Tensor, Tensor]:
        """Enemies move and submarines shoot; whether one meets the player, and how many run into bullets.

        A submarine that runs into a bullet still shoots.
        """
        moves, ready = state.enemy_until_move.logical_not(), state.enemy_until_shot.logical_not()
        x = move(state.enemy_x, state.enemy_direction * moves.view(INT))
        in_lane = state.enemy_y == state.y
        after = in_lane & (x == state.x)
        rammed = anything((in_lane & (state.enemy_x == state.x)) | after)
        shoots = state.enemy_shoots & ready & there(x)
        state = state._replace(
            enemy_x=x,
            enemy_until_move=choose(moves, state.move_interval, state.enemy_until_move - 1),
            enemy_until_shot=choose(ready, ENEMY_SHOT_INTERVAL, state.enemy_until_shot - 1),
            shot_x=choose(shoots, x, state.shot_x),
        )
        met = self._shots_meet_player(state)
        # submarines before fish, and of each the newest first, they take the older bullet
        order = self.places[: len(x)] - state.enemy_shoots.view(INT) * NUM_ENEMIES
        cells = gone(cell(x, state.enemy_y), ~moves | after)
        state, run_into = self._shot_down(state, (OLDER, NEWER), cells, order)
        return state, rammed | met, run_into

    def _after_shots(self, state: SeaquestState) -> tuple[SeaquestState, Tensor]:
        """The enemies' shots fly; whether one hits the player, bool [N]."""
        state = state._replace(shot_x=move(state.shot_x, state.enemy_direction))
        return state, self._shots_meet_player(state)

    def _after_breath(self, state: SeaquestState) -> tuple[SeaquestState, Tensor, Tensor]:
        """Under water oxygen goes; at the surface divers leave. Reward [N], and whether it was too late, bool [N]."""
        under = state.y > 0
        comes_up = ~under & ~state.surfaced
        brings = comes_up & (state.aboard != 0)
        all_aboard = brings & (state.aboard == MAX_ABOARD)
        reward = (state.oxygen // OXYGEN_PER_CELL).to(INT) * all_aboard
        left = choose(all_aboard, 0, state.aboard) - brings.view(INT)
        oxygen = choose(brings, MAX_OXYGEN, state.oxygen - under.view(INT))
        too_late = (state.oxygen <= 0) | (comes_up & ~brings)
        state = state._replace(
            oxygen=oxygen,
            aboard=left,
            surfaced=~under & (state.surfaced | brings),
            until_fire=count_down(state.until_fire),
            until_enemy=count_down(state.until_enemy),
            until_diver=count_down(state.until_diver),
        )
        return self._ramped(state, brings) if self.difficulty_ramping else state, reward, too_late

    def _ramped(self, state: SeaquestState, brings: Tensor) -> SeaquestState:
        """Enemies come more often after each time that the player came up, and move faster after every second."""
        slow, rare = state.move_interval > LEAST_MOVE_INTERVAL, state.spawn_interval > 1
        ramps = brings & (slow | rare)
        faster = ramps & slow & (state.num_ramps % 2 == 1)
        return state._replace(
            spawn_interval=state.spawn_interval - (ramps & rare).view(INT),
            move_interval=state.move_interval - faster.view(INT),
            num_ramps=state.num_ramps + ramps.view(INT),
        )

    def _shot_down(
        self, state: SeaquestState, bullets: tuple[int, ...], cells: Tensor, order: Tensor
    ) -> tuple[SeaquestState, Tensor]:
        """Bullets and enemies that meet are gone; how many they were, [N].

        Args:
            bullets: their places, in the order in which each takes one enemy.
            cells: of the enemies, NOWHERE of one that cannot be taken, [K, N].
            order: of the enemies in a cell the one with the least number is taken, within +-NUM_ENEMIES, no two alike.
        """
        bullet_cells = cell(state.bullet_x, state.bullet_y)
        bullet_cells = choose(bullet_cells < 0, NO_CELL, bullet_cells)
        bullet_x, left = list(state.bullet_x), cells
        num_hits = torch.zeros_like(state.x)
        for k in bullets:
            met = left == bullet_cells[k]
            ranks = order - met.view(INT) * (2 * NUM_ENEMIES + 1)  # those that are met before all others
            first = ranks.amin(0)
            hit = first < -NUM_ENEMIES
            left = gone(left, met & (ranks == first))
            bullet_x[k] = gone(bullet_x[k], hit)
            num_hits = num_hits + hit.view(INT)
        return state._replace(enemy_x=gone(state.enemy_x, left != cells), bullet_x=torch.stack(bullet_x)), num_hits

    def _shots_meet_player(self, state: SeaquestState) -> Tensor:
        return anything((state.shot_x == state.x) & (state.enemy_y == state.y))
