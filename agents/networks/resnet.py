"""Residual networks (He et al. 2016) with group normalisation, the large encoders of scaled Q-learning."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from agents.networks.base import ImageTorso, check_image
from agents.networks.impala import make_pool

GROUPS = 32  # of channels, as in Wu and He 2018


class Block(nn.Module):
    """relu(shortcut(x) + f(x)) with f two 3x3 convolutions, or 1x1, 3x3 and 1x1 with four times the filters at the end.

    Each convolution is followed by a group norm, and by ReLU but for the last; the first 3x3 has the stride. The
    shortcut is a 1x1 convolution where the shape changes.
    """

    def __init__(self, channels: int, filters: int, stride: int, bottleneck: bool):
        super().__init__()
        if bottleneck:
            out = 4 * filters
            layers = [(channels, filters, 1, 1), (filters, filters, 3, stride), (filters, out, 1, 1)]
        else:
            out = filters
            layers = [(channels, filters, 3, stride), (filters, out, 3, 1)]
        normed = [layer for sizes in layers for layer in (*convolution(*sizes), nn.ReLU())]
        self.layers = nn.Sequential(*normed[:-1])
        same = channels == out and stride == 1
        self.shortcut = nn.Identity() if same else nn.Sequential(*convolution(channels, out, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.shortcut(x) + self.layers(x))


def convolution(channels: int, filters: int, kernel: int, stride: int) -> tuple[nn.Module, nn.Module]:
    """A convolution without bias, He-normal, and its norm."""
    layer = nn.Conv2d(channels, filters, kernel, stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer, nn.GroupNorm(GROUPS, filters)


class ResNet(ImageTorso):
    """ResNet-18, -34 or -50 with group norm in place of batch norm.

    From 84x84 the last maps are 3x3, with 512 channels, or 2,048 for depth 50. Source: He et al. 2016; group norm as
    in Kumar et al. 2023, "Offline Q-Learning on Diverse Multi-Task Data" (whose spatial embeddings are not here).

    Args:
        depth: 18, 34 or 50.
        pool: of the last maps: `average` takes the mean over pixels, `none` keeps all of them.
    """

    STAGES = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}

    def __init__(
        self,
        obs_shape: Sequence[int],
        *,
        depth: Literal[18, 34, 50] = 18,
        pool: Literal["none", "average"] = "average",
    ):
        super().__init__()
        check_image("resnet", obs_shape)
        if depth not in self.STAGES:
            raise ValueError(f"depth is {depth}, wanted one of {', '.join(map(str, self.STAGES))}")
        layers = [*convolution(obs_shape[0], 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1)]
        channels = 64
        for stage, num_blocks in enumerate(self.STAGES[depth]):
            filters = 64 * 2**stage
            for index in range(num_blocks):
                stride = 2 if stage > 0 and index == 0 else 1
                layers.append(Block(channels, filters, stride, bottleneck=depth == 50))
                channels = 4 * filters if depth == 50 else filters
        self.layers = nn.Sequential(*layers)
        self.pool = make_pool(pool)
        self.measure(obs_shape)

    def encode(self, obs: Tensor) -> Tensor:
        return self.pool(self.layers(obs))
