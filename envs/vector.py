"""The one environment contract: N environments in lockstep, with nothing reset behind the caller's back.

N environments, A actions. Every array handed out is fresh: the caller may keep or change it.

    obs = venv.reset()
    while True:
        step = venv.step(actions)  # step.next_obs is the true successor, at the end of an episode too
        obs = venv.reset_done(step.done)

`step` is `send` and then `recv`. Between the two the environments may run in threads of their own, and the caller can
do something else; as all step together, what comes out is the same.
"""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import gymnasium
import numpy as np


class Step(NamedTuple):
    """What one decision in each of the N environments led to."""

    next_obs: np.ndarray  # [N, *shape], the true successor, also of an episode that just ended
    reward: np.ndarray  # [N] float32, raw
    terminated: np.ndarray  # [N] bool, the task ended: nothing follows
    truncated: np.ndarray  # [N] bool, the episode was cut: the task would have gone on
    life_lost: np.ndarray  # [N] bool, the value ends here but the episode goes on

    @property
    def done(self) -> np.ndarray:
        """Episodes that are over, bool [N]: `reset_done` wants this."""
        return self.terminated | self.truncated

    @property
    def terminal(self) -> np.ndarray:
        """Where nothing is bootstrapped, bool [N]."""
        return self.terminated | self.life_lost


def episode_seed(run_seed: int, env_index: int, episode_index: int) -> int:
    """Seed of one episode, in 0 .. 2**31 - 2: the same whatever the number of environments.

    Raises:
        ValueError: an argument is negative.
    """
    if min(run_seed, env_index, episode_index) < 0:
        raise ValueError(
            f"seeds are made from numbers >= 0, got run_seed={run_seed}, "
            f"env_index={env_index}, episode_index={episode_index}"
        )
    numbers = [run_seed, env_index, episode_index]
    # An array is the same to it as a list, and sooner read, but for numbers of more than 32 bits.
    words = np.random.SeedSequence(numbers if max(numbers) >= 2**32 else np.array(numbers, np.uint32))
    return int(words.generate_state(1, np.uint64)[0]) % (2**31 - 1)


class VectorEnv(ABC):
    """N environments of one kind, stepped together and reset only when asked."""

    num_envs: int
    num_actions: int
    observation_space: gymnasium.spaces.Box  # of one environment, as handed out here: float32, uint8 or bool
    frame_stack: int | None  # number of frames in the leading axis of obs, oldest first; None: no such axis
    has_action_mask: bool  # known after reset()
    frames_per_step: int = 1  # frames of an emulator that one step takes
    action_names: list[str] | None = None  # of the A actions, where the environment has names for them

    @property
    @abstractmethod
    def action_mask(self) -> np.ndarray | None:
        """Actions that are legal in the current observation, bool [N, A]; None where no environment tells.

        After `step` it belongs to `next_obs`, after `reset_done` to the observations returned by it. Rows
        are all True where an environment gave no mask, and where an episode is over with no legal action.
        """

    @abstractmethod
    def reset(self) -> np.ndarray:
        """Start episode 0 of every environment; its observations [N, *shape]."""

    def step(self, action: np.ndarray) -> Step:
        """Take one action in each environment: `send`, then `recv`."""
        self.send(action)
        return self.recv()

    @abstractmethod
    def send(self, action: np.ndarray) -> None:
        """Begin one step in each environment; `recv` must follow before anything else is asked of them.

        Args:
            action: integers [N], each in 0 .. A - 1.

        Raises:
            TypeError: actions are not integers.
            ValueError: wrong shape or range of actions.
            RuntimeError: an episode is over and `reset_done` was not called, or `reset` never was, or the step
                before was not received.
        """

    @abstractmethod
    def recv(self) -> Step:
        """What the actions of `send` led to.

        Raises:
            TypeError: an environment broke gymnasium's interface.
            ValueError: wrong shape of observation or mask; a number that is not finite.
            RuntimeError: nothing was sent.
        """

    @abstractmethod
    def reset_done(self, done: np.ndarray) -> np.ndarray:
        """Start the next episode where `done` (bool [N]); the current observations [N, *shape] of all."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on from here, in plain Python types."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> list[int]:
        """Go on from `state`; `reset_done` with no True gives the current observations.

        Returns:
            Indices of environments that could not be brought back, because they are not deterministic. They
            are at the start of their next episode; the caller treats the interrupted one as truncated.
        """

    @abstractmethod
    def render(self, index: int = 0) -> np.ndarray | None:
        """Picture of one environment, uint8 [height, width, 3]; None where it draws none."""

    @abstractmethod
    def close(self) -> None:
        """Release what the environments hold; nothing can be asked of them any more, but to be closed again."""


def checked_actions(action: np.ndarray, num_envs: int, num_actions: int) -> np.ndarray:
    """Actions as int64 [N].

    Raises:
        TypeError: they are not integers.
        ValueError: they are not [N], or one is out of range.
    """
    action = np.asarray(action)
    if action.dtype.kind not in "iu":
        raise TypeError(f"actions have dtype {action.dtype}, wanted integers")
    if action.shape != (num_envs,):
        raise ValueError(f"actions have shape {action.shape}, wanted ({num_envs},)")
    listed = action.tolist()  # whose least and largest number Python finds sooner than numpy
    if min(listed) < 0 or max(listed) >= num_actions:
        index = int(((action < 0) | (action >= num_actions)).argmax())
        raise ValueError(
            f"action {action[index]} of environment {index} is out of range, wanted 0 .. {num_actions - 1}"
        )
    return action.astype(np.int64)


def checked_done(done: np.ndarray, num_envs: int) -> np.ndarray:
    """`done` as it is.

    Raises:
        TypeError: it is not bool.
        ValueError: it is not [N].
    """
    done = np.asarray(done)
    if done.dtype != np.bool_:
        raise TypeError(f"done has dtype {done.dtype}, wanted bool")
    if done.shape != (num_envs,):
        raise ValueError(f"done has shape {done.shape}, wanted ({num_envs},)")
    return done
