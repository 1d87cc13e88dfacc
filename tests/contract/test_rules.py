"""Does every target rule fit every head? Shapes, finite numbers, gradients, masks, one graph.

Dimensions: B transitions, A actions, F features.
"""

import copy

import pytest
import torch
from tiny_heads import TINY

from agents.learning.batch import Batch
from agents.learning.learner import TDLoss
from agents.learning.regularizers import REGULARIZERS, TrainedRegularizer
from agents.learning.targets import TARGET_RULES
from agents.networks.qnetwork import QNetwork
from agents.networks.torsos import MLP
from value_heads import HEADS, make_head

B, A, ILLEGAL = 6, 3, 2
every_pair = pytest.mark.parametrize(("head", "rule"), [(head, rule) for head in HEADS for rule in TARGET_RULES])


def network(head, seed=0):
    torch.manual_seed(seed)
    return QNetwork(
        MLP((4,), hidden=(6,)), make_head(head, in_features=6, num_actions=A, support=(-4, 4), **TINY.get(head, {}))
    )


def make_batch(*, masks=True):
    """One transition is terminal, one was cut off before its next action; ILLEGAL is never legal where masks are."""
    g = torch.Generator().manual_seed(0)
    mask = torch.tensor([[True, True, False], [True, False, False], [False, True, False]] * 2)
    return Batch(
        obs=torch.randn(B, 4, generator=g),
        action=torch.tensor([0, 0, 1, 1, 0, 1]),
        reward=torch.randn(B, generator=g),
        discount=torch.tensor([0.9, 0.0, 0.9, 0.81, 0.9, 0.9]),
        next_obs=torch.randn(B, 4, generator=g),
        weight=torch.rand(B, generator=g) + 0.5,
        next_action=torch.tensor([0, 0, -1, 1, 0, 1]),
        next_mask=mask if masks else None,
        mask=mask.roll(3, 0) if masks else None,
    )


def two_draws(head):
    generator = torch.Generator().manual_seed(0)
    return [head.draw(B, generator, bootstrap=bootstrap) or None for bootstrap in (False, True)]


def every_regularizer():
    return {name: kind() for name, kind in REGULARIZERS.items() if not issubclass(kind, TrainedRegularizer)}


@pytest.mark.parametrize("rule", TARGET_RULES)
def test_after_a_terminal_step_no_action_need_be_legal(rule):
    online, batch = network("hl_gauss"), make_batch()
    none, every = (batch.next_mask.clone() for _ in range(2))
    none[1], every[1] = False, True
    goals = [TARGET_RULES[rule](online, online, batch._replace(next_mask=mask), None) for mask in (none, every)]
    assert goals[0].values.isfinite().all()
    assert torch.equal(goals[0].mean(), goals[1].mean())


