"""Is an ensemble M networks that share a torso, and nothing else? Every head, target rule and output layer.

M members, B transitions, A actions, F features.
"""

import copy
import functools

import pytest
import torch
from tiny_heads import TINY

from agents.learning.batch import Batch
from agents.learning.learner import TDLoss
from agents.learning.regularizers import REGULARIZERS, TrainedRegularizer
from agents.learning.targets import TARGET_RULES
from agents.networks.output_layers import OUTPUT_LAYERS
from agents.networks.qnetwork import QNetwork
from agents.networks.torsos import MLP
from value_heads import HEADS, make_head
from value_heads.base import in_part, of_part
from value_heads.ensemble import EnsembleHead

M, B, A, F = 3, 6, 3, 6
KIND = ("mse", "hl_gauss", "c51", "quantile", "iqn")  # of heads: one of each
CASES = sorted(
    {(head, "munchausen", "noisy_dueling") for head in HEADS}
    | {(head, rule, "linear") for head in KIND for rule in TARGET_RULES}
    | {(head, "double_q_learning", layer) for head in KIND for layer in OUTPUT_LAYERS}
)
every_case = pytest.mark.parametrize(("head", "rule", "layer"), CASES)


def network(head, layer="linear", seed=0, members=M):
    torch.manual_seed(seed)
    output_layer = functools.partial(OUTPUT_LAYERS[layer], hidden=5)
    options = {"in_features": F, "num_actions": A, "support": (-4, 4), "output_layer": output_layer}
    return QNetwork(MLP((4,), hidden=(F,)), make_head(head, **options, **TINY.get(head, {}), members=members))


def make_batch(*, legal=True, mask=None):
    """One transition is terminal, one was cut off before its next action."""
    g = torch.Generator().manual_seed(0)
    masks = torch.tensor([[True, True, False], [True, False, False], [False, True, False]] * 2)
    return Batch(
        obs=torch.randn(B, 4, generator=g),
        action=torch.tensor([0, 0, 1, 1, 0, 1]),
        reward=torch.randn(B, generator=g),
        discount=torch.tensor([0.9, 0.0, 0.9, 0.81, 0.9, 0.9]),
        next_obs=torch.randn(B, 4, generator=g),
        weight=torch.rand(B, generator=g) + 0.5,
        next_action=torch.tensor([0, 0, -1, 1, 0, 1]),
        next_mask=masks if legal else None,
        mask=masks.roll(3, 0) if legal else None,
        bootstrap_mask=mask,
    )


def draws_for(head):
    """As `Learner.update` makes them."""
    g = torch.Generator().manual_seed(0)
    return [
        head.draw(B, g, bootstrap=False),
        {**head.draw(B, g, bootstrap=True), **in_part("choice", head.noise(g))},
    ]


def member_alone(ensemble, m):
    """The network that member `m` is, with weights of its own."""
    head = copy.deepcopy(ensemble.head.each)
    head.output = head.output.members[m]
    return QNetwork(copy.deepcopy(ensemble.torso), head)


def draws_alone(draws, m):
    """Of the random numbers of an ensemble those of member `m`."""
    alone = {**of_part(str(m), draws), **{f"choice.{k}": v for k, v in of_part(f"choice.{m}", draws).items()}}
    return alone | ({"taus": draws["taus"].unflatten(0, (M, B))[m]} if "taus" in draws else {})


close = functools.partial(torch.testing.assert_close, rtol=1e-10, atol=1e-12)  # float64 sums of some dozen terms


@every_case
def test_every_member_is_a_network_of_its_own(head, rule, layer, float64):
    """Losses, targets and the gradients of its layers are those of the member alone; the torso's is their mean."""
    online, target = network(head, layer), network(head, layer, seed=1)
    regularizers = {name: kind() for name, kind in REGULARIZERS.items() if not issubclass(kind, TrainedRegularizer)}
    mask = torch.tensor([[1, 0, 1], [1, 1, 1], [0, 0, 0], [0, 1, 1], [1, 1, 0], [1, 0, 0]]).bool()
    draws = draws_for(online.head)
    update = TDLoss(online, target, TARGET_RULES[rule], regularizers)(make_batch(mask=mask), *draws)
    update.loss.backward()
    losses, terms, torso = [], [], []
    for m in range(M):
        alone = member_alone(online, m)
        td_loss = TDLoss(alone, member_alone(target, m), TARGET_RULES[rule], regularizers)
        batch = make_batch()
        batch = batch._replace(weight=batch.weight * mask[:, m])
        expected = td_loss(batch, *(draws_alone(d, m) for d in draws))
        expected.loss.backward()
        close(update.goal.values[m], expected.goal.values)
        close(update.goal.probs[m], expected.goal.probs)
        close(update.prediction.by_member()[m], expected.prediction.mean())
        own, theirs = online.head.each.output.members[m], alone.head.output
        for (name, p), q in zip(own.named_parameters(), theirs.parameters(), strict=True):
            close(p.grad, q.grad, msg=name)
        losses.append(expected.losses)
        torso.append([p.grad for p in alone.torso.parameters()])
        terms.append(expected.terms)
    close(update.losses, torch.stack(losses).mean(0))
    for name, term in update.terms.items():
        close(term, torch.stack([each[name] for each in terms]).mean())
    for p, *each in zip(online.torso.parameters(), *torso, strict=True):
        close(p.grad, torch.stack(each).mean(0))


