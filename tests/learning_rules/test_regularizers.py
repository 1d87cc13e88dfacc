"""Regularisers against loops in float64, their gradients by hand, and their way into the loss.

Dimensions: B transitions, A actions, F features.
"""

import math

import pytest
import torch
from tiny_heads import TINY
from torch.nn.utils import parameters_to_vector

from agents.learning.batch import Batch
from agents.learning.learner import Learner, TDLoss
from agents.learning.regularizers import CQL, DR3, SelfPrediction
from agents.learning.targets import q_learning
from agents.networks.qnetwork import QNetwork
from agents.networks.torsos import MLP
from value_heads import HEADS, make_head

B, A, F = 5, 3, 6
MASK = [[True, True, True], [True, True, False], [False, True, True], [True, False, False], [True, True, True]]
ACTION = [2, 1, 1, 0, 0]
every_head = pytest.mark.parametrize("head", HEADS)


def network(head="mse", seed=0, hidden=(F,)):
    torch.manual_seed(seed)
    torso = MLP((4,), hidden=hidden)
    head = make_head(head, in_features=torso.out_features, num_actions=A, support=(-4, 4), **TINY.get(head, {}))
    return QNetwork(torso, head)


def make_batch(masks=True):
    g = torch.Generator().manual_seed(1)
    return Batch(
        obs=torch.randn(B, 4, generator=g),
        action=torch.tensor(ACTION),
        reward=torch.randn(B, generator=g),
        discount=torch.tensor([0.9, 0.9, 0.0, 0.9, 0.9]),
        next_obs=torch.randn(B, 4, generator=g),
        weight=torch.rand(B, generator=g) + 0.5,
        next_mask=torch.tensor(MASK) if masks else None,
        mask=torch.tensor(MASK) if masks else None,
    )


def draws_of(net):
    generator = torch.Generator().manual_seed(2)
    return [net.head.draw(B, generator, bootstrap=bootstrap) or None for bootstrap in (False, True)]


@every_head
@pytest.mark.parametrize("masks", [False, True])
def test_cql(head, masks):
    """The mean over the batch, not weighted, on Q as the fractions drawn for the prediction give it."""
    net, batch = network(head), make_batch(masks)
    draws = draws_of(net)
    update = TDLoss(net, network(head, 1), q_learning, {"cql": CQL(alpha=0.3)})(batch, *draws)
    q_values = net(batch.obs, draws[0]).mean().detach().double().tolist()
    total = 0.0
    for b, row in enumerate(q_values):
        legal = [q for q, ok in zip(row, MASK[b], strict=True) if ok or not masks]
        total += math.log(sum(math.exp(q) for q in legal)) - row[ACTION[b]]
    assert update.terms["cql"].item() == pytest.approx(0.3 * total / B, rel=1e-5)
    assert total > 0


def test_the_gradient_of_cql():
    """alpha / B * (softmax over legal actions - 1 at the action taken), by Q itself."""
    net, batch = network("mse", hidden=()), make_batch()
    update = TDLoss(net, network("mse", 1, ()), q_learning, {"cql": CQL(alpha=0.5)})(
        batch._replace(weight=torch.zeros(B))
    )
    update.loss.backward()
    expected = torch.zeros(A, 4, dtype=torch.float64)
    for b, row in enumerate(net(batch.obs).mean().detach().double().tolist()):
        masses = [math.exp(q) if ok else 0.0 for q, ok in zip(row, MASK[b], strict=True)]
        for a in range(A):
            slope = 0.5 / B * (masses[a] / sum(masses) - (a == ACTION[b]))
            expected[a] += slope * batch.obs[b].double()
    torch.testing.assert_close(net.head.output.last.weight.grad.double(), expected, rtol=1e-5, atol=1e-7)


@every_head
def test_dr3(head):
    net, batch = network(head), make_batch()
    update = TDLoss(net, network(head, 1), q_learning, {"dr3": DR3(coefficient=0.7)})(batch, *draws_of(net))
    phi, next_phi = (net.torso(obs).detach().double().tolist() for obs in (batch.obs, batch.next_obs))
    total = sum(abs(sum(x * y for x, y in zip(phi[b], next_phi[b], strict=True))) for b in range(B))
    assert update.terms["dr3"].item() == pytest.approx(0.7 * total / B, rel=1e-5)
    assert total > 0


