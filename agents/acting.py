"""What acting needs on a GPU so that it neither waits for updates nor sends more than is new.

N environments, S frames of a stack.
"""

import copy

import numpy as np
import torch
from torch import Tensor

from agents.networks.qnetwork import QNetwork
from agents.replay.rows import sent


class LaggedCopy:
    """A copy of a network as it was before the last updates, which acts while these are made.

    `follow` is called just before updates are. So a decision is made by the weights that the updates before the last
    ones left, whatever is ready when: the lag is what was learned since one `follow`, neither more nor less, and a run
    can be repeated and resumed. On a GPU the copy acts in `stream`, which waits for what was asked for before `follow`
    and for nothing after; more updates than those between two decisions are never waiting there.
    """

    def __init__(self, network: QNetwork):
        self.source, self.network = network, copy.deepcopy(network).requires_grad_(False)
        device = next(network.parameters()).device
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    @torch.no_grad()
    def follow(self) -> None:
        """Become equal to the network as it is now."""
        for part in ("parameters", "buffers"):
            copies, sources = (list(getattr(network, part)()) for network in (self.network, self.source))
            for to, source in zip(copies, sources, strict=True):
                to.copy_(source)
        if self.stream is not None:
            self.stream.wait_stream(torch.cuda.current_stream(self.stream.device))


class NewestFrames:
    """Observations [N, S, ...] on a device. Where an episode goes on, only the newest frame of its stack is sent.

    Whoever knows that the older frames of every stack are the newer ones of the stack before says in `begun` [N] where
    that is not so because an episode began. It holds for one call: without it whole observations are sent.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.begun: np.ndarray | None = None
        self.stacks: Tensor | None = None

    def __call__(self, obs: np.ndarray) -> Tensor:
        begun, self.begun = self.begun, None
        if begun is None or self.stacks is None:
            self.stacks = sent(torch.from_numpy(obs), self.device)
            return self.stacks
        self.stacks = torch.cat([self.stacks[:, 1:], sent(torch.from_numpy(obs[:, -1:]), self.device)], 1)
        if len(envs := np.flatnonzero(begun)):
            whole = sent(torch.from_numpy(obs[envs]), self.device)
            self.stacks.index_copy_(0, sent(torch.from_numpy(envs), self.device), whole)
        return self.stacks
