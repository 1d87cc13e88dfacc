"""Atari games through ALE's native vector environment, behind the contract of `envs.vector`.

N environments, S frames of a stack, A actions. A step is one decision of the agent, several frames.
"""

from typing import Any

import numpy as np
from gymnasium.spaces import Box

from envs.ale import SEED_LIMIT, make_ale, rom_name
from envs.atari_protocol import PROTOCOLS, AtariProtocol
from envs.vector import Step, VectorEnv, checked_actions, checked_done, episode_seed

NOOP = 0


class AtariVector(VectorEnv):
    """N copies of one game, stepped in threads of C++ from `send` on.

    The same for every `num_threads`, and environment i the same for every number of environments.

    Args:
        env_id: an id such as `ALE/Pong-v5`.
        seed: the seed of the run, >= 0.
        max_steps: an episode of this many steps is truncated, besides the protocol's `max_frames`.
        num_threads: 0 for one per environment, as far as there are cores.

    Raises:
        UnknownEnvironment: there is no such game.
        ValueError: an option out of range; a mode or difficulty, which ALE's vector environment cannot set.
    """

    frame_stack: int | None
    has_action_mask = False

    def __init__(
        self,
        env_id: str,
        *,
        num_envs: int = 1,
        seed: int = 0,
        max_steps: int | None = None,
        protocol: AtariProtocol = PROTOCOLS["machado"],
        num_threads: int = 0,
    ):
        for name, value, least in (("num_envs", num_envs, 1), ("seed", seed, 0), ("max_steps", max_steps, 1)):
            if value is not None and value < least:
                raise ValueError(f"{name} is {value}, wanted at least {least}")
        if protocol.mode is not None or protocol.difficulty is not None:
            raise ValueError("modes and difficulties need single games (envs.atari_game)")
        self.num_envs, self.protocol = num_envs, protocol
        self.frame_stack, self.frames_per_step = protocol.frame_stack, protocol.frame_skip
        self._ale = make_ale(rom_name(env_id), num_envs, num_threads, protocol)
        self.num_actions = int(self._ale.single_action_space.n)  # pyright: ignore[reportAttributeAccessIssue]
        shape = (protocol.frame_stack, protocol.size, protocol.size)
        self.observation_space = Box(0, 255, shape, np.uint8)
        self._seed, self._max_steps = seed, max_steps
        self._episode_index = [0] * num_envs
        self._actions: list[list[int]] = [[] for _ in range(num_envs)]  # since each reset
        self._done = np.zeros(num_envs, bool)
        self._lives = np.zeros(num_envs, np.int32)
        self._obs: np.ndarray | None = None
        self._sent: np.ndarray | None = None
        self._closed = False

    @property
    def action_mask(self) -> None:
        """Every action is legal."""

    def reset(self) -> np.ndarray:
        self._require_open()
        self._drop_sent()
        self._episode_index = [0] * self.num_envs
        self._start(np.ones(self.num_envs, bool))
        return self._current_obs("reset").copy()

    def send(self, action: np.ndarray) -> None:
        self._require_open()
        self._current_obs("the next send" if self._sent is not None else "send")
        # ALE waits for ever for the result of an action that it does not know
        actions = checked_actions(action, self.num_envs, self.num_actions)
        if self._done.any():
            ended = np.flatnonzero(self._done).tolist()
            raise RuntimeError(f"the episodes of environments {ended} are over: call reset_done before step")
        self._sent = actions
        self._ale.send(actions)

    def recv(self) -> Step:
        """What the actions of `send` led to; waits for the games."""
        self._require_open()
        if self._sent is None:
            raise RuntimeError("call send before recv")
        next_obs, reward, terminated, truncated, info = self._ale.recv()
        for taken, one in zip(self._actions, self._sent.tolist(), strict=True):
            taken.append(one)
        self._sent, self._obs = None, next_obs
        if self._max_steps is not None:
            truncated = truncated | (np.array([len(taken) for taken in self._actions]) >= self._max_steps)
        truncated = truncated & ~terminated
        self._done = terminated | truncated
        lost = (info["lives"] < self._lives) & ~self._done if self.protocol.life_loss else np.zeros_like(self._done)
        self._lives = info["lives"]
        return Step(next_obs.copy(), reward.astype(np.float32), terminated, truncated, lost)

    def reset_done(self, done: np.ndarray) -> np.ndarray:
        """Start the next episode where `done` (bool [N]); the current observations [N, S, size, size] of all.

        Raises:
            TypeError: `done` is not bool.
            ValueError: `done` is not [N].
            RuntimeError: `reset` was never called.
        """
        self._require_open()
        self._current_obs("reset_done")
        if checked_done(done, self.num_envs).any():
            for index in np.flatnonzero(done):
                self._episode_index[index] += 1
            self._start(np.asarray(done))
        return self._current_obs("reset_done").copy()

    def state_dict(self) -> dict[str, Any]:
        obs = self._current_obs("state_dict")
        return {
            "seed": self._seed,
            "episode_index": list(self._episode_index),
            "actions": [list(taken) for taken in self._actions],
            "done": self._done.tolist(),
            "obs": obs.tobytes(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> list[int]:
        """Go on from `state` by replaying each running episode; see `VectorEnv.load_state_dict`.

        All games step together, so a shorter episode begins when its actions and those of the longest end together;
        until then its game is played without action and thrown away.

        Raises:
            ValueError: saved with another seed or number of environments, or other kinds of actions or observations.
        """
        self._require_open()
        got = state["seed"], len(state["actions"])
        if got != (self._seed, self.num_envs):
            raise ValueError(
                f"the state has seed {got[0]} and {got[1]} environments, "
                f"this vector seed {self._seed} and {self.num_envs}"
            )
        for index, taken in enumerate(state["actions"]):
            # as in send, ALE would wait for ever
            if taken and not 0 <= min(taken) <= max(taken) < self.num_actions:
                wrong = next(action for action in taken if not 0 <= action < self.num_actions)
                raise ValueError(
                    f"environment {index} of the state took action {wrong}, wanted 0 .. {self.num_actions - 1}: "
                    "it is of another game or another set of actions"
                )
        shape = (self.num_envs, *self.observation_space.shape)
        if len(state["obs"]) != np.prod(shape):
            raise ValueError(f"the state holds {len(state['obs'])} bytes of observations, wanted uint8 {shape}")
        wanted = np.frombuffer(state["obs"], np.uint8).reshape(shape)
        done = np.array(state["done"])
        self._drop_sent()
        self._episode_index = list(state["episode_index"])
        self._replay(state["actions"], ~done)
        replayed = self._current_obs("load_state_dict")
        same = done | ((replayed == wanted).all(axis=(1, 2, 3)) & ~self._done)
        self._actions = [list(taken) for taken in state["actions"]]
        self._done = done
        self._obs = np.where(done[:, None, None, None], wanted, replayed)  # an ended episode is only looked at
        if not same.all():
            self.reset_done(~same)
        return np.flatnonzero(~same).tolist()

    def render(self, index: int = 0) -> None:
        """ALE's vector environment draws no picture."""

    def close(self) -> None:
        """Wait for games that are on their way, and let go of them."""
        if not self._closed:
            self._drop_sent()
        self._closed = True
        self._ale.close()

    def _replay(self, actions: list[list[int]], running: np.ndarray) -> None:
        longest = max([len(taken) for taken, runs in zip(actions, running, strict=True) if runs], default=0)
        begins = np.array([longest - len(taken) for taken in actions])
        self._start(np.ones(self.num_envs, bool))
        for row in range(longest + 1):
            starting = running & (begins == row)
            if row and starting.any():
                self._start(starting)
            if row == longest:
                break
            playing = running & (begins <= row)
            self._ale.send(
                np.array([taken[row - b] if p else NOOP for taken, b, p in zip(actions, begins, playing, strict=True)])
            )
            self._obs, _, terminated, truncated, info = self._ale.recv()
            self._done |= (terminated | truncated) & playing
            self._lives = info["lives"]

    def _start(self, where: np.ndarray) -> None:
        """Reset the environments of `where` with the seeds of their episodes; the others stay as they are."""
        indices = np.flatnonzero(where)
        seeds = [episode_seed(self._seed, int(i), self._episode_index[i]) for i in indices]
        seeds = np.array(seeds) % SEED_LIMIT
        options = {"reset_mask": where.copy()} if self._obs is not None else None
        obs, info = self._ale.reset(seed=seeds, options=options)
        self._obs = obs if self._obs is None else np.where(where[:, None, None, None], obs, self._obs)
        self._lives = np.where(where, info["lives"], self._lives)
        self._done = self._done & ~where
        for index in indices:
            self._actions[index] = []

    def _current_obs(self, method: str) -> np.ndarray:
        if self._obs is None:
            raise RuntimeError(f"call reset before {method}")
        if self._sent is not None:
            raise RuntimeError(f"call recv before {method}")
        return self._obs

    def _drop_sent(self) -> None:
        # what the games have not handed out yet would come back in the place of the next answer
        if self._sent is not None:
            self._ale.recv()
            self._sent = None

    def _require_open(self) -> None:
        if self._closed:
            raise RuntimeError("this environment is closed")
