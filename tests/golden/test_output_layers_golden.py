"""Are dueling and noisy layers what their papers define? Against loops and matrices in float64."""

import math

import numpy as np
import pytest
import torch

from agents.networks.output_layers import OUTPUT_LAYERS, NoisyLinear

FEATURES, ACTIONS, OUTPUTS, HIDDEN = 7, 3, 4, 5
ROWS = (1, NoisyLinear.FEW_ROWS, NoisyLinear.FEW_ROWS + 1)  # both ways of computing the noise


def numpy64(module):
    return {name: value.detach().double().numpy() for name, value in module.state_dict().items()}


def layer_norm(x):
    """Scale and shift are 1 and 0 at the beginning; torch's epsilon."""
    return (x - x.mean()) / math.sqrt(((x - x.mean()) ** 2).mean() + 1e-5)


@pytest.mark.parametrize("norm", [False, True])
def test_dueling_by_loops(norm):
    torch.manual_seed(0)
    layer = OUTPUT_LAYERS["dueling"](FEATURES, ACTIONS, OUTPUTS, hidden=HIDDEN, layer_norm=norm)
    features = torch.randn(2, 6, FEATURES)
    w = numpy64(layer)

    def stream(name, x):
        hidden = w[f"{name}.hidden.weight"] @ x + w[f"{name}.hidden.bias"]
        hidden = np.maximum(layer_norm(hidden) if norm else hidden, 0)
        return w[f"{name}.last.weight"] @ hidden + w[f"{name}.last.bias"]

    expected = np.empty((2, 6, ACTIONS, OUTPUTS))
    for i, j in np.ndindex(2, 6):
        x = features[i, j].double().numpy()
        value, advantage = stream("value", x), stream("advantage", x).reshape(ACTIONS, OUTPUTS)
        for d in range(OUTPUTS):
            mean = sum(advantage[a, d] for a in range(ACTIONS)) / ACTIONS
            for a in range(ACTIONS):
                expected[i, j, a, d] = value[d] + advantage[a, d] - mean
    # float32 sums of a dozen terms of order one.
    np.testing.assert_allclose(layer(features).detach().numpy(), expected, atol=2e-6)


@pytest.mark.parametrize("norm", [False, True])
def test_dueling_on_a_shared_hidden_layer_by_loops(norm):
    """As in BBF: value and advantage are linear maps of one hidden layer."""
    torch.manual_seed(0)
    options = {"hidden": HIDDEN, "layer_norm": norm, "shared_hidden": True}
    layer = OUTPUT_LAYERS["dueling"](FEATURES, ACTIONS, OUTPUTS, **options)
    features, w = torch.randn(6, FEATURES), numpy64(layer)
    expected = np.empty((6, ACTIONS, OUTPUTS))
    for i, x in enumerate(features.double().numpy()):
        hidden = w["shared.weight"] @ x + w["shared.bias"]
        hidden = np.maximum(layer_norm(hidden) if norm else hidden, 0)
        value = w["value.last.weight"] @ hidden + w["value.last.bias"]
        advantage = (w["advantage.last.weight"] @ hidden + w["advantage.last.bias"]).reshape(ACTIONS, OUTPUTS)
        expected[i] = value + advantage - advantage.mean(0)
    np.testing.assert_allclose(layer(features).detach().numpy(), expected, atol=2e-6)
    assert len(w) == (8 if norm else 6)


@pytest.mark.parametrize(("name", "options", "layers"), [
    ("linear", {"hidden": HIDDEN}, ["hidden"]),
    ("linear", {}, []),
    ("noisy", {"hidden": HIDDEN}, ["hidden"]),
    ("noisy", {}, []),
    ("dueling", {"hidden": HIDDEN}, ["value.hidden", "advantage.hidden"]),
    ("dueling", {"hidden": HIDDEN, "shared_hidden": True, "layer_norm": True}, ["shared"]),
    ("noisy_dueling", {"hidden": HIDDEN, "layer_norm": True}, ["value.hidden", "advantage.hidden"]),
])  # fmt: skip
def test_the_projection_is_the_first_layer(name, options, layers):
    """W x + b of the hidden layers, of noisy ones with the means; the features where there is none."""
    torch.manual_seed(0)
    layer = OUTPUT_LAYERS[name](FEATURES, ACTIONS, OUTPUTS, **options)
    w, x = numpy64(layer), torch.randn(2, FEATURES)
    parts = [x.double().numpy() @ w[f"{part}.weight"].T + w[f"{part}.bias"] for part in layers]
    expected = np.concatenate(parts, -1) if parts else x.numpy()
    np.testing.assert_allclose(layer.project(x).detach().numpy(), expected, atol=2e-6)


def test_a_hidden_layer_to_share_has_a_width():
    with pytest.raises(ValueError, match="shared_hidden is for a hidden layer, and hidden is 0: give its width"):
        OUTPUT_LAYERS["dueling"](FEATURES, ACTIONS, 1, hidden=0, shared_hidden=True)


