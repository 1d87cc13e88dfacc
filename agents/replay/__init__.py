"""Replay: where transitions are kept, and how they are sampled."""

from agents.replay.uniform import UniformReplay

REPLAYS: dict[str, type[UniformReplay]] = {"uniform": UniformReplay}
