"""What the five games have in common: a game is its rules, written for N environments at once.

N environments, C channels, K cells that are on. Numbers of a state are int16: small, and alike everywhere.
"""

from abc import ABC, abstractmethod
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

SIZE = 10  # the board is SIZE x SIZE
INT = torch.int16
ACTIONS = ("noop", "left", "up", "right", "down", "fire")

Draws = dict[str, Tensor]
"""Random numbers by their name: integers, each equally likely in 0 .. outcomes - 1."""


class Chance(NamedTuple):
    """A random number that a game needs: how many equally likely outcomes, and how many of it in one environment."""

    outcomes: int
    shape: tuple[int, ...] = ()


S = TypeVar("S", bound=tuple[Tensor, ...])


class Game(ABC, Generic[S]):
    """The rules of a game. It keeps nothing: a state goes in, and a new one comes out.

    Args:
        device: where the tensors are.
        difficulty_ramping: whether a game gets harder as it goes on, where it knows how to.
    """

    channels: tuple[str, ...]
    minimal_actions: tuple[int, ...]  # those of ACTIONS that do something
    start_chances: dict[str, Chance] = {}
    step_chances: dict[str, Chance] = {}

    def __init__(self, device: torch.device | str = "cpu", *, difficulty_ramping: bool = True):
        self.device = torch.device(device)
        self.difficulty_ramping = difficulty_ramping
        self.dx = self._numbers(0, -1, 0, 1, 0, 0)  # by action
        self.dy = self._numbers(0, 0, -1, 0, 1, 0)

    @abstractmethod
    def start(self, num_envs: int, draws: Draws) -> S:
        """The state in which episodes begin; draws as in `start_chances`."""

    @abstractmethod
    def step(self, state: S, action: Tensor, draws: Draws) -> tuple[S, Tensor, Tensor]:
        """One frame; the state given is left as it is.

        Args:
            action: int64 [N], indices of ACTIONS.
            draws: as in `step_chances`, [N, *shape] each; not all are needed in every environment.

        Returns:
            The next state, reward int16 [N], terminal bool [N].
        """

    @abstractmethod
    def observe(self, state: S) -> Tensor:
        """What is seen, bool [N, SIZE, SIZE, C], in new memory."""

    def draw(self, chances: dict[str, Chance], num_envs: int, generator: torch.Generator) -> Draws:
        """Random numbers for `start` or `step`."""
        return {
            name: torch.randint(
                chance.outcomes, (num_envs, *chance.shape), generator=generator, dtype=INT, device=self.device
            )
            for name, chance in chances.items()
        }

    def _numbers(self, *values: int) -> Tensor:
        return torch.tensor(values, dtype=INT, device=self.device)

    def _constant(self, value: int, *shape: int) -> Tensor:
        return torch.full(shape, value, dtype=INT, device=self.device)

    def _board(self, cells: Tensor) -> Tensor:
        """A board, bool [N, SIZE, SIZE, C], on at `cells` [N, K], each an index of `cell * C + channel`."""
        num_channels = len(self.channels)
        board = torch.zeros(len(cells), SIZE * SIZE * num_channels, dtype=torch.bool, device=self.device)
        return board.scatter_(1, cells.long(), True).view(-1, SIZE, SIZE, num_channels)


def column(values: Tensor) -> Tensor:
    """[N] -> [N, 1], to be compared with one number for each thing on the board."""
    return values.unsqueeze(1)


def choose(where: Tensor, one: Tensor | int, other: Tensor | int) -> Tensor:
    """Numbers: `one` where `where`, else `other`.

    By arithmetic: torch.where takes a branch for each number on a CPU, which is 10 times slower where masks are mixed.
    """
    return where.to(INT) * (one - other) + other


def count_down(timer: Tensor) -> Tensor:
    """A timer that stops at 0."""
    return (timer - 1).clamp(min=0)
