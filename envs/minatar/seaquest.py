"""Seaquest: bring divers up, shoot what comes, and mind your oxygen."""

import torch
from torch import Tensor

from envs.minatar.game import INT, SIZE, Chance, Draws, Game, choose, column, count_down
from envs.minatar.seaquest_state import (
    DIVER_MOVE_INTERVAL,
    DIVER_SPAWN_INTERVAL,
    ENEMY_SHOT_INTERVAL,
    LEAST_MOVE_INTERVAL,
    MAX_ABOARD,
    MAX_OXYGEN,
    NOWHERE,
    NUM_ENEMIES,
    NUM_LANES,
    OXYGEN_PER_CELL,
    SHOT_INTERVAL,
    SeaquestState,
    first_state,
    on_board,
    pushed,
)

NEWER, OLDER = 0, 1  # places of bullets
NEVER = 2 * NUM_ENEMIES  # after all ranks of enemies


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
        return first_state(num_envs, self.device)

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
        things = choose(there, torch.cat([bullets, enemies, divers, trails], 1), front)
        board = self._board(torch.cat([front, back, things], 1))
        board[:, 1 : NUM_LANES + 1, :, 4] = state.shots[:, 0] | state.shots[:, 1]
        level = state.oxygen // OXYGEN_PER_CELL
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
            spawn_timer=choose(due, state.spawn_interval, state.spawn_timer),
            next_place=(state.next_place + comes.to(INT)) % NUM_ENEMIES,
            enemy_x=choose(new, (1 - to_the_right) * (SIZE - 1), state.enemy_x),
            enemy_y=choose(new, lane, state.enemy_y),
            enemy_direction=choose(new, direction, state.enemy_direction),
            enemy_timer=choose(new, column(state.move_interval), state.enemy_timer),
            enemy_shot_timer=choose(new, ENEMY_SHOT_INTERVAL, state.enemy_shot_timer),
            enemy_shoots=(new & column(draws["enemy_shoots"] == 0)) | (state.enemy_shoots & ~new),
        )

    def _with_diver(self, state: SeaquestState, draws: Draws) -> SeaquestState:
        due = state.diver_spawn_timer == 0
        to_the_right = 1 - draws["diver_to_the_right"]
        timer = self._constant(DIVER_MOVE_INTERVAL, len(due))
        return state._replace(
            diver_spawn_timer=choose(due, DIVER_SPAWN_INTERVAL, state.diver_spawn_timer),
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
            direction=choose(dx == 0, state.direction, dx),
            shot_timer=choose(fires, SHOT_INTERVAL, state.shot_timer),
            bullet_x=pushed(state.bullet_x, state.x, fires),
            bullet_y=pushed(state.bullet_y, state.y, fires),
            bullet_direction=pushed(state.bullet_direction, state.direction, fires),
        )

    def _after_bullets(self, state: SeaquestState) -> tuple[SeaquestState, Tensor]:
        """The player's bullets fly; the newer one first, they take the oldest fish that they meet, else submarine."""
        x = state.bullet_x + state.bullet_direction * (state.bullet_x >= 0)
        state = state._replace(bullet_x=on_board(x))
        order = state.enemy_shoots.to(INT) * NUM_ENEMIES - self._youth(state)
        return self._shot_down(state, (NEWER, OLDER), state.enemy_x >= 0, order)

    def _after_divers(self, state: SeaquestState) -> SeaquestState:
        """Divers swim; those that the player meets, before or after, come aboard while there is room.

        The newest comes first, which counts where two meet the player and there is room for one.
        """
        moves = state.diver_timer == 0
        moved = on_board(state.diver_x + state.diver_direction * (moves & (state.diver_x >= 0)))
        met = (state.diver_x == column(state.x)) | (moved == column(state.x))
        met &= state.diver_y == column(state.y)
        taken = met & (column(state.aboard) + met.cumsum(1, dtype=INT) <= MAX_ABOARD)
        return state._replace(
            aboard=state.aboard + taken.sum(1, dtype=INT),
            diver_x=choose(taken, NOWHERE, moved),
            diver_timer=choose(moves, DIVER_MOVE_INTERVAL, state.diver_timer - 1),
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
        there, ready = moved >= 0, state.enemy_shot_timer == 0
        shoots = state.enemy_shoots & there & ready
        cells = (1 - state.enemy_direction) * (NUM_LANES * SIZE // 2) + (state.enemy_y - 1) * SIZE + moved
        # those that do not shoot put theirs where it leaves the board at once: in the last column, to the right
        cells = choose(shoots, cells, SIZE - 1).long()
        state = state._replace(
            enemy_x=moved,
            enemy_timer=choose(moves, column(state.move_interval), state.enemy_timer - 1),
            enemy_shot_timer=choose(ready, ENEMY_SHOT_INTERVAL, state.enemy_shot_timer - 1),
        )
        new_shots = torch.zeros_like(state.shots).flatten(1).scatter_(1, cells, True).view_as(state.shots)
        met = self._shots_meet_player(state)
        state = state._replace(shots=state.shots | new_shots)
        movers = moves & there & ~after
        # submarines before fish, and of each the newest first, they take the older bullet
        order = self._youth(state) - state.enemy_shoots.to(INT) * NUM_ENEMIES
        state, run_into = self._shot_down(state, (OLDER, NEWER), movers, order)
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
        reward = choose(all_aboard, state.oxygen // OXYGEN_PER_CELL, 0)
        left = choose(all_aboard, 0, state.aboard) - brings.to(INT)
        oxygen = choose(brings, MAX_OXYGEN, state.oxygen - under.to(INT))
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

    def _youth(self, state: SeaquestState) -> Tensor:
        """Rank of each enemy by its age, 0 of the newest; [N, NUM_ENEMIES]."""
        return (column(state.next_place) - 1 - self.places) & (NUM_ENEMIES - 1)

    def _shot_down(
        self, state: SeaquestState, bullets: tuple[int, ...], enemies: Tensor, order: Tensor
    ) -> tuple[SeaquestState, Tensor]:
        """Bullets and enemies that meet are gone; how many they were, [N].

        Args:
            bullets: their places, in the order in which each takes one enemy.
            enemies: which can be taken, bool [N, NUM_ENEMIES].
            order: of the enemies in a cell the one with the least number is taken, [N, NUM_ENEMIES].
        """
        enemy_cell = state.enemy_y * SIZE + state.enemy_x
        bullet_cell = choose(state.bullet_x >= 0, state.bullet_y * SIZE + state.bullet_x, NOWHERE)
        left, bullet_x = enemies, list(state.bullet_x.unbind(1))
        num_hits = torch.zeros_like(state.x)
        for k in bullets:
            met = left & (enemy_cell == bullet_cell[:, k : k + 1])
            rank = choose(met, order, NEVER)
            first = rank.amin(1, keepdim=True)
            left = left & ~(met & (rank == first))
            hit = first.squeeze(1) < NEVER
            bullet_x[k] = choose(hit, NOWHERE, bullet_x[k])
            num_hits = num_hits + hit.to(INT)
        enemy_x = choose(enemies ^ left, NOWHERE, state.enemy_x)
        return state._replace(enemy_x=enemy_x, bullet_x=torch.stack(bullet_x, 1)), num_hits

    def _shots_meet_player(self, state: SeaquestState) -> Tensor:
        cell = (state.y - 1) * SIZE + state.x
        shots = (state.shots[:, 0] | state.shots[:, 1]).flatten(1)
        there = shots.gather(1, column(cell.clamp(min=0).long())).squeeze(1)
        return there & (state.y > 0)