def test_the_advantages_of_dueling_have_mean_zero():
    """So V is the mean over actions: what makes V and A identifiable."""
    torch.manual_seed(0)
    layer = OUTPUT_LAYERS["dueling"](FEATURES, ACTIONS, OUTPUTS, hidden=HIDDEN)
    features = torch.randn(9, FEATURES)
    torch.testing.assert_close(layer(features).mean(-2), layer.value(features).squeeze(-2), atol=1e-6, rtol=1e-5)


def materialised(weights, name, x, noise):
    """(mu + sigma * e_out e_in^T) x + b + sigma_b * e_out, with the whole matrix."""
    e = noise.double().numpy()
    num_inputs = weights[f"{name}weight"].shape[1]
    e_in, e_out = e[:num_inputs], e[num_inputs:]
    matrix = weights[f"{name}weight"] + weights[f"{name}weight_sigma"] * np.outer(e_out, e_in)
    return x @ matrix.T + weights[f"{name}bias"] + weights[f"{name}bias_sigma"] * e_out


@pytest.mark.parametrize("rows", ROWS)
def test_factorised_noise_against_the_whole_matrix(rows):
    torch.manual_seed(0)
    layer = NoisyLinear(FEATURES, HIDDEN, 0.5)
    with torch.no_grad():
        for p in layer.parameters():
            p.copy_(torch.randn_like(p))  # deviations of both signs, none like another
    noise = layer.draw(torch.Generator().manual_seed(1))
    x = torch.randn(rows, FEATURES)
    expected = materialised(numpy64(layer), "", x.double().numpy(), noise)
    np.testing.assert_allclose(layer(x, noise).detach().numpy(), expected, atol=1e-5)  # float32, terms of up to 20


@pytest.mark.parametrize("rows", ROWS)
def test_gradients_of_both_ways_against_the_whole_matrix(rows):
    torch.manual_seed(0)
    layer = NoisyLinear(FEATURES, HIDDEN, 0.5).double()
    noise = layer.draw(torch.Generator().manual_seed(1)).double()
    x, slope = torch.randn(rows, FEATURES).double(), torch.randn(rows, HIDDEN).double()
    (layer(x, noise) * slope).sum().backward()
    e_in, e_out = noise.split((FEATURES, HIDDEN))
    torch.testing.assert_close(layer.weight.grad, slope.T @ x)
    torch.testing.assert_close(layer.weight_sigma.grad, (slope.T @ x) * torch.outer(e_out, e_in))
    torch.testing.assert_close(layer.bias_sigma.grad, slope.sum(0) * e_out)


def test_a_noisy_output_is_two_noisy_layers():
    torch.manual_seed(0)
    layer = OUTPUT_LAYERS["noisy"](FEATURES, ACTIONS, OUTPUTS, hidden=HIDDEN)
    draws = layer.draw(torch.Generator().manual_seed(1))
    x, w = torch.randn(2, FEATURES), numpy64(layer)
    hidden = np.maximum(materialised(w, "hidden.", x.double().numpy(), draws["hidden_noise"]), 0)
    expected = materialised(w, "last.", hidden, draws["last_noise"]).reshape(2, ACTIONS, OUTPUTS)
    np.testing.assert_allclose(layer(x, draws).detach().numpy(), expected, atol=2e-6)


def test_it_starts_as_in_the_paper():
    """mu uniform in +-1/sqrt(in), all of sigma at sigma_0 / sqrt(in)."""
    torch.manual_seed(0)
    layer = NoisyLinear(400, 50, 0.3)
    for p in (layer.weight, layer.bias):
        assert 0.045 < p.abs().max() <= 0.05
    assert layer.weight.std().item() == pytest.approx(0.05 / math.sqrt(3), rel=0.02)  # 20,000 uniform numbers
    for p in (layer.weight_sigma, layer.bias_sigma):
        assert torch.equal(p, torch.full_like(p, 0.3 / 20))


def test_the_distribution_of_the_noise():
    """Var y_i = (2/pi) sum_j S_ij^2 x_j^2 + sqrt(2/pi) s_i^2, and E y is the output without noise.

    For E e^2 = E|z| = sqrt(2/pi), and the e are independent of each other with mean 0.
    """
    torch.manual_seed(0)
    layer = NoisyLinear(FEATURES, HIDDEN, 0.5)
    with torch.no_grad():
        layer.weight_sigma.copy_(torch.rand(HIDDEN, FEATURES) + 0.2)
        layer.bias_sigma.copy_(torch.rand(HIDDEN) + 0.2)
    x, g, count = torch.randn(1, FEATURES), torch.Generator().manual_seed(2), 20_000
    with torch.no_grad():
        outputs = torch.stack([layer(x, layer.draw(g))[0] for _ in range(count)]).double()
        mean = layer(x)[0].double()
    share = (layer.weight_sigma.double() ** 2 * x.double() ** 2).sum(-1)
    variance = (2 / math.pi * share + math.sqrt(2 / math.pi) * layer.bias_sigma.double() ** 2).detach()
    error = (outputs.mean(0) - mean) / (variance / count).sqrt()
    assert error.abs().max() < 3.5  # five standard normal numbers
    # Its kurtosis is below 6, so the deviation of the estimated variance is below sqrt(5 / 20,000) = 1.6 %; four.
    torch.testing.assert_close(outputs.var(0), variance, rtol=0.065, atol=0)
