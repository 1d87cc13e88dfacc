"""Are the encoders the published ones? Sizes by derivation, and each new kind of layer against loops in float64."""

import functools
import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from agents.networks.base import ChannelNorm
from agents.networks.hadamax import HadamaxBlock
from agents.networks.impala import ImpalaCNN, SpectralConv2d
from agents.networks.nature import NatureCNN
from agents.networks.output_layers import OUTPUT_LAYERS
from agents.networks.resnet import GROUPS, Block
from agents.networks.soft_moe import SoftMoE
from agents.networks.torsos import TORSOS
from value_heads import make_head

ATARI, ACTIONS = (4, 84, 84), 18


def conv(inputs, filters, kernel=3):
    return inputs * filters * kernel**2 + filters


def dense(inputs, outputs):
    return inputs * outputs + outputs


def impala(c1, c2, c3):
    """A first convolution and four residual ones in each stage."""
    widths = [(4, c1), (c1, c2), (c2, c3)]
    return sum(conv(w, v) + 4 * conv(v, v) for w, v in widths)


NATURE = conv(4, 32, 8) + conv(32, 64, 4) + conv(64, 64)
BTR = {"width": 2, "spectral_norm": True, "pool": "max6"}
TWO_STREAMS = 2 * dense(2304, 512)
MOE_OF_8 = 32 * 8 * 16 + 8 * (dense(32, 512) + dense(512, 32))  # 16 slots for 121 tokens
# name -> torso with options, output layer with options, outputs per action, derivation, what was published
SIZES = {
    "DQN, Mnih et al. 2015": (
        ("nature", {}, "linear", {"hidden": 512}, 1),
        (NATURE + dense(3136, 512) + dense(512, ACTIONS), "1.69M"),
    ),
    "C51 and HL-Gauss with 51 bins": (
        ("nature", {}, "linear", {"hidden": 512}, 51),
        (NATURE + dense(3136, 512) + dense(512, ACTIONS * 51), "2.16M"),
    ),
    "IMPALA": (
        ("impala", {}, "linear", {"hidden": 512}, 1),
        (impala(16, 32, 32) + dense(3872, 512) + dense(512, ACTIONS), "2.09M"),
    ),
    # 3.24M in tables that cut off instead of rounding.
    "BTR with HL-Gauss": (
        ("impala", BTR, "noisy_dueling", {"hidden": 512}, 51),
        (impala(32, 64, 64) + TWO_STREAMS + dense(512, 51) + dense(512, ACTIONS * 51), "3.25M"),
    ),
    # Of their code, where both streams share the hidden layer: without the transition model and the predictor.
    "BBF, Schwarzer et al. 2023": (
        ("impala", {"width": 4}, "dueling", {"hidden": 2048, "shared_hidden": True}, 51),
        (impala(64, 128, 128) + dense(15_488, 2048) + dense(2048, 51) + dense(2048, ACTIONS * 51), "35.26M"),
    ),
    "SoftMoE with 8 experts": (
        ("soft_moe", {"num_experts": 8}, "linear", {}, 1),
        (impala(16, 32, 32) + MOE_OF_8 + dense(3872, ACTIONS), "0.44M"),
    ),
}


def num_weights(*modules):
    """Of the means: sigmas of noisy layers are not counted, as BTR does."""
    return sum(p.numel() for m in modules for name, p in m.named_parameters() if not name.endswith("_sigma"))


@pytest.mark.parametrize("name", SIZES)
def test_number_of_weights(name):
    (torso_name, torso_options, output_name, output_options, num_outputs), (derived, published) = SIZES[name]
    with torch.device("meta"):
        torso = TORSOS[torso_name](ATARI, **torso_options)
        output = OUTPUT_LAYERS[output_name](torso.out_features, ACTIONS, num_outputs, **output_options)
    assert num_weights(torso, output) == derived
    assert f"{derived / 1e6:.2f}M" == published


def test_number_of_weights_of_btr():
    """2.91M in Clark et al. 2025: IMPALA x2, IQN with 64 cosines, noisy dueling streams of 512."""
    with torch.device("meta"):
        torso = TORSOS["impala"](ATARI, **BTR)
        output_layer = functools.partial(OUTPUT_LAYERS["noisy_dueling"], hidden=512)
        head = make_head("iqn", in_features=2304, num_actions=18, support=(-10, 10), output_layer=output_layer)
    derived = impala(32, 64, 64) + dense(64, 2304) + TWO_STREAMS + dense(512, 1) + dense(512, ACTIONS)
    assert num_weights(torso, head) == derived == 2_908_851


