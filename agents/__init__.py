"""classyq: value-based deep RL with a swappable value head.

from agents import RunConfig, load, train
summary = train(RunConfig.preset("cartpole"), "runs/mine")
actions = load("runs/mine").act(obs)
"""

import os
from typing import TYPE_CHECKING, Any

# A waiting OpenMP thread spins by default and takes the core from the one that works, which costs up to 16x on a
# shared machine. It is read when torch is loaded, so it is set before anything here imports torch.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from agents.config import RunConfig
    from agents.running.evaluation import Policy, load
    from agents.running.trainer import Summary, train

AGENTS: dict[str, str] = {
    "dqn": "agents.dqn:DQN",
    "pqn": "agents.pqn:PQN",
    "cql": "agents.cql:CQL",
    "r2d2": "agents.r2d2:R2D2",
}
"""Agents by name, one for each regime of data; values are where they are, so that nothing is imported here."""

__all__ = ["AGENTS", "Policy", "RunConfig", "Summary", "load", "train"]

_HOME = {
    "RunConfig": "agents.config",
    "Policy": "agents.running.evaluation",
    "load": "agents.running.evaluation",
    "Summary": "agents.running.trainer",
    "train": "agents.running.trainer",
}


def __getattr__(name: str) -> Any:
    """Import on first use, so that `classyq --help` does not wait for torch."""
    if name not in _HOME:
        raise AttributeError(f"module 'agents' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOME[name]), name)