def test_the_gradient_of_dr3_goes_through_both_features():
    """phi = W x without ReLU: d |phi . phi'| / dW = sign * (phi' x^T + phi x'^T)."""
    net, batch = network("mse"), make_batch()
    batch = batch._replace(next_obs=torch.cat([-3 * batch.obs[:2], 2 * batch.obs[2:]]) + 0.1 * batch.next_obs)
    net.torso.layers = net.torso.layers[:2]
    td_loss = TDLoss(net, network("mse", 1), q_learning, {"dr3": DR3(coefficient=0.7)})
    td_loss(batch._replace(weight=torch.zeros(B))).loss.backward()
    layer = net.torso.layers[1]
    weight, bias = layer.weight.detach().double(), layer.bias.detach().double()
    expected, signs = torch.zeros_like(weight), set()
    for x, next_x in zip(batch.obs.double(), batch.next_obs.double(), strict=True):
        phi, next_phi = weight @ x + bias, weight @ next_x + bias
        sign = math.copysign(1, float(phi @ next_phi))
        signs.add(sign)
        expected += 0.7 / B * sign * (torch.outer(next_phi, x) + torch.outer(phi, next_x))
    assert signs == {-1.0, 1.0}, "the absolute value is tested on both sides"
    torch.testing.assert_close(layer.weight.grad.double(), expected, rtol=1e-5, atol=1e-6)
    assert not net.head.output.last.weight.grad.any(), "the value's own layer is not touched"


@every_head
def test_terms_are_added_to_an_unchanged_td_loss(head):
    """Equal to the bit beside them, and the loss is the sum of what is shown."""
    net, target, batch = network(head), network(head, 1), make_batch()
    draws = draws_of(net)
    plain = TDLoss(net, target, q_learning)(batch, *draws)
    both = TDLoss(net, target, q_learning, {"cql": CQL(), "dr3": DR3()})(batch, *draws)
    assert list(plain.terms) == ["td_loss"]
    assert list(both.terms) == ["td_loss", "cql", "dr3"]
    assert torch.equal(plain.loss, plain.terms["td_loss"])
    assert torch.equal(both.terms["td_loss"], plain.terms["td_loss"])
    assert torch.equal(both.losses, plain.losses)
    assert both.loss.item() == pytest.approx(sum(term.item() for term in both.terms.values()), rel=1e-6)
    assert all(term.shape == () and not term.requires_grad for term in both.terms.values())


@pytest.mark.parametrize(("regularizers", "calls"), [({}, 1), ({"cql": CQL()}, 1), ({"dr3": DR3()}, 2)])
def test_next_features_are_made_only_for_who_wants_them(regularizers, calls):
    net, seen = network(), []
    net.torso.register_forward_hook(lambda *_: seen.append(1))
    TDLoss(net, network("mse", 1), q_learning, regularizers)(make_batch())
    assert len(seen) == calls


@pytest.mark.parametrize("regularizer", [CQL(alpha=0.0), DR3(coefficient=0.0)])
def test_a_weight_of_0_changes_no_update(regularizer):
    learners = []
    for regularizers in ({}, {"it": regularizer}):
        learner = Learner(
            network("hl_gauss"), q_learning, regularizers=regularizers, lr=0.01, adam_eps=1e-8, max_grad_norm=None,
            target_every_updates=2, target_tau=1.0, seed=0,
        )  # fmt: skip
        for _ in range(3):
            learner.update(make_batch())
        learners.append(parameters_to_vector(learner.online.parameters()))
    assert torch.equal(*learners)


@every_head
def test_cql_keeps_values_of_actions_that_are_not_in_the_data_below(head):
    """All transitions have action 0 and are worth the same: without CQL the other actions are left where they are."""
    gaps = {}
    for name, regularizers in {"plain": {}, "cql": {"cql": CQL(alpha=1.0)}}.items():
        learner = Learner(
            network(head), q_learning, regularizers=regularizers, lr=0.01, adam_eps=1e-8, max_grad_norm=None,
            target_every_updates=1, target_tau=1.0, seed=0,
        )  # fmt: skip
        batch = make_batch(masks=False)._replace(action=torch.zeros(B, dtype=torch.int64), discount=torch.zeros(B))
        for _ in range(40):
            update = learner.update(batch)
        q_values = learner.online(batch.obs).mean().detach()
        gaps[name] = (q_values[:, 0] - q_values[:, 1:].amax(-1)).mean().item()
        assert update.loss.isfinite()
    assert gaps["cql"] > gaps["plain"] + 0.1


@pytest.mark.parametrize(("make", "message"), [
    (lambda: CQL(alpha=-0.1), "alpha must not be negative, got -0.1"),
    (lambda: SelfPrediction(weight=-1.0), "weight must not be negative, got -1.0"),
    (lambda: SelfPrediction(steps=0), "steps must be at least 1, got 0"),
    (lambda: DR3(coefficient=-1.0), "coefficient must not be negative, got -1.0"),
])  # fmt: skip
def test_weights_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()