@pytest.mark.parametrize(("depth", "published"), [(18, 11_689_512), (34, 21_797_672), (50, 25_557_032)])
def test_number_of_weights_of_resnets(depth, published):
    """torchvision's, without the last layer for 1,000 classes; group norms have as many weights as batch norms."""
    with torch.device("meta"):
        torso = TORSOS["resnet"]((3, 84, 84), depth=depth)
    assert torso.out_features == (2048 if depth == 50 else 512)
    assert num_weights(torso) == published - dense(torso.out_features, 1000)


SHAPES = {
    "nature": ({}, (64, 7, 7)),
    "nature same": ({"padding": "same", "layer_norm": True}, (64, 11, 11)),
    "impala": ({}, (32, 11, 11)),
    "impala btr": (BTR, (64, 6, 6)),
    "impala average": ({"pool": "average"}, (32, 1, 1)),
    "hadamax": ({}, (64, 11, 11)),
    "resnet": ({"pool": "none"}, (512, 3, 3)),
}


@pytest.mark.parametrize("name", SHAPES)
def test_maps_of_atari(name):
    options, shape = SHAPES[name]
    with torch.device("meta"):
        assert TORSOS[name.split()[0]](ATARI, **options).map_shape == shape


def test_maxima_of_btr_are_a_pooling_by_two():
    """Of 11x11 pixels the six windows are those of a 3x3 pooling with stride 2 and a border."""
    maps = torch.randn(2, 3, 11, 11)
    pool = ImpalaCNN((1, 48, 48), pool="max6").pool
    assert torch.equal(pool(maps), functional.max_pool2d(maps, 3, 2, 1))


def test_maxima_to_eight_by_eight():
    """Of 11x11 pixels, as in FE-Rainbow; window i begins at floor(11 i / 8) and ends before ceil(11 (i + 1) / 8)."""
    maps = torch.randn(2, 3, 11, 11)
    pooled = ImpalaCNN((1, 57, 57), pool="max8").pool(maps)
    starts, ends = [0, 1, 2, 4, 5, 6, 8, 9], [2, 3, 5, 6, 7, 9, 10, 11]
    rows = torch.stack([maps[:, :, a:b].amax(2) for a, b in zip(starts, ends, strict=True)], 2)
    assert torch.equal(pooled, torch.stack([rows[..., a:b].amax(-1) for a, b in zip(starts, ends, strict=True)], -1))


def float64(module):
    return {name: value.detach().double() for name, value in module.state_dict().items()}


def test_impala_written_out():
    torch.manual_seed(0)
    torso = ImpalaCNN((2, 17, 12), width=1, spectral_norm=True)
    obs, w = torch.rand(3, 2, 17, 12), float64(torso)

    def apply(name, x):
        kernel = w[f"{name}.weight"]
        if f"{name}.u" in w:
            kernel = kernel / (w[f"{name}.u"] @ kernel.flatten(1) @ w[f"{name}.v"])
        return functional.conv2d(x, kernel, w[f"{name}.bias"], padding=1)

    x = obs.double()
    for start in (0, 4, 8):
        x = functional.max_pool2d(apply(f"layers.{start}", x), 3, 2, 1)
        for block in (f"layers.{start + 2}", f"layers.{start + 3}"):
            x = x + apply(f"{block}.second", apply(f"{block}.first", x.relu()).relu())
    assert len([name for name in w if name.endswith(".u")]) == 12
    # float32 against float64, thirteen layers.
    torch.testing.assert_close(torso(obs).double(), x.relu().flatten(1), atol=1e-5, rtol=1e-4)


def test_spectral_norm_is_the_largest_singular_value():
    torch.manual_seed(0)
    layer = SpectralConv2d(5, 8, 3, padding=1)
    kernel = layer.weight.detach().flatten(1)
    largest = torch.linalg.svdvals(kernel.double())[0]
    assert 0.9 * largest < layer.sigma() <= largest * (1 + 1e-6)  # after the first steps
    for _ in range(300):
        layer.iterate()
    torch.testing.assert_close(layer.sigma().double(), largest, rtol=1e-5, atol=0)
    # What the layer applies is that kernel over its norm: read off from unit impulses.
    with torch.no_grad():
        layer.bias.zero_()
    impulses = torch.zeros(5 * 9, 5, 3, 3)
    for i, (channel, row, column) in enumerate(np.ndindex(5, 3, 3)):
        impulses[i, channel, row, column] = 1
    applied = layer(impulses)[:, :, 1, 1].T.double()
    assert torch.linalg.svdvals(applied)[0].item() == pytest.approx(1, rel=1e-5)


