"""Self-prediction (SPR) against its formula by loops in float64, its gradients, and its place in learner and state.

B batch, K steps, A actions, F features.
"""

import copy
import functools
import io

import numpy as np
import pytest
import torch
from tiny_heads import TINY
from torch.nn import functional

from agents.learning.batch import Batch
from agents.learning.learner import Learner, TDLoss
from agents.learning.regularizers import CQL, SelfPrediction
from agents.learning.targets import q_learning
from agents.networks.impala import ImpalaCNN
from agents.networks.output_layers import OUTPUT_LAYERS
from agents.networks.qnetwork import EnvSpec, QNetwork
from agents.networks.torsos import MLP
from value_heads import HEADS, make_head

B, K, A = 4, 3, 3
FLAT, IMAGE = (5,), (2, 12, 12)


def network(obs_shape=FLAT, head="mse", seed=0, layer=("linear", {"hidden": 6}), renormalize=False):
    torch.manual_seed(seed)
    torso = MLP(obs_shape, hidden=(7,)) if obs_shape == FLAT else ImpalaCNN(obs_shape, renormalize=renormalize)
    output_layer = functools.partial(OUTPUT_LAYERS[layer[0]], **layer[1])
    sizes = {"in_features": torso.out_features, "num_actions": A, "support": (-4, 4)}
    return QNetwork(torso, make_head(head, **sizes, output_layer=output_layer, **TINY.get(head, {})))


def make(net, seed=3, **options):
    torch.manual_seed(seed)
    term = SelfPrediction(**({"weight": 0.7, "steps": K} | options))
    term.build(net, EnvSpec(FLAT, "float32", A, has_action_mask=False))
    return term


def make_batch(obs_shape=FLAT, size=B, steps=K):
    g = torch.Generator().manual_seed(1)
    action = torch.randint(A, (size, steps), generator=g)
    mask = torch.ones(size, steps, dtype=torch.bool)
    mask[0, 2:], mask[1, :] = False, False
    return Batch(
        obs=torch.randn(size, *obs_shape, generator=g),
        action=action[:, 0],
        reward=torch.randn(size, generator=g),
        discount=torch.full((size,), 0.9),
        next_obs=torch.randn(size, *obs_shape, generator=g),
        weight=torch.rand(size, generator=g) + 0.5,
        future_obs=torch.randn(size, steps, *obs_shape, generator=g),
        future_action=action,
        future_mask=mask,
    )


def draws_of(net):
    generator = torch.Generator().manual_seed(2)
    return [net.head.draw(B, generator, bootstrap=bootstrap) or None for bootstrap in (False, True)]


def unit_range(x):
    return (x - x.min()) / (x.max() - x.min() + 1e-5)


def oracle(online, target, term, batch):
    """The definition, for one step of one row after the other; networks in float64."""
    online, target, term = (copy.deepcopy(module).double() for module in (online, target, term))
    total = 0.0
    for b in range(B):
        latent = unit_range(online.torso(batch.obs[b : b + 1].double())[0].detach().numpy())
        for k in range(K):
            action = int(batch.future_action[b, k])
            w1, b1, w2, b2 = (p.detach() for p in term.transition.parameters())
            if w1.dim() == 2:
                hidden = np.maximum(w1.numpy() @ np.concatenate([latent, np.eye(A)[action]]) + b1.numpy(), 0)
                after = np.maximum(w2.numpy() @ hidden + b2.numpy(), 0)
            else:
                maps = torch.from_numpy(latent).view(1, *online.torso.map_shape)
                planes = torch.zeros(1, A, *maps.shape[2:], dtype=torch.float64)
                planes[0, action] = 1.0
                hidden = functional.conv2d(torch.cat([maps, planes], 1), w1, b1, padding=1).relu()
                after = functional.conv2d(hidden, w2, b2, padding=1).relu().flatten().numpy()
            latent = unit_range(after)
            x = torch.from_numpy(latent)
            p = (term.predictor.weight @ online.head.output.project(x) + term.predictor.bias).detach().numpy()
            seen = target.torso(batch.future_obs[b, k : k + 1].double())[0].detach().numpy()
            q = target.head.output.project(torch.from_numpy(unit_range(seen))).detach().numpy()
            distance = p / np.linalg.norm(p) - q / np.linalg.norm(q)
            total += float(batch.weight[b] * batch.future_mask[b, k]) * (distance**2).sum()
    return term.weight * total / (B * K)


LAYERS = {
    "linear": ("linear", {"hidden": 6}),
    "no hidden layer": ("linear", {}),
    "dueling": ("dueling", {"hidden": 6}),
    "dueling, shared": ("dueling", {"hidden": 6, "shared_hidden": True}),
    "noisy": ("noisy_dueling", {"hidden": 6, "layer_norm": True}),
}


@pytest.mark.parametrize("layer", LAYERS)
def test_against_loops(layer):
    online, target = (network(seed=seed, layer=LAYERS[layer]) for seed in (0, 1))
    term, batch = make(online), make_batch()
    update = TDLoss(online, target, q_learning, {"it": term})(batch, *draws_of(online))
    assert update.terms["it"].item() == pytest.approx(oracle(online, target, term, batch), rel=1e-4)
    assert 0 < update.terms["it"].item() < 4 * 0.7 * 1.5


