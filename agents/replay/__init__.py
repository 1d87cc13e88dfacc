"""Replays by name; they are the same but for what is sampled how often, and `sequences` for how much of it at once."""

from agents.replay.prioritized import PrioritizedReplay
from agents.replay.sequences import SequenceReplay
from agents.replay.uniform import UniformReplay

REPLAYS: dict[str, type[UniformReplay]] = {
    "uniform": UniformReplay,
    "prioritized": PrioritizedReplay,
    "sequences": SequenceReplay,
}
