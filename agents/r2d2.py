"""R2D2: the agent that learns from sequences, with a memory.

N environments, A actions, T steps of a sequence.
"""

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from agents.agent import Transition
from agents.components import KINDS
from agents.dqn import DQN, DQNConfig, make_replay
from agents.learning.sequences import SequenceTDLoss
from agents.networks.qnetwork import EnvSpec
from agents.networks.recurrent import Memory, RecurrentQNetwork
from agents.replay.sequences import SequenceReplay
from agents.running.stopwatch import Stopwatch
from agents.tables import ConfigError
from value_heads import Draws

if TYPE_CHECKING:
    from agents.config import RunConfig


class R2D2Config(DQNConfig):
    tables = ("target_rule", "exploration", "replay")
    lstm_size: int = Field(default=512, ge=1, description="units of the LSTM between torso and head")
    n_step: int = Field(default=5, ge=1, description="rewards summed before bootstrapping, within a sequence")
    batch_size: int = Field(default=64, ge=1, description="sequences")
    acting_network: Literal["online", "target"] = Field(  # pyright: ignore[reportIncompatibleVariableOverride]
        default="online", description="which network chooses actions, in training and as the policy"
    )
    target_every_updates: int = Field(default=2_500, ge=1, description="target network follows every so many updates")


class R2D2(DQN):
    """Recurrent replay distributed DQN (Kapturowski et al. 2019) with any value head; here the actors are local.

    The network has an LSTM between torso and head. It learns from replay of sequences (`[replay] name = "sequences"`),
    each of which begins in the state that the network had when it acted there, and is run through its burn-in steps
    first. The rescaling of values by h is the option `transform = "hyperbolic"` of the head: with `mse` the target is
    h(r + gamma**n h^-1(Q)), as published. The published agent has double Q-learning, a dueling head, n = 5 and the
    exploration `apex`.
    """

    Config = R2D2Config
    td_loss = SequenceTDLoss
    remembers = True
    online: RecurrentQNetwork

    def __init__(self, config: "RunConfig", spec: EnvSpec, stopwatch: Stopwatch):
        super().__init__(config, spec, stopwatch)
        assert isinstance(self.actor, RecurrentQNetwork)
        self.memory = Memory(self.actor, self.num_envs)

    def make_replay(self) -> SequenceReplay:
        """The replay of the configuration, empty.

        Raises:
            ConfigError: it keeps no sequences.
        """
        name = self.config.replay.name
        if not issubclass(KINDS["replay"].find(name), SequenceReplay):
            raise ConfigError(
                f"replay.name: agent 'r2d2' learns from sequences, which {name!r} does not give: wanted 'sequences'"
            )
        replay = make_replay(self.config, self.spec, n_step=self.settings.n_step, state_size=self.online.state_size)
        assert isinstance(replay, SequenceReplay)
        self.sequences = replay
        return replay

    @torch.inference_mode()
    def predict(self, obs: Tensor, draws: Draws) -> Tensor:
        """What the online network says of observations [N, *shape], remembering their episodes: Q [M, N, A]."""
        return self.memory.values(obs, draws).by_member()

    def store(self, t: Transition, reward: np.ndarray) -> None:
        """Into replay, with the state in which the network saw `t.obs`, and into memory."""
        step = (t.obs, t.action, reward, t.terminal, t.done, t.next_obs, t.next_mask, t.mask)
        self.sequences.add(*step, state=self.memory.state)
        self.memory.advance(t.action, reward)
        self.memory.forget(t.done)

    def plan(self) -> str:
        """How many updates will be made, and how often a step is learned from."""
        size, trace = self.settings.batch_size, self.sequences.trace
        return self.plan_of(f"{size} sequences of {trace} steps", "up to ", size * trace)

    def first_update_after(self) -> int:
        """Environment steps before the first update: as configured, and until replay has a whole sequence."""
        return max(self.settings.learn_after_steps, (self.sequences.trace + 1) * self.num_envs)

    def cut(self, env: int, obs: np.ndarray) -> None:
        super().cut(env, obs)
        self.memory.forget(np.arange(self.num_envs) == env)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "memory": self.memory.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.memory.load_state_dict(state["memory"])
