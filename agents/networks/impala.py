"""The residual encoder of IMPALA (Espeholt et al. 2018), with what BTR and BBF made of it."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from agents.networks.base import ImageTorso, check_image

Pool = Literal["none", "max6", "max8", "average"]
SMALLEST = {"max6": 41, "max8": 57}  # images of which three halvings leave as many pixels as the pooling has


class SpectralConv2d(nn.Conv2d):
    """A convolution with kernel W / sigma, where sigma estimates the largest singular value of W as [out, in * k * k].

    sigma = u^T W v, differentiable in W alone. `u` and `v` are buffers, and change only in `iterate`, by one step of
    power iteration, u = W v / |W v| and v = W^T u / |W^T u|: a forward pass, be it of acting, of an evaluation or of
    a target network, changes nothing. (`torch.nn.utils.parametrizations.spectral_norm` iterates in every forward pass
    in training mode, in which our networks always are.) They start random, after as many steps as torch takes.
    Source: Miyato et al. 2018, "Spectral Normalization for GANs", algorithm 1.
    """

    FIRST_STEPS = 15

    u: Tensor
    v: Tensor

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, padding: int):
        super().__init__(in_channels, out_channels, kernel_size, padding=padding)
        num_outputs, num_inputs = self.weight.flatten(1).shape
        self.register_buffer("u", functional.normalize(torch.randn(num_outputs), dim=0))
        self.register_buffer("v", functional.normalize(torch.randn(num_inputs), dim=0))
        for _ in range(self.FIRST_STEPS):
            self.iterate()

    @torch.no_grad()
    def iterate(self) -> None:
        """One step of power iteration."""
        kernel = self.weight.flatten(1)
        self.u.copy_(functional.normalize(kernel @ self.v, dim=0))
        self.v.copy_(functional.normalize(kernel.T @ self.u, dim=0))

    def sigma(self) -> Tensor:
        """The estimate of the largest singular value, a scalar, in float32; never above the true one."""
        # Not as two matrix products: in a network with bfloat16 these would be in that.
        return (self.u * (self.weight.flatten(1) * self.v).sum(1)).sum()

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, self.weight / self.sigma(), self.bias)


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(relu(x)))), [B, C, H, W] -> the same shape."""

    def __init__(self, channels: int, spectral_norm: bool):
        super().__init__()
        convolution = SpectralConv2d if spectral_norm else nn.Conv2d
        self.first = convolution(channels, channels, 3, padding=1)
        self.second = convolution(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(torch.relu(self.first(torch.relu(x))))


class ImpalaCNN(ImageTorso):
    """Three stages, each a convolution, a max-pooling by 2 and two residual blocks; a ReLU; perhaps a pooling.

    From 84x84 the maps are 11x11. Width 1 has 3,872 features, and BTR's (width 2, spectral norm, `max6`) 2,304.
    Source: Espeholt et al. 2018; Clark et al. 2025, "Beyond The Rainbow" (BTR); Schwarzer et al. 2023 (BBF: width 4).

    Args:
        width: multiplies the 16, 32 and 32 channels.
        spectral_norm: on the convolutions of the residual blocks, not on the first of each stage.
        pool: of the last maps: `none` keeps all of them, `max6` takes maxima to 6x6 and `max8` to 8x8, `average` the
            mean over pixels.
        renormalize: bring the features of each observation to [0, 1], as in SPR and BBF.
    """

    STAGES = (16, 32, 32)

    def __init__(
        self,
        obs_shape: Sequence[int],
        *,
        width: int = 1,
        spectral_norm: bool = False,
        pool: Pool = "none",
        renormalize: bool = False,
    ):
        super().__init__()
        check_image("impala", obs_shape)
        if width < 1:
            raise ValueError(f"width must be at least 1, got {width}")
        layers: list[nn.Module] = []
        channels = obs_shape[0]
        for filters in (width * n for n in self.STAGES):
            layers += [nn.Conv2d(channels, filters, 3, padding=1), nn.MaxPool2d(3, stride=2, padding=1)]
            layers += [ResidualBlock(filters, spectral_norm) for _ in range(2)]
            channels = filters
        self.layers = nn.Sequential(*layers, nn.ReLU())
        self.pool = make_pool(pool)
        if min(obs_shape[1:]) < (size := SMALLEST.get(pool, 1)):
            raise ValueError(
                f"observations {tuple(obs_shape)} are too small for pool {pool!r}, which wants {size}x{size} at least "
                "so that there are as many pixels to take maxima of; use 'none' or 'average'"
            )
        self.renormalize = renormalize
        self.measure(obs_shape)

    def before_update(self) -> None:
        for module in self.modules():
            if isinstance(module, SpectralConv2d):
                module.iterate()

    def encode(self, obs: Tensor) -> Tensor:
        return self.pool(self.layers(obs))


def make_pool(name: str) -> nn.Module:
    """The pooling called `name`: maps [B, C, H, W] -> [B, C, H', W']."""
    pools = {
        "none": nn.Identity(),
        "max6": nn.AdaptiveMaxPool2d(6),
        "max8": nn.AdaptiveMaxPool2d(8),
        "average": nn.AdaptiveAvgPool2d(1),
    }
    if name not in pools:
        raise ValueError(f"pool is {name!r}, wanted one of {', '.join(map(repr, pools))}")
    return pools[name]
