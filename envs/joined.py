"""Several vectors as one, whatever they are.

V vectors of N environments each, one after the other: environment i of vector v is v * N + i.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from envs.vector import Step, VectorEnv, checked_actions, checked_done


class JoinedVector(VectorEnv):
    """The environments of several vectors of one kind, each where it is in its episode.

    Each vector goes on to step its own environments and to draw what it would have drawn alone. They are not to be
    stepped beside it; their `state_dict` and `load_state_dict` go on to work, between two steps.

    Raises:
        ValueError: no vectors, or one with other spaces than the first.
    """

    def __init__(self, vectors: Sequence[VectorEnv]):
        if not vectors:
            raise ValueError("got no vectors, wanted at least one")
        first = vectors[0]
        for index, vector in enumerate(vectors):
            spaces = vector.observation_space, vector.num_actions
            if spaces != (first.observation_space, first.num_actions):
                raise ValueError(f"vector {index} has other spaces than vector 0: {spaces}")
        self.vectors = vectors
        self.num_envs = sum(vector.num_envs for vector in vectors)
        self.num_actions, self.action_names = first.num_actions, first.action_names
        self.observation_space, self.frame_stack = first.observation_space, first.frame_stack
        self.frames_per_step = first.frames_per_step
        self.has_action_mask = any(vector.has_action_mask for vector in vectors)
        self._starts = np.cumsum([0] + [vector.num_envs for vector in vectors])

    @property
    def action_mask(self) -> np.ndarray | None:
        if not self.has_action_mask:
            return None
        masks = [vector.action_mask for vector in self.vectors]
        anything = [np.ones((vector.num_envs, self.num_actions), bool) for vector in self.vectors]
        return np.concatenate([free if mask is None else mask for mask, free in zip(masks, anything, strict=True)])

    def reset(self) -> np.ndarray:
        obs = np.concatenate([vector.reset() for vector in self.vectors])
        self.has_action_mask = any(vector.has_action_mask for vector in self.vectors)
        return obs

    def send(self, action: np.ndarray) -> None:
        """Sends to all, so that those that step in threads of their own do it at once."""
        actions = checked_actions(action, self.num_envs, self.num_actions)
        for vector, own in zip(self.vectors, self._each(actions), strict=True):
            vector.send(own)

    def recv(self) -> Step:
        return Step(*(np.concatenate(part) for part in zip(*(vector.recv() for vector in self.vectors), strict=True)))

    def reset_done(self, done: np.ndarray) -> np.ndarray:
        """Start the next episode where `done` (bool [V * N]); the current observations of all.

        Raises:
            TypeError: `done` is not bool.
            ValueError: `done` is not [V * N].
            RuntimeError: `reset` was never called.
        """
        each = self._each(checked_done(done, self.num_envs))
        return np.concatenate([vector.reset_done(own) for vector, own in zip(self.vectors, each, strict=True)])

    def state_dict(self) -> dict[str, Any]:
        return {"vectors": [vector.state_dict() for vector in self.vectors]}

    def load_state_dict(self, state: dict[str, Any]) -> list[int]:
        """As each vector does it; see `VectorEnv.load_state_dict`.

        Raises:
            ValueError: saved with another number of vectors, or what they raise.
        """
        if len(state["vectors"]) != len(self.vectors):
            raise ValueError(f"the state is of {len(state['vectors'])} vectors, wanted {len(self.vectors)}")
        different = []
        for start, vector, own in zip(self._starts[:-1].tolist(), self.vectors, state["vectors"], strict=True):
            different += [start + index for index in vector.load_state_dict(own)]
        self.has_action_mask = any(vector.has_action_mask for vector in self.vectors)
        return different

    def render(self, index: int = 0) -> np.ndarray | None:
        which = int(np.searchsorted(self._starts, index, side="right")) - 1
        return self.vectors[which].render(index - int(self._starts[which]))

    def close(self) -> None:
        for vector in self.vectors:
            vector.close()

    def _each(self, values: np.ndarray) -> list[np.ndarray]:
        """The part of each vector."""
        return np.split(values, self._starts[1:-1])