def test_a_gradient_stays_with_its_member():
    """The loss of member 1 reaches the layers of no other, and the torso."""
    for layer in OUTPUT_LAYERS:
        online = network("hl_gauss", layer)
        mask = torch.zeros(B, M, dtype=torch.bool)
        mask[:, 1] = True
        TDLoss(online, network("hl_gauss", layer, 1), TARGET_RULES["q_learning"])(
            make_batch(mask=mask), *draws_for(online.head)
        ).loss.backward()
        for m, member in enumerate(online.head.each.output.members):
            assert all(p.grad.any() == (m == 1) for p in member.parameters()), layer
        assert all(p.grad.any() for p in online.torso.parameters())


@every_case
def test_an_update(head, rule, layer):
    """Shapes, finite numbers, and no gradient into the target."""
    online, target = network(head, layer), network(head, layer, 1)
    update = TDLoss(online, target, TARGET_RULES[rule])(make_batch(), *draws_for(online.head))
    assert update.losses.shape == update.td_error.shape == update.prediction.mean().shape == (B,)
    assert update.goal.values.shape[:2] == (M, B)
    torch.testing.assert_close(update.prediction.loss(update.goal), update.losses, rtol=1e-6, atol=1e-6)
    error = update.prediction.error(update.goal)
    assert error.shape == (B,)
    assert (error >= update.td_error.abs() - 1e-5).all(), "a mean of absolute errors"
    assert not any(t.requires_grad for t in (update.losses, update.td_error, update.prediction.outputs, *update.goal))
    diagnostics = update.prediction.diagnostics(update.goal)
    torch.testing.assert_close(diagnostics["ensemble_std"], update.prediction.by_member().std(0).mean())
    assert all(value.isfinite() and value.shape == () for value in diagnostics.values())
    for shown in (update.prediction.distribution(), update.prediction.target_distribution(update.goal)):
        assert shown.values.shape == shown.probs.shape
        assert shown.values.shape[:-1] == (B,)
        torch.testing.assert_close(shown.probs.sum(-1), torch.ones(B))
    update.loss.backward()
    assert all(p.grad.isfinite().all() for p in online.parameters())
    assert all(p.grad is None for p in target.parameters())


@pytest.mark.parametrize("head", HEADS)
def test_what_acts(head):
    """The mean over members; members, selection, atoms and distribution go with it."""
    online, obs = network(head), torch.randn(B, 4)
    with torch.no_grad():
        values = online(obs)
        each = torch.stack([member_alone(online, m)(obs).mean() for m in range(M)])
    torch.testing.assert_close(values.by_member(), each, rtol=1e-5, atol=1e-6)  # batches of another size
    torch.testing.assert_close(values.mean(), each.mean(0), rtol=1e-5, atol=1e-6)
    action = torch.tensor([0, 2, 1, 1, 0, 2])
    assert torch.equal(values.select(action).mean(), values.mean().gather(1, action[:, None]).squeeze(1))
    assert torch.equal(values.atoms().mean(), values.mean())
    shown = values.distribution()
    assert (shown.probs >= 0).all()
    torch.testing.assert_close(shown.probs.sum(-1), torch.ones(B, A))
    if head != "bce":  # whose masses may be negative, and are shown without
        torch.testing.assert_close(shown.mean(), values.mean(), rtol=1e-4, atol=1e-4)
    assert torch.equal(values.each.by_member()[0], values.each.mean()), "a single head is the only member"


def test_bins_are_shown_as_bins():
    """The mixture of members whose bins are the same is one distribution over these."""
    values = network("hl_gauss")(torch.randn(B, 4))
    assert values.distribution().values.shape == (B, A, 7)
    assert network("mse")(torch.randn(B, 4)).distribution().values.shape == (B, A, M)


def test_members_start_apart_and_at_zero():
    head = network("hl_gauss").head
    first, second, third = (member.last.weight for member in head.each.output.members)
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)
    assert all(
        torch.equal(member.last.bias, head.each.output.members[0].last.bias) for member in head.each.output.members
    )


def test_one_member_is_no_ensemble():
    options = {"in_features": F, "num_actions": A, "support": (-4, 4)}
    assert not isinstance(make_head("mse", **options, members=1), EnsembleHead)
    for members in (0, -1):
        with pytest.raises(ValueError, match=f"members must be at least 1, got {members}"):
            make_head("mse", **options, members=members)


def test_the_torso_sees_an_observation_once():
    online, target = network("mse"), network("mse", seed=1)
    seen = []
    online.torso.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    TDLoss(online, target, TARGET_RULES["q_learning"])(make_batch())
    assert seen == [B]


@pytest.mark.parametrize("head", ["hl_gauss", pytest.param("iqn", marks=pytest.mark.slow)])
def test_compiled_is_eager(head):
    td_loss = TDLoss(network(head, "noisy_dueling"), network(head, "noisy_dueling", 1), TARGET_RULES["munchausen"])
    mask = torch.rand(B, M, generator=torch.Generator().manual_seed(2)) < 0.5
    batch, draws = make_batch(mask=mask), draws_for(td_loss.online.head)
    torch._dynamo.reset()
    results = []
    for function in (td_loss, torch.compile(td_loss, backend="aot_eager", fullgraph=True)):
        td_loss.zero_grad()
        update = function(batch, *draws)
        update.loss.backward()
        gradients = [p.grad.clone() for p in td_loss.online.parameters()]
        results.append([update.loss.detach(), update.losses, *update.goal, update.prediction.mean(), *gradients])
    for eager, compiled in zip(*results, strict=True):
        # The same kernels on the same numbers; decompositions of softmax and its like may round in another order.
        torch.testing.assert_close(compiled, eager, rtol=1e-5, atol=1e-6)
