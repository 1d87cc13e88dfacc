"""Is the Nature CNN the published one?"""

import pytest
import torch

from agents.networks.base import same_padding
from agents.networks.nature import NatureCNN
from agents.networks.torsos import default_torso

ATARI = (4, 84, 84)


@pytest.mark.parametrize(("padding", "features"), [("valid", 7 * 7 * 64), ("same", 11 * 11 * 64)])
def test_features(padding, features):
    """3136 in Mnih et al. 2015, 7744 in Dopamine."""
    torso = NatureCNN(ATARI, padding=padding)
    assert torso.out_features == features
    assert torso(torch.rand(2, *ATARI)).shape == (2, features)


def test_weights_of_the_convolutions():
    """(4 * 64 + 1) * 32 + (32 * 16 + 1) * 64 + (64 * 9 + 1) * 64, by hand."""
    assert sum(p.numel() for p in NatureCNN(ATARI).parameters()) == 8_224 + 32_832 + 36_928


@pytest.mark.parametrize("size", [7, 21, 36, 84])
@pytest.mark.parametrize(("kernel", "stride"), [(8, 4), (4, 2), (3, 1)])
def test_same_padding_gives_ceil_of_size_over_stride(size, kernel, stride):
    before, after = same_padding(size, kernel, stride)
    assert after - before in (0, 1)
    assert (size + before + after - kernel) // stride + 1 == -(-size // stride)


def test_it_is_a_plain_convolution_whatever_the_memory_layout():
    torso = NatureCNN(ATARI)
    convolutions = [layer for layer in torso.layers if isinstance(layer, torch.nn.Conv2d)]
    obs = torch.rand(2, *ATARI)
    x = obs.double()
    for layer in convolutions:
        x = torch.nn.functional.conv2d(x, layer.weight.double(), layer.bias.double(), layer.stride).relu()
    torch.testing.assert_close(torso(obs), x.flatten(1).float(), atol=1e-5, rtol=1e-4)  # float32 sums of up to 576


def test_what_it_refuses():
    with pytest.raises(ValueError, match=r"wants images \[C, H, W\]"):
        NatureCNN((84, 84))
    with pytest.raises(ValueError, match="too small"):
        NatureCNN((4, 30, 30))
    with pytest.raises(ValueError, match="wanted 'valid' or 'same'"):
        NatureCNN(ATARI, padding="full")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(("shape", "name"), [(ATARI, "nature"), ((10, 10, 4), "cnn"), ((10, 5), "cnn"), ((4,), "mlp")])
def test_auto(shape, name):
    assert default_torso(shape) == name
