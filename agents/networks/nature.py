"""The encoder of DQN (Mnih et al. 2015)."""

import math
from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from agents.networks.base import ImageTorso, activated, check_image, same_padding


class NatureCNN(ImageTorso):
    """Three convolutions with ReLU: 32 8x8 stride 4, 64 4x4 stride 2, 64 3x3 stride 1, on images [C, H, W].

    From 84x84 it makes 3136 features with padding `valid`, as in Mnih et al. 2015, and 7744 with `same`, as in
    Dopamine. The 512 units that follow there are the hidden layer of the output layer.

    Args:
        padding: `valid` has none; `same` pads with zeros to ceil(size / stride) outputs, more at the end where odd.
        layer_norm: the encoder of PQN (Gallici et al. 2024): the channels of each pixel are normalised before every
            ReLU, and weights start He-normal with biases of 0.
        renormalize: bring the features of each observation to [0, 1], as in SPR.
    """

    LAYERS = ((32, 8, 4), (64, 4, 2), (64, 3, 1))  # filters, size, stride

    def __init__(
        self,
        obs_shape: Sequence[int],
        *,
        padding: Literal["valid", "same"] = "valid",
        layer_norm: bool = False,
        renormalize: bool = False,
    ):
        super().__init__()
        check_image("nature", obs_shape)
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
            layers += activated(nn.Conv2d(channels, filters, kernel, stride), layer_norm)
            channels = filters
        self.layers = nn.Sequential(*layers)
        self.renormalize = renormalize
        self.measure(obs_shape)

    def encode(self, obs: Tensor) -> Tensor:
        return self.layers(obs)
