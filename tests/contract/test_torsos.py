"""What every torso promises, run over the registry in a tiny configuration of each."""

import functools
import io

import pytest
import torch

from agents.networks.torsos import TORSOS

ATARI_LIKE = (2, 36, 37)
CASES = {
    "mlp": ("mlp", (2, 3), {"hidden": (5,)}),
    "cnn": ("cnn", (6, 5, 2), {"channels": (3,)}),
    "cnn pqn": ("cnn", (6, 5, 2), {"channels": (3,), "layer_norm": True}),
    "nature": ("nature", ATARI_LIKE, {}),
    "nature same": ("nature", (2, 9, 9), {"padding": "same"}),
    "nature pqn": ("nature", ATARI_LIKE, {"layer_norm": True}),
    "impala": ("impala", (2, 10, 9), {}),
    "impala btr": ("impala", (1, 41, 41), {"spectral_norm": True, "pool": "max6"}),
    "impala average": ("impala", (1, 10, 10), {"pool": "average"}),
    "hadamax": ("hadamax", (2, 10, 9), {}),
    "soft_moe": ("soft_moe", (2, 20, 20), {"num_experts": 2, "hidden": 4}),
    "soft_moe nature": ("soft_moe", (2, 20, 20), {"encoder": "nature", "num_experts": 8, "hidden": 4}),
    "resnet": ("resnet", (1, 5, 5), {}),
}
every_case = pytest.mark.parametrize("case", CASES)
IMAGES = sorted(set(TORSOS) - {"mlp", "cnn"})


@functools.cache
def built(case):
    """One for all tests that change nothing in it."""
    return build(case)


def build(case, seed=0):
    name, shape, options = CASES[case]
    torch.manual_seed(seed)
    return TORSOS[name](shape, **options)


def observations(case, batch=3):
    return torch.rand(batch, *CASES[case][1], generator=torch.Generator().manual_seed(0))


def test_every_torso_is_here():
    assert {name for name, *_ in CASES.values()} == set(TORSOS)


@every_case
def test_features(case):
    torso = built(case)
    for batch in (1, 3):
        assert torso(observations(case, batch)).shape == (batch, torso.out_features)


@every_case
def test_gradients_are_finite_and_every_weight_has_one(case):
    torso = built(case)
    torso.zero_grad()
    features = torso(observations(case))
    (features * torch.randn(features.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
    for name, p in torso.named_parameters():
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
    assert sum(bool(p.grad.any()) for p in torso.parameters()) >= 2


@every_case
def test_rows_do_not_see_each_other(case):
    torso, obs = built(case), observations(case)
    order = torch.tensor([2, 0, 1])
    # float32 sums, in an order that may depend on the batch.
    torch.testing.assert_close(torso(obs[order]), torso(obs)[order], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(torso(obs[:1]), torso(obs)[:1], atol=1e-5, rtol=1e-4)


@every_case
def test_a_forward_pass_changes_and_draws_nothing(case):
    torso, obs = built(case), observations(case)
    before = {name: value.clone() for name, value in torso.state_dict().items()}
    state = torch.get_rng_state()
    first = torso(obs)
    assert torch.equal(first, torso(obs))
    assert torch.equal(first, torso.eval()(obs))  # nothing depends on a mode that nobody sets
    torso.train()
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in torso.state_dict().items())


@every_case
def test_state_dict_round_trip(case):
    first, second, obs = built(case), build(case, seed=1), observations(case)
    assert not torch.equal(first(obs), second(obs))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    second.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    assert torch.equal(first(obs), second(obs))


@pytest.mark.parametrize("case", ["nature pqn", "impala btr", "hadamax", "soft_moe"])
def test_compiled_equals_eager(case):
    torso, obs = built(case), observations(case)
    torch._dynamo.reset()
    compiled = torch.compile(torso, backend="aot_eager", fullgraph=True)(obs)
    torch.testing.assert_close(compiled, torso(obs), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("shape", [(4,), (84, 84), (4, 4, 84, 84), (96, 96, 3)])
def test_what_is_no_image_is_refused(name, shape):
    asked = "impala" if name == "soft_moe" else name
    with pytest.raises(ValueError, match=rf"torso '{asked}' wants images \[C, H, W\].*got observations"):
        TORSOS[name](shape)


REFUSED = [
    ("nature", {"padding": "full"}, "padding is 'full', wanted"),
    ("impala", {"width": 0}, "width must be at least 1, got 0"),
    ("impala", {"pool": "max"}, "pool is 'max', wanted one of 'none', 'max6', 'max8', 'average'"),
    ("soft_moe", {"encoder": "mlp"}, "encoder is 'mlp', wanted"),
    ("soft_moe", {"num_experts": 0}, "at least 1, got 0 and 512"),
    ("soft_moe", {"hidden": 0}, "at least 1, got 4 and 0"),
    ("resnet", {"depth": 101}, "depth is 101, wanted one of 18, 34, 50"),
    ("resnet", {"pool": "max"}, "pool is 'max', wanted"),
]


@pytest.mark.parametrize(("name", "options", "message"), REFUSED)
def test_refused_options(name, options, message):
    with pytest.raises(ValueError, match=message):
        TORSOS[name]((4, 84, 84), **options)


@pytest.mark.parametrize(("pool", "size", "pixels"), [("max6", 41, 6), ("max8", 57, 8)])
def test_too_small_for_a_pooling(pool, size, pixels):
    with pytest.raises(ValueError, match=f"too small for pool '{pool}', which wants {size}x{size}"):
        TORSOS["impala"]((4, 84, size - 1), pool=pool)
    assert TORSOS["impala"]((4, size, size), pool=pool).layers(torch.zeros(1, 4, size, size)).shape[-1] == pixels