@pytest.mark.parametrize("renormalize", [False, True])
def test_maps_against_loops(renormalize):
    """Convolutions over the maps of the torso, its features in [0, 1] or not."""
    online, target = (network(IMAGE, seed=seed, renormalize=renormalize) for seed in (0, 1))
    term, batch = make(online), make_batch(IMAGE)
    update = TDLoss(online, target, q_learning, {"it": term})(batch)
    # The range of features that begin equal is small, and they are divided by it.
    assert update.terms["it"].item() == pytest.approx(oracle(online, target, term, batch), rel=2e-3)


@pytest.mark.parametrize("head", HEADS)
def test_any_head_may_be_beside_it(head):
    """The TD loss stays as it is to the bit, and the last layer learns from that alone."""
    online, target, batch = network(head=head), network(head=head, seed=1), make_batch()
    term = make(online)
    plain = TDLoss(online, target, q_learning)(batch, *draws_of(online))
    both = TDLoss(online, target, q_learning, {"it": term})(batch, *draws_of(online))
    assert torch.equal(plain.losses, both.losses)
    (both.loss - plain.loss).backward()
    assert all(p.grad is None for p in target.parameters())
    learning = [online.torso.layers[1].weight, online.head.output.hidden.weight, *term.parameters()]
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in learning)
    assert online.head.output.last.weight.grad.abs().max() < 1e-6  # a difference of equal gradients


def test_what_is_foreseen_costs_nothing():
    """A transition model that knows the future, and a predictor that changes nothing: cos = 1 at every step."""
    online = network()
    term, batch, step = make(online), make_batch(), iter(range(K))
    future = [online.torso(batch.future_obs[:, k]) for k in range(K)]
    term.transition.forward = lambda features, action: unit_rows(future[next(step)])
    term.predictor = torch.nn.Identity()
    update = TDLoss(online, online, q_learning, {"it": term})(batch)
    assert update.terms["it"].item() == pytest.approx(0, abs=1e-6)


def unit_rows(features):
    low, high = features.amin(1, keepdim=True), features.amax(1, keepdim=True)
    return (features - low) / (high - low + 1e-5)


def test_nothing_is_predicted_beyond_an_end():
    """Whatever is behind the end, the loss and its gradients are the same; where all is behind it, they are 0."""
    online = network()
    term, batch = make(online), make_batch()
    gradients = []
    for other in (batch.future_obs, torch.where(batch.future_mask.unsqueeze(-1), batch.future_obs, 1e3)):
        term.zero_grad()
        update = TDLoss(online, network(seed=1), q_learning, {"it": term})(batch._replace(future_obs=other))
        update.loss.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in term.parameters()]))
    assert torch.equal(*gradients)
    nothing = batch._replace(future_mask=torch.zeros(B, K, dtype=torch.bool))
    assert TDLoss(online, network(seed=1), q_learning, {"it": term})(nothing).terms["it"] == 0


def make_learner(seed=0, **options):
    online = network(head="iqn", seed=seed)
    term = make(online, seed=seed)
    return Learner(
        online, q_learning, regularizers={"cql": CQL(), "it": term}, lr=1e-3, adam_eps=1e-8, max_grad_norm=1.0,
        target_every_updates=1, target_tau=0.1, seed=seed, **options,
    )  # fmt: skip


def test_its_weights_are_trained_and_kept():
    """Through a file into a learner that began elsewhere: the next updates are equal to the bit."""
    straight, batch = make_learner(), make_batch()
    begun = {name: p.detach().clone() for name, p in straight.td_loss.trained.named_parameters()}
    for _ in range(2):
        straight.update(batch)
    trained = dict(straight.td_loss.trained.named_parameters())
    assert all(not torch.equal(trained[name], p) for name, p in begun.items())
    file = io.BytesIO()
    torch.save(straight.state_dict(), file)
    resumed = make_learner(seed=9)
    resumed.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    for _ in range(3):
        a, b = straight.update(batch), resumed.update(batch)
        assert torch.equal(a.terms["it"], b.terms["it"])
    for p, q in zip(straight.td_loss.parameters(), resumed.td_loss.parameters(), strict=True):
        assert torch.equal(p, q)


def test_it_learns_to_foresee():
    """Two states that every action leads to and fro between: the term falls to a tenth of the 2 of chance."""
    online = network(seed=4)
    learner = Learner(
        online, q_learning, regularizers={"it": make(online, weight=1.0)}, lr=3e-3, adam_eps=1e-8, max_grad_norm=None,
        target_every_updates=1, target_tau=0.05, seed=0,
    )  # fmt: skip
    state = torch.eye(5)[:2]
    batch = make_batch(size=2)._replace(
        obs=state, next_obs=state.flip(0), reward=torch.tensor([1.0, -1.0]), weight=torch.ones(2),
        future_obs=torch.stack([state.flip(0), state, state.flip(0)], 1),
        future_mask=torch.ones(2, K, dtype=torch.bool),
    )  # fmt: skip
    terms = [learner.update(batch).terms["it"].item() for _ in range(200)]
    assert terms[0] > 0.5
    assert np.mean(terms[-10:]) < 0.1 * terms[0]


def test_who_wants_no_future_gets_none():
    online = network()
    assert TDLoss(online, online, q_learning, {"cql": CQL()}).future_steps() == 0
    assert TDLoss(online, online, q_learning, {"it": make(online), "cql": CQL()}).future_steps() == K
