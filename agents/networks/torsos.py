"""Torsos: observations [B, *shape] -> features [B, F]. They end at the flattened encoder output.

The hidden layer before the action values belongs to the output layer, because dueling has one per stream.
"""

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn


class Torso(nn.Module, ABC):
    """An encoder of observations; `out_features` is the width F of what it returns."""

    out_features: int

    @abstractmethod
    def forward(self, obs: Tensor) -> Tensor:
        """Float observations [B, *shape] -> features [B, F]."""


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
    """

    def __init__(self, obs_shape: Sequence[int], *, channels: tuple[int, ...] = (16,)):
        super().__init__()
        if len(obs_shape) not in (2, 3) or not channels:
            raise ValueError(
                f"torso 'cnn' wants images [H, W], [C, H, W] or [H, W, C] and at least one layer; "
                f"got observations {tuple(obs_shape)} and channels {channels} (torso 'mlp' takes any shape)"
            )
        self.add_channel = len(obs_shape) == 2
        self.channels_last = len(obs_shape) == 3 and obs_shape[-1] < obs_shape[0]
        widths = [1 if self.add_channel else min(obs_shape[0], obs_shape[-1]), *channels]
        layers = [layer for w, v in itertools.pairwise(widths) for layer in (nn.Conv2d(w, v, 3), nn.ReLU())]
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


class NatureCNN(Torso):
    """Three convolutions with ReLU: 32 8x8 stride 4, 64 4x4 stride 2, 64 3x3 stride 1, on images [C, H, W].

    From 84x84 it makes 3136 features with padding `valid`, as in Mnih et al. 2015, and 7744 with `same`, as in
    Dopamine. The 512 units that follow there are the hidden layer of the output layer. Weights and images lie with
    channels last, which is faster on a CPU (LOG.md).

    Args:
        padding: `valid` has none; `same` pads with zeros to ceil(size / stride) outputs, more at the end where odd.
    """

    LAYERS = ((32, 8, 4), (64, 4, 2), (64, 3, 1))  # filters, size, stride

    def __init__(self, obs_shape: Sequence[int], *, padding: Literal["valid", "same"] = "valid"):
        super().__init__()
        if len(obs_shape) != 3:
            raise ValueError(
                f"torso 'nature' wants images [C, H, W], got observations {tuple(obs_shape)} "
                "(torso 'cnn' takes [H, W] and small ones, 'mlp' any shape)"
            )
        if padding not in ("valid", "same"):
            raise ValueError(f"padding is {padding!r}, wanted 'valid' or 'same'")
        channels, *size = obs_shape
        layers: list[nn.Module] = []
        for filters, kernel, stride in self.LAYERS:
            if padding == "same":
                (top, bottom), (left, right) = (same_padding(n, kernel, stride) for n in size)
                layers.append(nn.ZeroPad2d((left, right, top, bottom)))
                size = [math.ceil(n / stride) for n in size]
            else:
                size = [(n - kernel) // stride + 1 for n in size]
            if min(size) < 1:
                raise ValueError(
                    f"observations {tuple(obs_shape)} are too small for torso 'nature', which wants 36x36 at least "
                    "without padding (torso 'cnn' takes small ones)"
                )
            layers += [nn.Conv2d(channels, filters, kernel, stride), nn.ReLU()]
            channels = filters
        self.layers = nn.Sequential(*layers, nn.Flatten())
        self.layers.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.out_features = channels * math.prod(size)

    def forward(self, obs: Tensor) -> Tensor:
        return self.layers(obs.contiguous(memory_format=torch.channels_last))


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros (before, after) so that a convolution gives ceil(size / stride) outputs."""
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


TORSOS: dict[str, type[Torso]] = {"mlp": MLP, "cnn": SmallCNN, "nature": NatureCNN}


def default_torso(obs_shape: Sequence[int]) -> str:
    """What `torso = "auto"` stands for: `nature` for large [C, H, W], `cnn` for other images, else `mlp`."""
    if len(obs_shape) == 3 and obs_shape[0] <= 16 and min(obs_shape[1:]) >= 64:
        return "nature"
    is_image = len(obs_shape) in (2, 3) and sorted(obs_shape)[-2] >= 5
    return "cnn" if is_image else "mlp"
