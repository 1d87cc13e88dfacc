"""Does anything wait for a GPU, or mix what lies there with what does not, as steps are added and updates made?

On a CPU: tensors that hold nothing and say that they lie on a device, "meta". Asking what is in one of them is an
error, and so is an operation on one of them and another.
"""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import BaseModel
from torch import nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorDeviceMismatchError,
    FakeTensorMode,
)

from agents.acting import NewestFrames
from agents.dqn import DQN
from agents.learning.learner import Learner
from agents.running.stopwatch import Stopwatch
from agents.whole_updates import WholeUpdates

SPEC = importlib.util.spec_from_file_location("recipes", Path(__file__).with_name("test_recipes.py"))
recipes = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(recipes)

DQNS = [name for name in recipes.RECIPES if recipes.tiny(name, recipes.OWN[name]).agent.name == "dqn"]
FAST = ("dqn", "rainbow_full", "btr", "hl_gauss_minatar")
META = torch.device("meta")


class Moved:
    """Puts all tensors that an object reaches on "meta", each once; an array that shows what is in one becomes that."""

    def __init__(self, mode: FakeTensorMode):
        self.mode, self.done, self.shown = mode, {}, {}

    def __call__(self, value: Any) -> Any:
        if id(value) in self.done:
            return self.done[id(value)][1]
        moved = self.moved(value)
        self.done[id(value)] = value, moved  # held, so that nothing else gets its id
        return moved

    def moved(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            with self.mode:
                empty = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=META)
            self.shown[value.data_ptr(), value.shape] = empty
            return nn.Parameter(empty, value.requires_grad) if isinstance(value, nn.Parameter) else empty
        if isinstance(value, np.ndarray):
            return self.shown.get((value.ctypes.data, value.shape), value)
        if isinstance(value, torch.device):
            return META
        if isinstance(value, list | tuple):
            parts = [self(part) for part in value]
            return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
        self.done[id(value)] = value, value  # an object may reach itself
        if isinstance(value, dict):
            value.update({name: self(part) for name, part in value.items()})
        elif holds_tensors(value):
            self(vars(value))
        return value


def holds_tensors(value: Any) -> bool:
    """Whether it is a module, or an object of ours other than a configuration."""
    ours = type(value).__module__.startswith(("agents.", "value_heads."))
    return isinstance(value, nn.Module) or (ours and not isinstance(value, BaseModel))


def draw_there(monkeypatch, *generators: torch.Generator) -> None:
    """Let what is drawn by generators lie where theirs would be."""

    def there(draw):
        def drawn(*size, **options):
            here = options.get("generator") not in generators
            return draw(*size, **options if here else options | {"generator": None, "device": META})

        return drawn

    for name in ("rand", "randn", "randint"):
        monkeypatch.setattr(torch, name, there(getattr(torch, name)))


def make_agent(recipe: str) -> DQN:
    config = recipes.tiny(recipe, recipes.OWN[recipe])
    without = {"annealing": None, "resets": None}  # which are done between updates
    if config.agent.acting_network == "online":
        without["agent.acting_network"] = "lagged"
    return DQN(config.with_overrides(without), recipes.SEEN[config.env.id], Stopwatch())


@pytest.mark.parametrize("recipe", [pytest.param(r, marks=[pytest.mark.slow] * (r not in FAST)) for r in DQNS])
def test_steps_and_updates_of_a_recipe(recipe, monkeypatch):
    agent = make_agent(recipe)
    launches, newest_frames = WholeUpdates(agent, 2), NewestFrames(agent.replay, agent.device)
    mode = FakeTensorMode(allow_non_fake_inputs=True)  # what comes from numpy holds something
    moved = Moved(mode)
    for part in (agent, launches, newest_frames):
        moved(part)
    store = agent.replay.observations
    store.may_look = False
    monkeypatch.setattr(store, "make_room", lambda count: None)  # it waits, whenever its ring is full
    draw_there(monkeypatch, agent.learner.generator, agent.generator)
    with mode:
        for t in recipes.made_up(recipes.SEEN[agent.config.env.id]):
            agent.predict(newest_frames(t.obs), agent.draw_noise(agent.generator))
            agent.replay.add(t.obs, t.action, t.reward, t.terminal, t.done, t.next_obs)
            if agent.replay.rows in (recipes.T - 4, recipes.T):
                if agent.lagged is not None:
                    agent.lagged.follow()
                launches(3)
    assert agent.learner.num_updates >= 3
    assert agent.last_update is not None
    assert agent.last_update.losses.device == META


@pytest.mark.parametrize("wrong", [lambda x: float(x.sum()), lambda x: x + torch.ones(4), lambda x: x[x > 0]])
def test_what_waits_is_found(wrong, monkeypatch):
    differentiate = Learner.differentiate
    monkeypatch.setattr(
        Learner,
        "differentiate",
        lambda self, batch, *draws: (wrong(batch.reward), differentiate(self, batch, *draws))[1],
    )
    with pytest.raises((DataDependentOutputException, DynamicOutputShapeException, FakeTensorDeviceMismatchError)):
        test_steps_and_updates_of_a_recipe("dqn", monkeypatch)
