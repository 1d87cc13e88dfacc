"""The encoder of Hadamax (Kooi, Yang and Francois-Lavet 2025)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from agents.networks.base import ChannelNorm, ImageTorso, check_image, same_padding


class HadamaxBlock(nn.Module):
    """Max-pooling of gelu(norm(conv_1(x))) * gelu(norm(conv_2(x))).

    [B, C, H, W] -> [B, filters, ceil(H / s), ceil(W / s)] with s the stride of the pooling. Both convolutions have
    stride 1 and are padded to the size of their input; the norm is over the channels of each pixel, gelu is the tanh
    approximation, and the pooling is padded with -inf.
    """

    def __init__(self, channels: int, filters: int, kernel: int, pool: int, pool_stride: int):
        super().__init__()
        before, after = same_padding(kernel, kernel, 1)  # at stride 1 it does not depend on the size
        self.pad = nn.ZeroPad2d((before, after, before, after))
        self.branches = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, filters, kernel), ChannelNorm(filters), nn.GELU("tanh")) for _ in range(2)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_normal_(module.weight)
                nn.init.zeros_(module.bias)  # pyright: ignore[reportArgumentType]
        self.pool, self.pool_stride = pool, pool_stride

    def forward(self, x: Tensor) -> Tensor:
        padded = self.pad(x)
        product = self.branches[0](padded) * self.branches[1](padded)
        height, width = (same_padding(n, self.pool, self.pool_stride) for n in product.shape[-2:])
        product = nn.functional.pad(product, (*width, *height), value=-torch.inf)
        return nn.functional.max_pool2d(product, self.pool, self.pool_stride)


class HadamaxCNN(ImageTorso):
    """Three blocks of products of two convolutions, pooled to 21x21, 11x11 and 11x11 from 84x84: 7,744 features.

    Source: Kooi et al. 2025, "Hadamax Encoding", and its code. The 512 units that follow there, with a norm and GELU,
    are the hidden layer of the output layer: `hidden = 512, layer_norm = true`, which has ReLU instead.
    """

    BLOCKS = ((32, 8, 4, 4), (64, 4, 2, 2), (64, 3, 3, 1))  # filters, kernel, pool, stride of the pool

    def __init__(self, obs_shape: Sequence[int]):
        super().__init__()
        check_image("hadamax", obs_shape)
        widths = [obs_shape[0], *(block[0] for block in self.BLOCKS)]
        blocks = (HadamaxBlock(n, *block) for n, block in zip(widths[:-1], self.BLOCKS, strict=True))
        self.blocks = nn.Sequential(*blocks)
        self.measure(obs_shape)

    def encode(self, obs: Tensor) -> Tensor:
        return self.blocks(obs)
