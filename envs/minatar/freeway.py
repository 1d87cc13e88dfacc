"""Freeway: cross eight lanes of cars, again and again until the time is up."""

from typing import NamedTuple

import torch
from torch import Tensor

from envs.minatar.game import INT, SIZE, WIDE, Chance, Draws, Game, anything, choose, count_down

NUM_CARS = 8  # one in each of rows 1 .. 8
MAX_SPEED = 5
CHICKEN_X, CHICKEN_START_Y = 4, SIZE - 1
CHICKEN_INTERVAL = 3  # frames from one move of the chicken to the next
TIME_LIMIT = 2500


class FreewayState(NamedTuple):
    chicken_y: Tensor  # [N]
    until_step: Tensor  # [N], frames in which the chicken cannot move
    time_left: Tensor  # [N] int16
    car_x: Tensor  # [NUM_CARS, N], as all that follows
    until_move: Tensor  # frames until a car moves
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
        self.lanes = torch.arange(1, NUM_CARS + 1, dtype=INT, device=self.device).unsqueeze(1)

    def start(self, num_envs: int, draws: Draws) -> FreewayState:
        interval, direction = self._cars(draws)
        return FreewayState(
            chicken_y=self._constant(CHICKEN_START_Y, num_envs),
            until_step=self._constant(CHICKEN_INTERVAL, num_envs),
            time_left=self._constant(TIME_LIMIT, num_envs, dtype=WIDE),
            car_x=self._constant(0, NUM_CARS, num_envs),
            until_move=interval,
            car_interval=interval,
            car_direction=direction,
        )

    def step(self, state: FreewayState, action: Tensor, draws: Draws) -> tuple[FreewayState, Tensor, Tensor]:
        dy = self.dy[action]
        goes = state.until_step.logical_not() & dy.bool()
        chicken_y = (state.chicken_y + dy * goes).clamp(max=CHICKEN_START_Y)
        until_step = choose(goes, CHICKEN_INTERVAL, state.until_step)
        across = chicken_y == 0
        chicken_y = choose(across, CHICKEN_START_Y, chicken_y)

        interval, direction = self._cars(draws)
        interval = choose(across, interval, state.car_interval)
        direction = choose(across, direction, state.car_direction)
        until_move = choose(across, interval, state.until_move)
        moves = until_move.logical_not()
        x = around(state.car_x + direction * moves.view(INT))
        met = (state.car_x == CHICKEN_X) | (x == CHICKEN_X)
        hit = anything(met & (self.lanes == chicken_y))
        time_left = state.time_left - 1
        state = FreewayState(
            chicken_y=choose(hit, CHICKEN_START_Y, chicken_y),
            until_step=count_down(until_step),
            time_left=time_left,
            car_x=x,
            until_move=choose(moves, interval, until_move - 1),
            car_interval=interval,
            car_direction=direction,
        )
        return state, across.to(INT), time_left < 0

    def observe(self, state: FreewayState) -> Tensor:
        return self._board(
            (self._constant(CHICKEN_X, len(state.chicken_y)), state.chicken_y, 0),
            (state.car_x, self.lanes, 1),
            (around(state.car_x - state.car_direction), self.lanes, state.car_interval + 1),
        )

    @staticmethod
    def _cars(draws: Draws) -> tuple[Tensor, Tensor]:
        """Interval and direction of new cars: each speed to each side is equally likely."""
        car = draws["car"]
        to_the_right = (car >= MAX_SPEED).view(INT)
        return car - to_the_right * MAX_SPEED + 1, 2 * to_the_right - 1


def around(x: Tensor) -> Tensor:
    """Columns -1 .. SIZE, those off the board back at its other side."""
    return x + SIZE * (((SIZE - 1 - x) >> 7) - (x >> 7))
