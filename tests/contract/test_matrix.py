"""Do head, target rule, output layer and replay fit, each with each? Eager; small, with masks, ends and cuts.

The whole matrix is for `-m slow`; each part stands at least twice in what runs without. Here is what may depend on how
parts meet; what is true of a head, a rule or a layer alone is in the other files.

Dimensions: B transitions or sequences, A actions, T steps of a sequence, F features.
"""

import copy
import itertools

import numpy as np
import pytest
import torch
from tiny_heads import TINY

from agents.learning.batch import SequenceBatch
from agents.learning.learner import TDLoss
from agents.learning.sequences import SequenceTDLoss
from agents.learning.targets import TARGET_RULES
from agents.networks.output_layers import OUTPUT_LAYERS
from agents.networks.qnetwork import QNetwork
from agents.networks.recurrent import RecurrentQNetwork, make_lstm
from agents.networks.torsos import MLP
from agents.replay import REPLAYS
from agents.replay.prioritized import PrioritizedReplay
from value_heads import HEADS, make_head
from value_heads.base import in_part

B, A, F, N, STEPS = 6, 3, 6, 2, 40
SEQUENCES = {"burn_in_steps": 1, "trace_steps": 3, "period_steps": 2, "state_size": 2 * F}
VARIANTS = {  # what is kept and how it is drawn
    "uniform": ("uniform", {}),
    "prioritized": ("prioritized", {}),
    "prioritized by loss": ("prioritized", {"priority": "loss"}),
    "sequences": ("sequences", SEQUENCES),
}
WHOLE = list(itertools.product(HEADS, TARGET_RULES, OUTPUT_LAYERS, VARIANTS))


def diagonal():
    """A few of all: every part is in as many of them as there are more of another kind."""
    kinds = [list(HEADS), list(TARGET_RULES), list(OUTPUT_LAYERS), list(VARIANTS)]
    longest = max(len(kind) for kind in kinds)
    starts = itertools.product(range(longest), (0, 1))
    return {tuple(kind[(i + shift * j) % len(kind)] for j, kind in enumerate(kinds)) for i, shift in starts}


FEW = diagonal()
matrix = pytest.mark.parametrize(
    ("head", "rule", "layer", "variant"),
    [case if case in FEW else pytest.param(*case, marks=pytest.mark.slow) for case in WHOLE],
)


def test_every_part_is_in_the_few():
    for position, kind in enumerate((HEADS, TARGET_RULES, OUTPUT_LAYERS, VARIANTS)):
        seen = [case[position] for case in FEW]
        assert all(seen.count(name) >= 2 for name in kind)
    assert {VARIANTS[case[3]][0] for case in FEW} == set(REPLAYS)


def filled(variant):
    """A replay of random steps of which one in ten ends its episode and one in ten is cut off."""
    name, options = VARIANTS[variant]
    replay = REPLAYS[name](100, N, (4,), torch.float32, num_actions=A, n_step=2, gamma=0.9, **options)
    rng = np.random.default_rng(0)

    def seen():
        mask = rng.random((N, A)) < 0.6
        mask[:, 1] |= ~mask.any(-1)
        return rng.normal(size=(N, 4)).astype(np.float32), mask

    obs, mask = seen()
    for _ in range(STEPS):
        action = np.where(mask, rng.random((N, A)), -1).argmax(-1)
        terminal, cut = rng.random((2, N)) < 0.1
        next_obs, next_mask = seen()
        replay.add(obs, action, rng.normal(size=N), terminal, terminal | cut, next_obs, next_mask, mask)
        fresh, fresh_mask = seen()
        done = (terminal | cut)[:, None]
        obs, mask = np.where(done, fresh, next_obs), np.where(done, fresh_mask, next_mask)
    return replay


def make_network(head, layer, variant, seed):
    torch.manual_seed(seed)

    def output_layer(*sizes):
        return OUTPUT_LAYERS[layer](*sizes, hidden=5)

    made = make_head(
        head, in_features=F, num_actions=A, support=(-4, 4), output_layer=output_layer, **TINY.get(head, {})
    )
    if variant == "sequences":
        return RecurrentQNetwork(MLP((4,), hidden=(5,)), make_lstm(5, A, F), made, A)
    return QNetwork(MLP((4,), hidden=(F,)), made)


def make_loss(head, rule, layer, variant):
    """With a target network whose parameters ask for gradients, so that only `no_grad` can keep them away."""
    networks = (make_network(head, layer, variant, seed) for seed in (0, 1))
    return (SequenceTDLoss if variant == "sequences" else TDLoss)(*networks, TARGET_RULES[rule])


def draws_for(head, size):
    """As `Learner.update` makes them."""
    g = torch.Generator().manual_seed(0)
    return [
        head.draw(size, g, bootstrap=False) or None,
        {**head.draw(size, g, bootstrap=True), **in_part("choice", head.noise(g))} or None,
    ]


def reordered(batch, order):
    """The same batch with its transitions, or its sequences, in another order."""
    if not isinstance(batch, SequenceBatch):
        return batch.take(order)
    by_sequence = ("state", "burnt_in", "weight")
    given = {k: v for k, v in batch._asdict().items() if v is not None}
    return batch._replace(**{k: v[order] if k in by_sequence else v[:, order] for k, v in given.items()})


@matrix
def test_parts_fit(head, rule, layer, variant):
    td_loss, replay = make_loss(head, rule, layer, variant), filled(variant)
    batch, indices = replay.sample(B)
    update = td_loss(batch, *draws_for(td_loss.online.head, batch.size))

    # Shapes, and what may carry a gradient.
    assert update.losses.shape == update.td_error.shape == update.prediction.mean().shape == (batch.size,)
    assert update.goal.values.shape == update.goal.probs.shape
    assert update.goal.values.shape[:-1] == (batch.size,)
    assert not any(x.requires_grad for x in (update.losses, update.td_error, update.prediction.outputs, *update.goal))
    update.loss.backward()
    gradients = [p.grad for p in td_loss.online.parameters()]
    assert all(g is not None and g.isfinite().all() for g in gradients)
    assert all(g.any() for g in gradients[-2:]), "the last layer learns"
    assert all(p.grad is None for p in td_loss.target.parameters())
    assert all(x.isfinite().all() for x in (update.loss, update.losses, *update.goal))

    # What it says of the batch is what the replay can take for priorities.
    if isinstance(replay, PrioritizedReplay):
        before = replay.tree.weights.clone()
        replay.update_priorities(indices, update.prediction.error(update.goal), update.losses)
        assert replay.tree.weights.isfinite().all()
        assert not torch.equal(replay.tree.weights, before)
        assert replay.sample(B)[0].weight.isfinite().all()

    # Another of the same kind with its state says the same, to the bit; without draws nothing is random.
    plain = td_loss(batch).losses
    other = make_loss(head, rule, layer, variant)
    for network, seed in ((other.online, 2), (other.target, 3)):
        network.load_state_dict(make_network(head, layer, variant, seed).state_dict())
    assert not torch.equal(other(batch).losses, plain)
    other.load_state_dict(copy.deepcopy(td_loss.state_dict()))
    assert torch.equal(other(batch).losses, plain)

    # No transition knows of another in its batch, up to the order of sums in matrix products.
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    places = torch.arange(batch.size).view(-1, B)[:, order].flatten()
    torch.testing.assert_close(td_loss(reordered(batch, order)).losses, plain[places], rtol=1e-4, atol=1e-5)
