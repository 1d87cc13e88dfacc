"""What all torsos share: observations [B, *shape] -> features [B, F]."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Torso(nn.Module, ABC):
    """An encoder of observations; `out_features` is the width F of what it returns."""

    out_features: int

    @abstractmethod
    def forward(self, obs: Tensor) -> Tensor:
        """Float observations [B, *shape] -> features [B, F]."""

    def before_update(self) -> None:
        """Change what changes with every update and never while acting; the learner calls it before each update."""


class ImageTorso(Torso):
    """A torso for images [C, H, W]: its features are flattened maps [C', H', W'].

    Weights and images lie with channels last, which is faster on a CPU (LOG.md). A subclass builds its layers and
    calls `measure` at the end. With `precision` bfloat16 products are made in that (autocast); weights, and features
    from the last map on, are float32 always.
    """

    map_shape: tuple[int, int, int]
    renormalize = False  # whether features are brought to [0, 1]
    precision = torch.float32

    @abstractmethod
    def encode(self, obs: Tensor) -> Tensor:
        """Float images [B, C, H, W] -> maps [B, C', H', W']."""

    def forward(self, obs: Tensor) -> Tensor:
        obs = obs.contiguous(memory_format=torch.channels_last)
        if self.precision == torch.float32:
            features = self.encode(obs).flatten(1)
        else:
            with torch.autocast(obs.device.type, self.precision):
                features = self.encode(obs).flatten(1)
            features = features.float()
        return renormalized(features) if self.renormalize else features

    @torch.no_grad()
    def measure(self, obs_shape: Sequence[int]) -> None:
        """Find out the shape of the maps."""
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        _, channels, height, width = self.encode(torch.zeros(1, *obs_shape)).shape
        self.map_shape = (channels, height, width)
        self.out_features = math.prod(self.map_shape)


def set_precision(torso: Torso, name: str, precision: str) -> None:
    """Let the encoder called `name` make its products in `precision`.

    Raises:
        ValueError: for one that is no `ImageTorso`, in other than float32.
    """
    if isinstance(torso, ImageTorso):
        torso.precision = getattr(torch, precision)
    elif precision != "float32":
        raise ValueError(
            f"agent.precision {precision!r} is for nature, impala, hadamax, resnet and other torsos made like them, "
            f"got torso {name!r}"
        )


def renormalized(features: Tensor) -> Tensor:
    """(x - min x) / (max x - min x + 1e-5) over the features of each row: [B, F] -> [B, F] in [0, 1).

    Source: Schrittwieser et al. 2020 (MuZero), appendix G; Schwarzer et al. 2021 (SPR) and 2023 (BBF).
    """
    low, high = features.amin(-1, keepdim=True), features.amax(-1, keepdim=True)
    return (features - low) / (high - low + 1e-5)


@torch.no_grad()
def shrink_and_perturb(module: nn.Module, fresh: nn.Module, shrink: float) -> None:
    """theta <- shrink theta + (1 - shrink) theta_fresh for all parameters of `module`; buffers stay.

    Source: Ash & Adams 2020, "On Warm-Starting Neural Network Training".
    """
    for old, new in zip(module.parameters(), fresh.parameters(), strict=True):
        old.mul_(shrink).add_(new, alpha=1 - shrink)


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation of the channels of each pixel, [B, C, H, W], as flax's `LayerNorm` does it."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.movedim(1, -1)).movedim(-1, 1)


def activated(convolution: nn.Conv2d, layer_norm: bool) -> list[nn.Module]:
    """A convolution and its ReLU; with `layer_norm` as in PQN: normalised in between, weights He-normal, biases 0."""
    if not layer_norm:
        return [convolution, nn.ReLU()]
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    nn.init.zeros_(convolution.bias)  # pyright: ignore[reportArgumentType]
    return [convolution, ChannelNorm(convolution.out_channels), nn.ReLU()]


def as_floats(obs: Tensor) -> Tensor:
    """Observations as float32; bytes become [0, 1], and bools 0 or 1."""
    return obs.float() / 255 if obs.dtype == torch.uint8 else obs.float()


def is_image(obs_shape: Sequence[int]) -> bool:
    """Whether it is [C, H, W]; images [H, W, C] are told by their having more rows than columns and channels."""
    return len(obs_shape) == 3 and obs_shape[0] <= min(obs_shape[1:])


def check_image(torso: str, obs_shape: Sequence[int]) -> None:
    """Refuse what is not [C, H, W]."""
    if not is_image(obs_shape):
        raise ValueError(
            f"torso {torso!r} wants images [C, H, W] with no more channels than rows and columns, "
            f"got observations {tuple(obs_shape)} (torso 'cnn' takes [H, W] and [H, W, C], 'mlp' any shape)"
        )


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros (before, after) so that a convolution gives ceil(size / stride) outputs."""
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2
