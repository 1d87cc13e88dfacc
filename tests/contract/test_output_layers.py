"""What every output layer promises to every head: all heads with the richest layer, two heads with every layer.

Dimensions: B batch, A actions, F features.
"""

import io

import pytest
import torch
from tiny_heads import TINY
from torch import nn

from agents.learning.batch import Batch
from agents.learning.learner import TDLoss
from agents.learning.targets import TARGET_RULES
from agents.networks.output_layers import OUTPUT_LAYERS
from agents.networks.qnetwork import QNetwork
from agents.networks.torsos import MLP
from value_heads import HEADS, make_head
from value_heads.base import in_part
from value_heads.categorical import CategoricalHead

BATCH, ACTIONS, FEATURES = 6, 3, 8
FULL = {"hidden": 5, "layer_norm": True}
LAYERS = {
    **{name: (name, {"hidden": 5}) for name in OUTPUT_LAYERS},
    **{f"{name} with layer norm": (name, FULL) for name in OUTPUT_LAYERS},
    "noisy without hidden layer": ("noisy", {}),
}
CASES = sorted(
    {(head, "noisy_dueling with layer norm") for head in HEADS}
    | {(head, layer) for head in ("hl_gauss", "iqn") for layer in LAYERS}
)
# A compilation takes a second: every kind of head, and every layer.
COMPILED = [case for case in CASES if case[0] in ("mse", "hl_gauss", "quantile", "iqn") and "norm" in case[1]]
every_case = pytest.mark.parametrize(("head", "layer"), CASES)


def build(head, layer, seed=0, support=(-10, 10)):
    torch.manual_seed(seed)
    name, options = LAYERS[layer]

    def output_layer(*sizes):
        return OUTPUT_LAYERS[name](*sizes, **options)

    sizes = {"in_features": FEATURES, "num_actions": ACTIONS, "support": support}
    return make_head(head, **sizes, output_layer=output_layer, **TINY.get(head, {}))


def draws_for(head, seed=0):
    """As `Learner.update` makes them: of the prediction, and of the target with noise for the choice of an action."""
    g = torch.Generator().manual_seed(seed)
    draws = head.draw(BATCH, g, bootstrap=False)
    return draws, {**head.draw(BATCH, g, bootstrap=True), **in_part("choice", head.noise(g))}


def transitions(seed=0):
    g = torch.Generator().manual_seed(seed)
    return Batch(
        obs=torch.randn(BATCH, FEATURES, generator=g),
        action=torch.randint(ACTIONS, (BATCH,), generator=g),
        reward=torch.randn(BATCH, generator=g),
        discount=torch.full((BATCH,), 0.9),
        next_obs=torch.randn(BATCH, FEATURES, generator=g),
        weight=torch.ones(BATCH),
    )


def td_loss(head, layer):
    """Double Q-learning with two different networks that have no torso."""
    networks = [QNetwork(MLP((FEATURES,), hidden=()), build(head, layer, seed)) for seed in (0, 1)]
    return TDLoss(*networks, TARGET_RULES["double_q_learning"])


def in_order(draws, order):
    """What belongs to rows of a batch moves with them; noise belongs to the whole batch."""
    return {name: value[order] if name == "taus" else value for name, value in draws.items()}


@every_case
def test_shapes(head, layer):
    built, obs = build(head, layer), transitions().obs
    for draws in (None, {}, built.noise(torch.Generator()), *draws_for(built)):
        values = built(obs, draws)
        assert values.outputs.shape[:2] == values.mean().shape == (BATCH, ACTIONS)
    rows = torch.randn(2, 4, FEATURES)
    assert built.output(rows).shape == (2, 4, ACTIONS, values.outputs.shape[-1] if head != "iqn" else 1)


@every_case
def test_every_weight_learns(head, layer):
    """Finite gradients, and none that noise leaves untouched."""
    loss = td_loss(head, layer)
    loss(transitions(), *draws_for(loss.online.head)).loss.backward()
    for name, p in loss.online.named_parameters():
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
        assert p.grad.any(), name


@every_case
def test_without_draws_it_is_deterministic_and_nothing_is_ever_drawn_from_torch(head, layer):
    built, obs = build(head, layer), transitions().obs
    state = torch.get_rng_state()
    first = built(obs).mean()
    assert torch.equal(first, built(obs).mean())
    noisy = [built(obs, built.noise(torch.Generator().manual_seed(seed))).mean() for seed in (1, 1, 2)]
    assert torch.equal(noisy[0], noisy[1])
    assert torch.equal(noisy[0], noisy[2]) == torch.equal(noisy[0], first) == ("noisy" not in layer)
    assert torch.equal(state, torch.get_rng_state())


@every_case
def test_state_dict_round_trip(head, layer):
    first, second = build(head, layer), build(head, layer, seed=1)
    obs, draws = transitions().obs, draws_for(first)[0]
    assert not torch.equal(first(obs, draws).outputs, second(obs, draws).outputs)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    second.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    assert torch.equal(first(obs, draws).outputs, second(obs, draws).outputs)
    assert set(first.state_dict()) == {name for name, _ in first.named_parameters()}


@every_case
def test_the_order_of_a_batch_does_not_matter(head, layer):
    loss, batch = td_loss(head, layer), transitions()
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    draws = draws_for(loss.online.head)
    straight = loss(batch, *draws).losses
    moved = Batch(*(None if t is None else t[order] for t in batch))
    permuted = loss(moved, *(in_order(d, order) for d in draws)).losses
    # float32 sums of up to 51 bins times returns of up to 10, in an order that may differ.
    torch.testing.assert_close(permuted, straight[order], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("head", "layer"), COMPILED)
def test_compiled_equals_eager(head, layer):
    """One graph without breaks, and the same losses and gradients."""
    loss, batch = td_loss(head, layer), transitions()
    draws = draws_for(loss.online.head)
    torch._dynamo.reset()
    results = []
    for function in (loss, torch.compile(loss, backend="aot_eager", fullgraph=True)):
        loss.zero_grad()
        update = function(batch, *draws)
        update.loss.backward()
        results.append([update.losses, *update.goal, *(p.grad.clone() for p in loss.online.parameters())])
    for eager, compiled in zip(*results, strict=True):
        # The same kernels on the same numbers; decompositions of softmax and its like may round in another order.
        torch.testing.assert_close(compiled, eager, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("head", [name for name, recipe in HEADS.items() if issubclass(recipe.build, CategoricalHead)])
def test_every_action_starts_at_zero(head, layer):
    """Where the support is not centred on it; the last weights, which are random, put to zero."""
    built = build(head, layer, support=(-2, 10))
    streams = [module for module in built.modules() if isinstance(getattr(module, "last", None), nn.Module)]
    with torch.no_grad():
        for stream in streams:
            stream.last.weight.zero_()
    q = built(torch.randn(BATCH, FEATURES)).mean()
    torch.testing.assert_close(q, torch.zeros(BATCH, ACTIONS), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", OUTPUT_LAYERS)
def test_a_norm_without_a_hidden_layer_is_refused(name):
    with pytest.raises(ValueError, match="hidden is 0: give both"):
        OUTPUT_LAYERS[name](FEATURES, ACTIONS, 1, hidden=0, layer_norm=True)


@pytest.mark.parametrize("name", ["noisy", "noisy_dueling"])
def test_a_negative_deviation_is_refused(name):
    with pytest.raises(ValueError, match=r"sigma must not be negative, got -0\.5"):
        OUTPUT_LAYERS[name](FEATURES, ACTIONS, 1, hidden=4, sigma=-0.5)
