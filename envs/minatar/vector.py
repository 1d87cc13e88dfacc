"""N games of MinAtar behind the contract of `envs.vector`.

N environments, A actions, C channels. The games run on tensors; what is handed out are arrays.
"""

from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor

from envs.minatar.game import ACTIONS, SIZE
from envs.minatar.games import GAMES
from envs.seeded import decoded, encoded
from envs.vector import Step, VectorEnv, checked_actions, checked_done, episode_seed


class MinAtarVector(VectorEnv):
    """N copies of one game, observations bool [N, 10, 10, C].

    One generator draws for all environments; so what an environment sees depends on how many there are. The last
    action, which may stick, is that of the episode before at the start of the next, as in the original.

    Args:
        game: a name in GAMES.
        seed: the seed of the run, >= 0.
        max_steps: an episode of this many steps is truncated.
        minimal_actions: only the actions that do something in this game, and not all six.
        sticky_action_prob: how often the last action is repeated in place of the one given.
        difficulty_ramping: whether a game gets harder as it goes on.
        device: where the games run. Their random numbers are those of the device: a CPU and a GPU differ.

    Raises:
        ValueError: an option out of range, or no such game.
    """

    frame_stack = None
    has_action_mask = False

    def __init__(
        self,
        game: str,
        *,
        num_envs: int = 1,
        seed: int = 0,
        max_steps: int | None = None,
        minimal_actions: bool = True,
        sticky_action_prob: float = 0.1,
        difficulty_ramping: bool = True,
        device: str = "cpu",
    ):
        for name, value, least in (("num_envs", num_envs, 1), ("seed", seed, 0), ("max_steps", max_steps, 1)):
            if value is not None and value < least:
                raise ValueError(f"{name} is {value}, wanted at least {least}")
        if not 0.0 <= sticky_action_prob < 1.0:
            raise ValueError(f"sticky_action_prob is {sticky_action_prob}, wanted 0 <= sticky_action_prob < 1")
        if game not in GAMES:
            raise ValueError(f"game is {game!r}, wanted one of {', '.join(GAMES)}")
        self.num_envs = num_envs
        self._name, self._seed, self._max_steps = game, seed, max_steps
        self._sticky_action_prob = sticky_action_prob
        self._game = GAMES[game](device, difficulty_ramping=difficulty_ramping)
        actions = self._game.minimal_actions if minimal_actions else tuple(range(len(ACTIONS)))
        self.num_actions = len(actions)
        self.action_names = [ACTIONS[action] for action in actions]
        shape = (SIZE, SIZE, len(self._game.channels))
        # gymnasium's annotations know only of integers and floats
        self.observation_space = Box(0, 1, shape, np.bool_)  # pyright: ignore[reportArgumentType, reportCallIssue]
        self._actions = torch.tensor(actions, device=device)
        self._generator = torch.Generator(device)
        self._state: tuple[Tensor, ...] | None = None
        self._last_action = torch.empty(0)  # from reset on
        self._obs: Tensor | None = None  # of the state, until it is given away
        self._num_steps = np.zeros(num_envs, np.int64)  # of each episode
        self._done = np.zeros(num_envs, bool)
        self._first: tuple[tuple[Tensor, ...], Tensor] | None = None  # how every episode begins, where it is no chance
        self._sent: tuple[Tensor, Tensor, Tensor] | None = None  # obs, reward and terminal, between send and recv
        self._closed = False

    @property
    def action_mask(self) -> None:
        """Every action is legal."""

    def reset(self) -> np.ndarray:
        self._require_open()
        self._sent = None
        self._generator.manual_seed(episode_seed(self._seed, 0, 0))
        self._last_action = torch.zeros(self.num_envs, dtype=torch.int64, device=self._game.device)
        self._state, obs = self._fresh(self.num_envs)
        self._obs = None
        self._num_steps[:] = 0
        self._done[:] = False
        return self._handed_out(obs)

    def send(self, action: np.ndarray) -> None:
        """Steps the games; on a GPU this does not wait for them."""
        self._require_open()
        state = self._current_state("the next send" if self._sent is not None else "send")
        actions = checked_actions(action, self.num_envs, self.num_actions)
        if self._done.any():
            ended = np.flatnonzero(self._done).tolist()
            raise RuntimeError(f"the episodes of environments {ended} are over: call reset_done before step")
        wanted = self._actions[torch.from_numpy(actions).to(self._game.device)]
        chance = torch.rand(self.num_envs, generator=self._generator, device=self._game.device)
        self._last_action = torch.where(chance < self._sticky_action_prob, self._last_action, wanted)
        draws = self._game.draw(self._game.step_chances, self.num_envs, self._generator)
        self._state, reward, terminal = self._game.step(state, self._last_action, draws)
        self._obs = self._game.observe(self._state)
        self._sent = self._obs, reward, terminal

    def recv(self) -> Step:
        self._require_open()
        if self._sent is None:
            raise RuntimeError("call send before recv")
        (obs, reward, terminal), self._sent = self._sent, None
        terminated = self._handed_out(terminal)
        self._num_steps += 1
        truncated = np.zeros_like(terminated)
        if self._max_steps is not None:
            truncated = (self._num_steps >= self._max_steps) & ~terminated
        self._done = terminated | truncated
        reward = self._handed_out(reward.float())
        return Step(self._handed_out(obs), reward, terminated, truncated, np.zeros_like(terminated))

    def reset_done(self, done: np.ndarray) -> np.ndarray:
        """Start the next episode where `done` (bool [N]); the current observations [N, 10, 10, C] of all.

        Raises:
            TypeError: `done` is not bool.
            ValueError: `done` is not [N].
            RuntimeError: `reset` was never called, or a step was not received.
        """
        self._require_open()
        state = self._current_state("reset_done")
        rows = np.flatnonzero(checked_done(done, self.num_envs))
        if len(rows):
            index = torch.from_numpy(rows).to(self._game.device)
            fresh, obs = self._fresh(len(rows))
            state = type(state)(*(old.index_copy(-1, index, new) for old, new in zip(state, fresh, strict=True)))
            if self._obs is not None:
                self._obs.index_copy_(0, index, obs)
            self._state = state
            self._num_steps[rows] = 0
            self._done[rows] = False
        return self._given_away(state)

    def state_dict(self) -> dict[str, Any]:
        state = self._current_state("state_dict")
        return {
            "game": self._name,
            "seed": self._seed,
            "state": [encoded(part.cpu().numpy()) for part in state],
            "last_action": self._last_action.tolist(),
            "num_steps": self._num_steps.tolist(),
            "done": self._done.tolist(),
            "generator": encoded(self._generator.get_state().numpy()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> list[int]:
        """Go on from `state`, exactly; see `VectorEnv.load_state_dict`.

        Raises:
            ValueError: saved with another game, seed or number of environments.
        """
        self._require_open()
        got = state["game"], state["seed"], len(state["done"])
        if got != (self._name, self._seed, self.num_envs):
            raise ValueError(
                f"the state is of {got[0]} with seed {got[1]} and {got[2]} environments, "
                f"this vector of {self._name} with seed {self._seed} and {self.num_envs}"
            )
        device = self._game.device
        parts = [torch.from_numpy(decoded(part).copy()).to(device) for part in state["state"]]
        self._state, self._obs = type(self._fresh(1)[0])(*parts), None
        self._last_action = torch.tensor(state["last_action"], device=device)
        self._num_steps, self._done = np.array(state["num_steps"]), np.array(state["done"])
        self._generator.set_state(torch.from_numpy(decoded(state["generator"]).copy()))
        self._sent = None
        return []

    def render(self, index: int = 0) -> None:
        """The games draw no picture beyond their observation."""

    def close(self) -> None:
        self._closed = True

    def _fresh(self, num_envs: int) -> tuple[tuple[Tensor, ...], Tensor]:
        """States in which episodes begin, and their observations."""
        if self._game.start_chances:
            state = self._game.start(num_envs, self._game.draw(self._game.start_chances, num_envs, self._generator))
            return state, self._game.observe(state)
        if self._first is None:
            state = self._game.start(1, {})
            self._first = state, self._game.observe(state)
        state, obs = self._first
        states = type(state)(*(part.expand(*part.shape[:-1], num_envs) for part in state))
        return states, obs.expand(num_envs, *obs.shape[1:])

    def _given_away(self, state: tuple[Tensor, ...]) -> np.ndarray:
        """The observations of `state`, in memory that is the caller's from now on."""
        obs, self._obs = self._game.observe(state) if self._obs is None else self._obs, None
        return obs.cpu().numpy()

    @staticmethod
    def _handed_out(values: Tensor) -> np.ndarray:
        return values.to("cpu", copy=True).numpy()

    def _current_state(self, method: str) -> tuple[Tensor, ...]:
        if self._state is None:
            raise RuntimeError(f"call reset before {method}")
        if self._sent is not None:
            raise RuntimeError(f"call recv before {method}")
        return self._state

    def _require_open(self) -> None:
        if self._closed:
            raise RuntimeError("this environment is closed")


def minatar_vector(game: str, frame_stack: int | None, **options: Any) -> MinAtarVector:
    """N games with the options of MinAtarVector.

    Raises:
        ValueError: an option out of range, no such game, or any frame_stack.
    """
    if frame_stack is not None:
        raise ValueError(f"frame_stack is {frame_stack}, but MinAtar shows by trails where things go: wanted None")
    return MinAtarVector(game, **options)
