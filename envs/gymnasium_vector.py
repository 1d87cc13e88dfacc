"""N gymnasium environments behind the contract of `envs.vector`, in a plain loop."""

import copy
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np

from envs.seeded import SeededEnv
from envs.vector import Step, VectorEnv, checked_actions, checked_done


class GymnasiumVector(VectorEnv):
    """Single environments stepped one after the other, each with its own seed for every episode.

    A checkpoint holds the actions since each reset; loading replays them. Without any time limit an
    environment therefore grows its checkpoint with every step, which `max_steps` bounds.

    Args:
        envs: environments of one kind, one for each place in the vector.
        seed: the seed of the run, >= 0.
        max_steps: an episode of this many steps is truncated, besides what the environments do themselves.
        frame_stack: stack this many observations along a new leading axis, oldest first; the observation of a
            reset is repeated.

    Raises:
        TypeError: a space is not supported.
        ValueError: no environments, different spaces, or an option out of range.
    """

    def __init__(
        self,
        envs: Sequence[gymnasium.Env],
        *,
        seed: int = 0,
        max_steps: int | None = None,
        frame_stack: int | None = None,
    ):
        if not envs:
            raise ValueError("got no environments, wanted at least one")
        if seed < 0:
            raise ValueError(f"seed is {seed}, wanted at least 0")
        self._envs = [
            SeededEnv(env, env_index=index, seed=seed, max_steps=max_steps, frame_stack=frame_stack)
            for index, env in enumerate(envs)
        ]
        for index, env in enumerate(envs):
            spaces = env.observation_space, env.action_space
            if spaces != (envs[0].observation_space, envs[0].action_space):
                raise ValueError(f"environment {index} has other spaces than environment 0: {spaces}")
        self.num_envs = len(envs)
        self.num_actions = self._envs[0].num_actions
        self.action_names = _action_names(envs[0], self.num_actions)
        self.observation_space = self._envs[0].observation_space
        self.frame_stack = frame_stack
        self.has_action_mask = False
        self._seed = seed
        self._started = self._closed = False
        self._sent: list[int] | None = None  # actions between send and recv

    @classmethod
    def joined(cls, vectors: Sequence["GymnasiumVector"]) -> "GymnasiumVector":
        """The environments of several vectors of one kind as one, each where it is in its episode.

        They are the same environments, so those vectors are not to be stepped beside it; their `state_dict` and
        `load_state_dict` go on to work, between two steps.

        Raises:
            ValueError: an environment has other spaces than the first.
        """
        first = vectors[0]
        for index, vector in enumerate(vectors):
            spaces = vector.observation_space, vector.num_actions
            if spaces != (first.observation_space, first.num_actions):
                raise ValueError(f"vector {index} has other spaces than vector 0: {spaces}")
        whole = copy.copy(first)
        whole._envs = [env for vector in vectors for env in vector._envs]
        whole.num_envs = len(whole._envs)
        whole.has_action_mask = any(vector.has_action_mask for vector in vectors)
        return whole

    @property
    def action_mask(self) -> np.ndarray | None:
        if not self.has_action_mask:
            return None
        return np.stack([env.action_mask for env in self._envs])

    def reset(self) -> np.ndarray:
        self._require_open()
        for env in self._envs:
            env.start(0)
        self.has_action_mask = any(env.mask_given for env in self._envs)
        self._started = True
        return self._obs()

    def send(self, action: np.ndarray) -> None:
        self._require_started("send")
        if self._sent is not None:
            raise RuntimeError("call recv before the next send")
        actions = checked_actions(action, self.num_envs, self.num_actions)
        if ended := [index for index, env in enumerate(self._envs) if env.done]:
            raise RuntimeError(f"the episodes of environments {ended} are over: call reset_done before step")
        self._sent = actions.tolist()

    def recv(self) -> Step:
        """Steps the environments, in the caller's thread."""
        self._require_open()
        if self._sent is None:
            raise RuntimeError("call send before recv")
        actions, self._sent = self._sent, None
        results = [env.step(one) for env, one in zip(self._envs, actions, strict=True)]
        self._check_mask_was_known()
        reward, terminated, truncated, life_lost = zip(*results, strict=True)
        return Step(
            next_obs=self._obs(),
            reward=np.array(reward, np.float32),
            terminated=np.array(terminated),
            truncated=np.array(truncated),
            life_lost=np.array(life_lost),
        )

    def reset_done(self, done: np.ndarray) -> np.ndarray:
        """Start the next episode where `done` (bool [N]); the current observations [N, *shape] of all.

        Raises:
            TypeError: `done` is not bool.
            ValueError: `done` is not [N].
            RuntimeError: `reset` was never called.
        """
        self._require_started("reset_done")
        if np.count_nonzero(checked_done(done, self.num_envs)):
            for index in np.flatnonzero(done):
                self._envs[index].start_next()
            self._check_mask_was_known()
        return self._obs()

    def state_dict(self) -> dict[str, Any]:
        if not self._started:
            raise RuntimeError("call reset before state_dict")
        return {
            "seed": self._seed,
            "has_action_mask": self.has_action_mask,
            "envs": [env.state_dict() for env in self._envs],
        }

    def load_state_dict(self, state: dict[str, Any]) -> list[int]:
        """Go on from `state` by replaying each running episode; see `VectorEnv.load_state_dict`.

        Raises:
            ValueError: saved with another seed, number of environments or kind of observation.
        """
        self._require_open()
        got = state["seed"], len(state["envs"])
        if got != (self._seed, self.num_envs):
            raise ValueError(
                f"the state has seed {got[0]} and {got[1]} environments, "
                f"this vector seed {self._seed} and {self.num_envs}"
            )
        different = [
            index
            for index, (env, saved) in enumerate(zip(self._envs, state["envs"], strict=True))
            if not env.load_state_dict(saved)
        ]
        self.has_action_mask = state["has_action_mask"]
        self._started = True
        return different

    def render(self, index: int = 0) -> np.ndarray | None:
        env = self._envs[index].env
        picture = env.render() if env.render_mode is not None else None
        return np.array(picture) if isinstance(picture, np.ndarray) else None

    def close(self) -> None:
        if not self._closed:
            for env in self._envs:
                env.env.close()
        self._closed = True

    def _obs(self) -> np.ndarray:
        return np.array([env.obs for env in self._envs])

    def _check_mask_was_known(self) -> None:
        # a replay decides after reset() whether it stores masks; one that comes later would be lost
        if self.has_action_mask:
            return
        if late := [index for index, env in enumerate(self._envs) if env.mask_given]:
            raise ValueError(
                f"environments {late} gave info['action_mask'] for the first time after the first reset; "
                "give it in the info of reset too"
            )

    def _require_open(self) -> None:
        if self._closed:
            raise RuntimeError("this environment is closed")

    def _require_started(self, method: str) -> None:
        self._require_open()
        if not self._started:
            raise RuntimeError(f"call reset before {method}")


def _action_names(env: gymnasium.Env, num_actions: int) -> list[str] | None:
    """What `get_action_meanings` says, as Atari games and others have it; None unless it names every action."""
    meanings = getattr(env.unwrapped, "get_action_meanings", None)
    names = list(meanings()) if meanings is not None else []
    return names if len(names) == num_actions else None
