"""Torsos by name: observations [B, *shape] -> features [B, F]. They end at the flattened encoder output.

The hidden layer before the action values belongs to the output layer, because dueling has one per stream.
"""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from agents.networks.base import Torso, activated
from agents.networks.hadamax import HadamaxCNN
from agents.networks.impala import ImpalaCNN
from agents.networks.nature import NatureCNN
from agents.networks.resnet import ResNet
from agents.networks.soft_moe import SoftMoECNN


class MLP(Torso):
    """Dense layers with ReLU on the flattened observation.

    Args:
        hidden: width of each layer; empty hands the flattened observation on.
    """

    def __init__(self, obs_shape: Sequence[int], *, hidden: tuple[int, ...] = (120,)):
        super().__init__()
        if any(width < 1 for width in hidden):
            raise ValueError(f"hidden must be widths of at least 1, got {hidden}")
        widths = [math.prod(obs_shape), *hidden]
        layers = [layer for w, v in itertools.pairwise(widths) for layer in (nn.Linear(w, v), nn.ReLU())]
        self.layers = nn.Sequential(nn.Flatten(), *layers)
        self.out_features = widths[-1]

    def forward(self, obs: Tensor) -> Tensor:
        return self.layers(obs)


class SmallCNN(Torso):
    """3x3 convolutions for small images: [H, W], [C, H, W] or [H, W, C] (the shortest of first and last is C).

    Args:
        channels: filters of each convolution, stride 1, no padding.
        layer_norm: as of `nature`, for PQN.
    """

    def __init__(self, obs_shape: Sequence[int], *, channels: tuple[int, ...] = (16,), layer_norm: bool = False):
        super().__init__()
        if len(obs_shape) not in (2, 3) or not channels:
            raise ValueError(
                f"torso 'cnn' wants images [H, W], [C, H, W] or [H, W, C] and at least one layer; "
                f"got observations {tuple(obs_shape)} and channels {channels} (torso 'mlp' takes any shape)"
            )
        self.add_channel = len(obs_shape) == 2
        self.channels_last = len(obs_shape) == 3 and obs_shape[-1] < obs_shape[0]
        widths = [1 if self.add_channel else min(obs_shape[0], obs_shape[-1]), *channels]
        layers = [layer for w, v in itertools.pairwise(widths) for layer in activated(nn.Conv2d(w, v, 3), layer_norm)]
        self.layers = nn.Sequential(*layers, nn.Flatten())
        try:
            self.out_features = self(torch.zeros(1, *obs_shape)).shape[-1]
        except RuntimeError as error:
            raise ValueError(
                f"observations {tuple(obs_shape)} are too small for {len(channels)} 3x3 convolutions"
            ) from error

    def forward(self, obs: Tensor) -> Tensor:
        if self.add_channel:
            obs = obs.unsqueeze(1)
        elif self.channels_last:
            obs = obs.movedim(-1, 1)
        return self.layers(obs)


TORSOS: dict[str, type[Torso]] = {
    "mlp": MLP,
    "cnn": SmallCNN,
    "nature": NatureCNN,
    "impala": ImpalaCNN,
    "hadamax": HadamaxCNN,
    "soft_moe": SoftMoECNN,
    "resnet": ResNet,
}


def default_torso(obs_shape: Sequence[int]) -> str:
    """What `torso = "auto"` stands for: `nature` for large [C, H, W], `cnn` for other images, else `mlp`."""
    if len(obs_shape) == 3 and obs_shape[0] <= 16 and min(obs_shape[1:]) >= 64:
        return "nature"
    is_image = len(obs_shape) in (2, 3) and sorted(obs_shape)[-2] >= 5
    return "cnn" if is_image else "mlp"
