"""What the five games have in common: a game is its rules, written for N environments at once.

N environments, C channels, K things of a kind. N is the last dimension of all that a game keeps, so that a number of
each environment [N] meets those of its things [K, N] as it is, and the same thing of all environments lies together:
with numbers of one byte that is what a CPU is quickest with. What it is slow with on [K, N], ten times and more, is
torch.where, a comparison with a Python number, and `any`; hence the functions at the end.
"""

from abc import ABC, abstractmethod
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

SIZE = 10  # the board is SIZE x SIZE
INT = torch.int8  # of most numbers
WIDE = torch.int16  # of those that can be beyond 127
NOWHERE = -1  # the column or the cell of what is not on the board; all its bits are set
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
        self.digits = self._numbers(*range(SIZE)).unbind()
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
            draws: as in `step_chances`, [*shape, N] each; not all are needed in every environment.

        Returns:
            The next state, reward int8 [N], terminal bool [N].
        """

    @abstractmethod
    def observe(self, state: S) -> Tensor:
        """What is seen, bool [N, SIZE, SIZE, C], in new memory."""

    def draw(self, chances: dict[str, Chance], num_envs: int, generator: torch.Generator) -> Draws:
        """Random numbers for `start` or `step`."""
        return {
            name: torch.randint(
                chance.outcomes,
                (*chance.shape, num_envs),
                generator=generator,
                dtype=INT if chance.outcomes <= 128 else WIDE,
                device=self.device,
            )
            for name, chance in chances.items()
        }

    def _numbers(self, *values: int) -> Tensor:
        return torch.tensor(values, dtype=INT, device=self.device)

    def _constant(self, value: int, *shape: int, dtype: torch.dtype = INT) -> Tensor:
        return torch.full(shape, value, dtype=dtype, device=self.device)

    def _board(self, *things: tuple[Tensor, Tensor | int, Tensor | int]) -> Tensor:
        """A board, bool [N, SIZE, SIZE, C], on where things are.

        Args:
            things: their column ([N] or [K, N]), row and channel. What is NOWHERE is drawn over the first thing, which
                is always there.
        """
        num_channels = len(self.channels)
        x = torch.cat([torch.atleast_2d(x) for x, _, _ in things])
        y = torch.cat([self._as_many(y, x) for x, y, _ in things])
        channel = torch.cat([self._as_many(channel, x) for x, _, channel in things])
        index = (y * SIZE + x).to(WIDE) * num_channels + channel
        index ^= (index ^ index[:1]) & (x >> 7)
        index = index.t().contiguous().long()
        board = torch.zeros(len(index), SIZE * SIZE * num_channels, dtype=torch.bool, device=self.device)
        on = torch.ones(1, 1, dtype=torch.bool, device=self.device).expand_as(index)  # a number would be slower
        return board.scatter_(1, index, on).view(-1, SIZE, SIZE, num_channels)

    def _as_many(self, numbers: Tensor | int, x: Tensor) -> Tensor:
        """A number for each of `x`, [K, N]."""
        return (numbers if isinstance(numbers, Tensor) else self.digits[numbers]).expand_as(torch.atleast_2d(x))


def choose(where: Tensor, one: Tensor | int, other: Tensor) -> Tensor:
    """`one` where `where`, else `other`."""
    return torch.addcmul(other, where.view(INT), one - other)


def anything(where: Tensor) -> Tensor:
    """Whether there is a True among the first dimension, [K, ...] -> [...]."""
    return where.view(INT).amax(0).view(torch.bool)


def there(x: Tensor) -> Tensor:
    """Which columns or cells are not NOWHERE."""
    return (~x).bool()


def gone(x: Tensor, where: Tensor) -> Tensor:
    """Columns or cells, NOWHERE where `where`."""
    return x | -where.view(INT)


def on_board(x: Tensor) -> Tensor:
    """Columns from NOWHERE on, NOWHERE where they are beyond the last."""
    return x | ((SIZE - 1 - x) >> 7)


def move(x: Tensor, by: Tensor) -> Tensor:
    """Columns of what moves by -1, 0 or 1; NOWHERE where it leaves the board, or was off it."""
    return on_board(x + (by & ~(x >> 7)))


def cell(x: Tensor, y: Tensor) -> Tensor:
    """Cells of the board, NOWHERE where the column is."""
    return (y * SIZE + x) | (x >> 7)


def count_down(timer: Tensor) -> Tensor:
    """A timer that stops at 0."""
    return (timer - 1).clamp(min=0)