@every_pair
@pytest.mark.parametrize("masks", [False, True])
def test_an_update(head, rule, masks):
    """The target network's parameters ask for gradients here, so that only `no_grad` can keep them away."""
    online, target, batch = network(head), network(head, 1), make_batch(masks=masks)
    draws = two_draws(online.head)
    update = TDLoss(online, target, TARGET_RULES[rule])(batch, *draws)
    assert update.losses.shape == update.td_error.shape == (B,)
    assert update.goal.values.shape == update.goal.probs.shape
    assert update.goal.values.shape[:-1] == (B,)
    torch.testing.assert_close(update.goal.probs.sum(-1), torch.ones(B), rtol=1e-5, atol=0)
    assert all(t.isfinite().all() for t in (update.loss, update.losses, *update.goal))
    assert not any(t.requires_grad for t in (update.losses, update.td_error, update.prediction.outputs, *update.goal))
    # What is shown is what was computed: the target's mean less the prediction's, and the mean of the losses.
    predicted = online(batch.obs, draws[0]).mean()[torch.arange(B), batch.action]
    torch.testing.assert_close(update.td_error, update.goal.mean() - predicted.detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(update.loss.detach(), (batch.weight * update.losses).mean(), rtol=1e-6, atol=0)
    update.loss.backward()
    gradients = [p.grad for p in online.parameters()]
    assert all(g is not None and g.isfinite().all() for g in gradients)
    assert all(g.any() for g in gradients[-2:]), "the last layer learns"
    assert all(p.grad is None for p in target.parameters())


@every_pair
def test_an_illegal_action_changes_nothing(head, rule):
    """However good it looks to either network, in obs or in next_obs, to the target or to a regulariser."""
    batch, updates = make_batch(), []
    for tempting in (False, True):
        networks = network(head), network(head, 1)
        with torch.no_grad():
            for changed in networks:
                bias = changed.head.output.last.bias.view(A, -1)
                bias[ILLEGAL, -1] += 40 * tempting
                q_values = changed(torch.cat([batch.obs, batch.next_obs])).mean()
                assert not tempting or (q_values.argmax(-1) == ILLEGAL).all()
        td_loss = TDLoss(*networks, TARGET_RULES[rule], every_regularizer())
        updates.append(td_loss(batch, *two_draws(networks[0].head)))
    plain, tempted = updates
    # Zeros are added in other places of a sum over atoms.
    torch.testing.assert_close(tempted.goal.mean(), plain.goal.mean(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(tempted.losses, plain.losses, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(tempted.loss, plain.loss, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("rule", ["q_learning", "expected_sarsa", "munchausen"])
@pytest.mark.parametrize("head", ["mse", "hl_gauss", "c51", "quantile", "iqn"])
def test_without_the_mask_it_would_have(head, rule):
    """That the test above could fail: the same temptation where everything is legal."""
    goals = []
    for tempting in (False, True):
        online, target = network(head), network(head, 1)
        with torch.no_grad():
            target.head.output.last.bias.view(A, -1)[ILLEGAL, -1] += 40 * tempting
        goals.append(TDLoss(online, target, TARGET_RULES[rule])(make_batch(masks=False)).goal.mean())
    alive = make_batch().discount > 0
    assert ((goals[1] - goals[0]).abs() > 0.01)[alive].all()


FAST = sorted({(h, "munchausen") for h in HEADS} | {(h, r) for h in ("hl_gauss", "iqn") for r in TARGET_RULES})
SLOW = sorted({(head, rule) for head in HEADS for rule in TARGET_RULES} - set(FAST))
TEN = [(head, rule) for head in ("mse", "hl_gauss", "c51", "quantile", "iqn") for rule in ("q_learning", "munchausen")]


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # inductor's own, in torch 2.13
@pytest.mark.parametrize(("backend", "head", "rule"), [
    *[("aot_eager", *pair) for pair in FAST],
    *[pytest.param("aot_eager", *pair, marks=pytest.mark.slow) for pair in SLOW],
    *[pytest.param("inductor", *pair, marks=pytest.mark.slow) for pair in TEN],
])  # fmt: skip
def test_compiled_is_eager(backend, head, rule):
    """`fullgraph`: the loss, with its regularisers and outputs, is one graph and breaks nowhere."""
    td_loss = TDLoss(network(head), network(head, 1), TARGET_RULES[rule], every_regularizer())
    batch, draws = make_batch(), two_draws(td_loss.online.head)
    torch._dynamo.reset()
    compiled_loss = torch.compile(td_loss, backend=backend, fullgraph=True)
    results = []
    for function in (td_loss, compiled_loss):
        td_loss.zero_grad()
        update = function(batch, *draws)
        update.loss.backward()
        gradients = [p.grad.clone() for p in td_loss.online.parameters()]
        results.append([update.loss.detach(), update.losses, update.td_error, update.prediction.mean(), *update.goal])
        results[-1] += [*update.terms.values(), *gradients]
    for eager, compiled in zip(*results, strict=True):
        # The same kernels on the same numbers; decompositions of softmax and its like may round in another order.
        torch.testing.assert_close(compiled, eager, rtol=1e-5, atol=1e-6)


@every_pair
def test_a_rule_leaves_its_arguments_alone(head, rule):
    online, target, batch = network(head), network(head, 1), make_batch()
    before = copy.deepcopy((online.state_dict(), target.state_dict(), batch))
    with torch.no_grad():
        TARGET_RULES[rule](online, target, batch, two_draws(online.head)[1])
    for old, new in zip(before, (online.state_dict(), target.state_dict(), batch), strict=True):
        old, new = (x._asdict() if isinstance(x, Batch) else x for x in (old, new))
        assert all(new[name] is None if value is None else torch.equal(value, new[name]) for name, value in old.items())
