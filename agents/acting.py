"""What acting needs on a GPU so that it neither waits for updates nor sends more than is new.

N environments, S frames of a stack.
"""

import copy
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from agents.networks.qnetwork import QNetwork
from agents.replay.rows import sent
from agents.replay.uniform import UniformReplay


class LaggedCopy:
    """A copy of a network as it was before the last updates, which acts while these are made.

    `follow` is called just before updates are. So a decision is made by the weights that the updates before the last
    ones left, whatever is ready when: the lag is what was learned since one `follow`, neither more nor less, and a run
    can be repeated and resumed. On a GPU the copy acts in `stream`, which waits for what was asked for before `follow`
    and for nothing after: so it acts beside the last updates, and no more than these are ever behind.
    """

    def __init__(self, network: QNetwork):
        self.source, self.network = network, copy.deepcopy(network).requires_grad_(False)
        device = next(network.parameters()).device
        self.stream = torch.cuda.Stream(device, priority=-1) if device.type == "cuda" else None  # before updates
        self.wait()

    @torch.no_grad()
    def follow(self) -> None:
        """Become equal to the network as it is now."""
        for part in ("parameters", "buffers"):
            copies, sources = (list(getattr(network, part)()) for network in (self.network, self.source))
            for to, source in zip(copies, sources, strict=True):
                to.copy_(source)
        self.wait()

    def wait(self) -> None:
        """Let what is asked of the stream from now on come after what was asked of the device until now."""
        if self.stream is not None:
            self.stream.wait_stream(torch.cuda.current_stream(self.stream.device))

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over the weights of a copy."""
        self.network.load_state_dict(state)
        self.wait()


class NewestFrames:
    """Observations [N, S, ...] on a device. Where an episode goes on, only the newest frame of its stack is sent.

    It is replay that knows where that is enough: it has made sure that the stacks of a step share their frames, and
    counts the steps of episodes. Where it knows nothing of a step since the last call, observations are sent whole.
    """

    def __init__(self, replay: UniformReplay, device: torch.device):
        self.replay, self.device = replay, device
        self.rows = -1  # of replay at the last call
        self.stacks: Tensor | None = None

    def __call__(self, obs: np.ndarray) -> Tensor:
        goes_on = self.replay.rows == self.rows + 1 and self.replay.observations.stack > 1
        self.rows = self.replay.rows
        if self.stacks is None or not goes_on:
            self.stacks = sent(torch.from_numpy(obs), self.device)
            return self.stacks
        self.stacks = torch.cat([self.stacks[:, 1:], sent(torch.from_numpy(obs[:, -1:]), self.device)], 1)
        if len(begun := np.flatnonzero(self.replay.age == 0)):
            whole = sent(torch.from_numpy(obs[begun]), self.device)
            self.stacks.index_copy_(0, sent(torch.from_numpy(begun), self.device), whole)
        return self.stacks