def test_gradient_of_a_spectral_convolution():
    """That of W / (u^T W v) with u and v constant, by finite differences."""
    torch.manual_seed(0)
    layer, x = SpectralConv2d(2, 3, 3, padding=1).double(), torch.randn(1, 2, 4, 4).double()

    def output(weight):
        return torch.func.functional_call(layer, {"weight": weight}, (x,))

    assert torch.autograd.gradcheck(output, (layer.weight.detach().requires_grad_(),))


def test_one_step_is_that_of_torch():
    torch.manual_seed(0)
    layer = SpectralConv2d(5, 8, 3, padding=1)
    plain = torch.nn.Conv2d(5, 8, 3)
    plain.load_state_dict({name: value for name, value in layer.state_dict().items() if name in ("weight", "bias")})
    torch.nn.utils.parametrizations.spectral_norm(plain)
    reference = plain.parametrizations["weight"][0]
    with torch.no_grad():
        reference._u.copy_(layer.u), reference._v.copy_(layer.v)
        normalised = plain.weight  # in training mode this makes one step
    layer.iterate()
    torch.testing.assert_close(layer.u, reference._u)
    torch.testing.assert_close(layer.v, reference._v)
    torch.testing.assert_close(layer.weight / layer.sigma(), normalised)


@pytest.mark.parametrize(("kernel", "pool", "stride"), [(4, 2, 2), (3, 3, 1), (8, 4, 4)])
def test_hadamax_block_by_loops(kernel, pool, stride):
    torch.manual_seed(0)
    block, size = HadamaxBlock(2, 3, kernel, pool, stride), 7
    x, w = torch.randn(1, 2, size, size), {k: v.numpy() for k, v in float64(block).items()}
    image = x[0].double().numpy()
    before = (kernel - 1) // 2  # of an even kernel, one more pixel is padded at the end
    product = np.ones((3, size, size))
    for branch in (0, 1):
        weight, bias = w[f"branches.{branch}.0.weight"], w[f"branches.{branch}.0.bias"]
        for row, column in np.ndindex(size, size):
            total = bias.copy()
            for f, c, i, j in np.ndindex(*weight.shape):
                r, s = row + i - before, column + j - before
                if 0 <= r < size and 0 <= s < size:
                    total[f] += weight[f, c, i, j] * image[c, r, s]
            y = (total - total.mean()) / math.sqrt(total.var() + 1e-5)
            product[:, row, column] *= y / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * y**3)))
    out = -(-size // stride)
    padded = (out - 1) * stride + pool - size
    expected = np.full((3, out, out), -np.inf)
    for f, row, column, i, j in np.ndindex(3, out, out, pool, pool):
        r, s = row * stride + i - padded // 2, column * stride + j - padded // 2
        if 0 <= r < size and 0 <= s < size:
            expected[f, row, column] = max(expected[f, row, column], product[f, r, s])
    np.testing.assert_allclose(block(x)[0].detach().numpy(), expected, atol=1e-5)  # float32, norms of small deviations


@pytest.mark.parametrize("num_experts", [1, 2, 3, 8])
def test_soft_moe_by_loops(num_experts):
    """Seven tokens, so that slots = ceil(7 / n) are not always a divisor."""
    torch.manual_seed(0)
    m, d, h = 7, 4, 5
    layer = SoftMoE(m, d, num_experts, h)
    with torch.no_grad():
        for p in layer.parameters():
            p.copy_(torch.randn_like(p))
    tokens, w = torch.randn(2, m, d), {k: v.numpy() for k, v in float64(layer).items()}
    p = math.ceil(m / num_experts)
    assert layer.num_slots == p
    phi = w["phi"].reshape(d, num_experts, p)
    expected = np.zeros((2, m, d))
    for b in range(2):
        x = tokens[b].double().numpy()
        score = np.exp([[[x[t] @ phi[:, n, s] for s in range(p)] for n in range(num_experts)] for t in range(m)])
        for n, s in np.ndindex(num_experts, p):
            slot = sum(score[t, n, s] * x[t] for t in range(m)) / sum(score[t, n, s] for t in range(m))
            hidden = np.maximum(slot @ w["weight1"][n] + w["bias1"][n, 0], 0)
            y = hidden @ w["weight2"][n] + w["bias2"][n, 0]
            for t in range(m):
                expected[b, t] += score[t, n, s] / score[t].sum() * y
    np.testing.assert_allclose(layer(tokens).detach().numpy(), expected, atol=2e-5)  # float32, terms of up to 20


@pytest.mark.parametrize(("channels", "stride", "bottleneck"), [(32, 1, False), (32, 2, False), (64, 2, True)])
def test_residual_block_written_out(channels, stride, bottleneck):
    torch.manual_seed(0)
    block = Block(channels, 32, stride, bottleneck)
    x, w = torch.randn(2, channels, 6, 6), float64(block)

    def apply(name, x, kernel, stride):
        x = functional.conv2d(x, w[f"{name}.weight"], stride=stride, padding=kernel // 2)
        groups = x.reshape(len(x), GROUPS, -1)
        mean, variance = groups.mean(-1, keepdim=True), groups.var(-1, keepdim=True, correction=0)
        return ((groups - mean) / (variance + 1e-5).sqrt()).reshape(x.shape)

    kernels = (1, 3, 1) if bottleneck else (3, 3)
    strides = (1, stride, 1) if bottleneck else (stride, 1)
    y = x.double()
    for i, (kernel, s) in enumerate(zip(kernels, strides, strict=True)):
        y = apply(f"layers.{3 * i}", y if i == 0 else y.relu(), kernel, s)
    shortcut = apply("shortcut.0", x.double(), 1, stride) if "shortcut.0.weight" in w else x.double()
    assert ("shortcut.0.weight" in w) == (stride == 2 or bottleneck)
    torch.testing.assert_close(block(x).double(), (y + shortcut).relu(), atol=1e-4, rtol=1e-4)  # float32 and norms


def test_small_cnn_of_pqn():
    """Gallici et al. 2024, `pqn_minatar.py`: 16 3x3 filters, a norm over channels, ReLU; 8x8x16 = 1024 features."""
    torch.manual_seed(0)
    torso = TORSOS["cnn"]((10, 10, 4), layer_norm=True)
    assert [type(layer) for layer in torso.layers[:-1]] == [torch.nn.Conv2d, ChannelNorm, torch.nn.ReLU]
    assert (torso.out_features, num_weights(torso)) == (1024, conv(4, 16) + 2 * 16)
    maps = torso.layers[:2](torch.rand(2, 4, 10, 10))
    torch.testing.assert_close(maps.mean(1), torch.zeros(2, 8, 8), atol=1e-5, rtol=0)
    assert torso.layers[0].weight.std().item() == pytest.approx(math.sqrt(2 / (4 * 9)), rel=0.1)  # 576 numbers
    assert not torso.layers[0].bias.any()


def test_nature_of_pqn():
    """Channels of each pixel have mean 0 and variance 1 before the ReLU; weights have deviation sqrt(2 / fan_in)."""
    torch.manual_seed(0)
    torso = NatureCNN(ATARI, layer_norm=True)
    kinds = [type(layer) for layer in torso.layers]
    assert kinds == [torch.nn.Conv2d, ChannelNorm, torch.nn.ReLU] * 3
    maps = torso.layers[:2](torch.rand(2, *ATARI))
    torch.testing.assert_close(maps.mean(1), torch.zeros(2, 20, 20), atol=1e-5, rtol=0)
    torch.testing.assert_close(maps.var(1, correction=0), torch.ones(2, 20, 20), atol=1e-3, rtol=0)  # epsilon 1e-5
    for layer in torso.layers[::3]:
        fan_in = layer.weight[0].numel()
        assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / fan_in), rel=0.03)  # 8,192 numbers and more
        assert not layer.bias.any()


@pytest.mark.parametrize("name", ["nature", "impala"])
def test_renormalized_features(name):
    """(x - min) / (max - min + 1e-5) of each row of the features that there are without it, as in SPR and BBF."""
    torsos = []
    for renormalize in (False, True):
        torch.manual_seed(0)
        torsos.append(TORSOS[name]((4, 44, 44), renormalize=renormalize))
    obs = torch.rand(3, 4, 44, 44)
    plain, made = (torso(obs).detach().double() for torso in torsos)
    for x, y in zip(plain, made, strict=True):
        low, high = min(x.tolist()), max(x.tolist())
        torch.testing.assert_close(y, (x - low) / (high - low + 1e-5), rtol=1e-4, atol=1e-5)
    assert made.min() == 0
    assert 0.9 < made.max() < 1
