"""Freeway: cross eight lanes of cars, again and again until the time is up."""

from typing import NamedTuple

import torch
from torch import Tensor

from envs.minatar.game import INT, SIZE, Chance, Draws, Game, choose, column, count_down

NUM_CARS = 8  # one in each of rows 1 .. 8
MAX_SPEED = 5
CHICKEN_X, CHICKEN_START_Y = 4, SIZE - 1
CHICKEN_INTERVAL = 3  # frames from one move of the chicken to the next
TIME_LIMIT = 2500


class FreewayState(NamedTuple):
    chicken_y: Tensor  # [N]
    chicken_timer: Tensor  # [N]
    time_left: Tensor  # [N]
    car_x: Tensor  # [N, NUM_CARS], as all that follows
    car_timer: Tensor
    car_interval: Tensor  # frames that a car waits between two moves
    car_direction: Tensor  # 1 to the right, -1 to the left


class Freeway(Game[FreewayState]):
    """The chicken moves up and down; a car sends it back, and the other side pays 1 and changes all cars.

    An episode ends after TIME_LIMIT frames by being terminated, although the observation does not show the time: so
    it is in the original.
    """

    channels = ("chicken", "car", "speed1", "speed2", "speed3", "speed4", "speed5")
    minimal_actions = (0, 2, 4)
    start_chances = {"car": Chance(2 * MAX_SPEED, (NUM_CARS,))}
    step_chances = start_chances

    def __init__(self, device: torch.device | str = "cpu", *, difficulty_ramping: bool = True):
        super().__init__(device, difficulty_ramping=difficulty_ramping)
        self.lanes = torch.arange(1, NUM_CARS + 1, dtype=INT, device=self.device)

    def start(self, num_envs: int, draws: Draws) -> FreewayState:
        interval, direction = self._cars(draws)
        return FreewayState(
            chicken_y=self._constant(CHICKEN_START_Y, num_envs),
            chicken_timer=self._constant(CHICKEN_INTERVAL, num_envs),
            time_left=self._constant(TIME_LIMIT, num_envs),
            car_x=self._constant(0, num_envs, NUM_CARS),
            car_timer=interval,
            car_interval=interval,
            car_direction=direction,
        )

    def step(self, state: FreewayState, action: Tensor, draws: Draws) -> tuple[FreewayState, Tensor, Tensor]:
        dy = self.dy[action]
        goes = (state.chicken_timer == 0) & (dy != 0)
        chicken_y = (state.chicken_y + dy * goes).clamp(max=CHICKEN_START_Y)
        chicken_timer = choose(goes, CHICKEN_INTERVAL, state.chicken_timer)
        across = chicken_y == 0
        chicken_y = choose(across, CHICKEN_START_Y, chicken_y)

        interval, direction = self._cars(draws)
        interval = choose(column(across), interval, state.car_interval)
        direction = choose(column(across), direction, state.car_direction)
        timer = choose(column(across), interval, state.car_timer)
        moves = timer == 0
        x = around(state.car_x + direction * moves)
        hit = (state.car_x == CHICKEN_X) | (x == CHICKEN_X)
        hit &= self.lanes == column(chicken_y)
        time_left = state.time_left - 1
        state = FreewayState(
            chicken_y=choose(hit.any(1), CHICKEN_START_Y, chicken_y),
            chicken_timer=count_down(chicken_timer),
            time_left=time_left,
            car_x=x,
            car_timer=choose(moves, interval, timer - 1),
            car_interval=interval,
            car_direction=direction,
        )
        return state, across.to(INT), time_left < 0

    def observe(self, state: FreewayState) -> Tensor:
        num_channels = len(self.channels)
        chicken = column((state.chicken_y * SIZE + CHICKEN_X) * num_channels)
        first = self.lanes * (SIZE * num_channels)  # cell 0 of each lane
        cars = first + state.car_x * num_channels + 1
        behind = around(state.car_x - state.car_direction)
        trails = first + behind * num_channels + 1 + state.car_interval
        return self._board(torch.cat([chicken, cars, trails], 1))

    @staticmethod
    def _cars(draws: Draws) -> tuple[Tensor, Tensor]:
        """Interval and direction of new cars: each speed to each side is equally likely."""
        car = draws["car"]
        to_the_right = (car >= MAX_SPEED).to(INT)
        return car - to_the_right * MAX_SPEED + 1, 2 * to_the_right - 1


def around(x: Tensor) -> Tensor:
    """Columns -1 .. SIZE, those off the board back at its other side."""
    return x + ((x < 0).to(INT) - (x >= SIZE).to(INT)) * SIZE
