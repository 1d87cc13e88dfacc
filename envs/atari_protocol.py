"""What an Atari score depends on besides the agent. A step is one decision of the agent, several frames."""

import dataclasses
from collections.abc import Collection
from typing import Any

from envs.names import did_you_mean


@dataclasses.dataclass(frozen=True)
class AtariProtocol:
    """Everything that a score depends on besides the agent.

    Args:
        repeat_action_probability: chance that a frame repeats the last frame's action ("sticky actions").
        full_action_space: all 18 actions instead of those that the game uses.
        noop_max: an episode begins with a number of frames without action, fewer than this; 0 for none.
        life_loss: a lost life ends the value, not the game.
        max_frames: a game is truncated after this many frames.
        frame_skip: frames that an action lasts. What is seen is the brighter of the last two, pixel by pixel.
        frame_stack, size: an observation is this many frames of size x size pixels in grey, oldest first; after a
            reset the frames before it are 0.
        mode, difficulty: of the game; None for its default.
    """

    name: str
    repeat_action_probability: float = 0.25
    full_action_space: bool = False
    noop_max: int = 0
    life_loss: bool = False
    max_frames: int = 108_000
    frame_skip: int = 4
    frame_stack: int = 4
    size: int = 84
    mode: int | None = None
    difficulty: int | None = None

    def describe(self) -> str:
        """The choices that differ from paper to paper, in words."""
        end = "a lost life ends the value" if self.life_loss else "an episode is a whole game"
        actions = "all 18 actions" if self.full_action_space else "minimal actions"
        starts = f"0 to {self.noop_max - 1} no-ops first" if self.noop_max else "no no-ops"
        chosen = {"mode": self.mode, "difficulty": self.difficulty}
        special = "".join(f", {key} {value}" for key, value in chosen.items() if value is not None)
        return (
            f"{self.name}: sticky {self.repeat_action_probability:g}, {actions}, {starts}, {end}, "
            f"at most {self.max_frames:,} frames, {self.frame_skip} frames a step{special}"
        )


PROTOCOLS = {
    "machado": AtariProtocol("machado"),
    "dqn2015": AtariProtocol("dqn2015", repeat_action_probability=0.0, noop_max=30, life_loss=True),
}
"""Machado et al. 2018, section 5, and Mnih et al. 2015, extended data table 1 (there with 18,000 frames at most).

Neither presses FIRE on its own, and neither clips rewards: that is the learner's business.
"""


def make_protocol(name: str = "machado", **changes: Any) -> AtariProtocol:
    """A protocol of PROTOCOLS with some of its fields changed.

    Raises:
        ValueError: unknown name or field, or a value out of range.
    """
    if name not in PROTOCOLS:
        raise ValueError(f"unknown protocol {name!r}, {_one_of(name, PROTOCOLS)}")
    fields = {field.name for field in dataclasses.fields(AtariProtocol)} - {"name"}
    for key in changes.keys() - fields:
        raise ValueError(f"unknown option {key!r} of an Atari game, {_one_of(key, sorted(fields))}")
    protocol = dataclasses.replace(PROTOCOLS[name], **changes)
    if not 0.0 <= protocol.repeat_action_probability < 1.0:
        raise ValueError(f"repeat_action_probability is {protocol.repeat_action_probability}, wanted 0 <= p < 1")
    for key in ("max_frames", "frame_skip", "frame_stack", "size"):
        if getattr(protocol, key) < 1:
            raise ValueError(f"{key} is {getattr(protocol, key)}, wanted at least 1")
    if protocol.noop_max < 0:
        raise ValueError(f"noop_max is {protocol.noop_max}, wanted at least 0")
    return protocol


def _one_of(given: str, known: Collection[str]) -> str:
    return f"wanted one of {', '.join(known)}{did_you_mean(given, known)}"
