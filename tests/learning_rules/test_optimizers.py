"""Optimisers by name: Adam as it is, and weight decay beside the gradient."""

import copy
import functools

import pytest
import torch

from agents.learning.optimizers import OPTIMIZERS, Optimizer


def parameters():
    torch.manual_seed(0)
    return [torch.randn(30, 7, requires_grad=True), torch.randn(5, requires_grad=True)]


OF_TORCH = {
    "adam": functools.partial(torch.optim.AdamW, fused=True),
    "radam": functools.partial(torch.optim.RAdam, decoupled_weight_decay=True, foreach=True),
}


@pytest.mark.parametrize("in_one_piece", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_it_is_the_optimiser_of_torch_to_the_bit(name, weight_decay, in_one_piece):
    """Over 50 steps, with a rate that changes, and with a state that goes through a dictionary."""
    ours, theirs = parameters(), parameters()
    options = {"lr": 1e-2, "eps": 3e-4, "weight_decay": weight_decay}
    torchs = OF_TORCH[name](theirs, **options)
    options["in_one_piece"] = in_one_piece
    optimizer = Optimizer(name, ours, **options)
    for step in range(50):
        optimizer.lr = torchs.param_groups[0]["lr"] = 1e-2 / (1 + step)
        gradients = [torch.randn_like(w) for w in theirs]
        for weight, gradient in zip(theirs, gradients, strict=True):
            weight.grad = gradient.clone()
        optimizer.step(optimizer.as_stepped(gradients))
        torchs.step()
        if step == 20:
            state, optimizer = optimizer.state_dict(), Optimizer(name, ours, **options)
            optimizer.load_state_dict(state)
    assert all(torch.equal(left, right) for left, right in zip(ours, theirs, strict=True))


def test_without_weight_decay_it_is_adam_to_the_bit():
    ours, plain = parameters(), parameters()
    options = {"lr": 1e-2, "eps": 3e-4}
    optimizer, adam = Optimizer("adam", ours, **options), torch.optim.Adam(plain, **options, fused=True)
    for _ in range(50):
        gradients = [torch.randn_like(w) for w in plain]
        for weight, gradient in zip(plain, gradients, strict=True):
            weight.grad = gradient.clone()
        optimizer.step(optimizer.as_stepped(gradients))
        adam.step()
    assert all(torch.equal(left, right) for left, right in zip(ours, plain, strict=True))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weight_decay_shrinks_weights_and_leaves_the_gradient_alone(name):
    """Decoupled (Loshchilov & Hutter 2019): without a gradient, weights *= 1 - lr * weight_decay."""
    weights = parameters()
    before = [w.detach().clone() for w in weights]
    optimizer = Optimizer(name, weights, lr=0.1, eps=1e-8, weight_decay=0.5)
    for _ in range(3):
        optimizer.step(optimizer.as_stepped([torch.zeros_like(w) for w in weights]))
    for w, start in zip(weights, before, strict=True):
        torch.testing.assert_close(w.detach(), start * 0.95**3, rtol=1e-6, atol=0.0)  # three roundings


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_reset_is_a_new_beginning(name):
    old, new = parameters(), parameters()
    options = {"lr": 1e-2, "eps": 1e-8}
    used, fresh = Optimizer(name, old, **options), Optimizer(name, new, **options)
    used.step(used.as_stepped([torch.randn_like(w) for w in old]))
    used.reset()
    gradients = [torch.randn_like(w) for w in new]
    for weights in (old, new):
        for weight, start in zip(weights, parameters(), strict=True):
            weight.data.copy_(start)
    used.step(used.as_stepped(gradients))
    fresh.step(fresh.as_stepped(gradients))
    assert all(torch.equal(left, right) for left, right in zip(old, new, strict=True))


def test_a_state_of_other_weights_is_refused():
    optimizer = Optimizer("adam", parameters(), lr=0.1)
    with pytest.raises(ValueError, match="shorter"):
        optimizer.load_state_dict(Optimizer("adam", parameters()[:1], lr=0.1).state_dict())


def test_in_one_piece_parameters_lie_one_after_the_other():
    """And stay the same tensors with the same numbers, in which an optimiser and whoever uses them meet."""
    weights, before = parameters(), parameters()
    optimizer = Optimizer("adam", weights, lr=0.1)
    assert all(torch.equal(now, then) for now, then in zip(weights, before, strict=True))
    first, second = weights
    assert second.data_ptr() == first.data_ptr() + 4 * first.numel()
    assert all(now is mine for now, mine in zip(weights, optimizer.parameters, strict=True))
    optimizer.step(optimizer.as_stepped([torch.ones_like(w) for w in weights]))
    assert all(not torch.equal(now, then) for now, then in zip(weights, before, strict=True))


@pytest.mark.parametrize(
    "weights",
    [
        [torch.zeros(300, 300)],
        [torch.zeros(3, 4, 5, 5).to(memory_format=torch.channels_last), torch.zeros(2)],
        [torch.zeros(3, dtype=torch.float64)],
    ],
    ids=["many", "in another order", "of another type"],
)
def test_those_that_are_many_or_lie_otherwise_stay_where_they_are(weights):
    places = [w.data_ptr() for w in weights]
    optimizer = Optimizer("adam", weights, lr=0.1)
    assert not optimizer.in_one_piece
    assert [w.data_ptr() for w in weights] == places


def test_a_copy_steps_the_copies_of_its_parameters():
    holder = [torch.nn.Linear(3, 2), None]
    holder[1] = Optimizer("adam", holder[0].parameters(), lr=0.1)
    layer, optimizer = copy.deepcopy(holder)
    before = holder[0].weight.detach().clone()
    optimizer.step(optimizer.as_stepped([torch.ones_like(p) for p in layer.parameters()]))
    assert torch.equal(holder[0].weight, before)
    torch.testing.assert_close(layer.weight, before - 0.1)
