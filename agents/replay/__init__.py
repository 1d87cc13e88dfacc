"""Replays by name; they are the same but for what is sampled how often."""

from agents.replay.prioritized import PrioritizedReplay
from agents.replay.uniform import UniformReplay

REPLAYS: dict[str, type[UniformReplay]] = {"uniform": UniformReplay, "prioritized": PrioritizedReplay}
