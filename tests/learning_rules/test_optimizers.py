"""Optimisers by name: Adam as it is, and weight decay beside the gradient."""

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


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_it_is_the_optimiser_of_torch_to_the_bit(name, weight_decay):
    """Over 50 steps, with a rate that changes, and with a state that goes through a dictionary."""
    ours, theirs = parameters(), parameters()
    options = {"lr": 1e-2, "eps": 3e-4, "weight_decay": weight_decay}
    optimizer, torchs = Optimizer(name, ours, **options), OF_TORCH[name](theirs, **options)
    for step in range(50):
        optimizer.lr = torchs.param_groups[0]["lr"] = 1e-2 / (1 + step)
        gradients = [torch.randn_like(w) for w in theirs]
        for weight, gradient in zip(theirs, gradients, strict=True):
            weight.grad = gradient.clone()
        optimizer.step(gradients)
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
        optimizer.step(gradients)
        adam.step()
    assert all(torch.equal(left, right) for left, right in zip(ours, plain, strict=True))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weight_decay_shrinks_weights_and_leaves_the_gradient_alone(name):
    """Decoupled (Loshchilov & Hutter 2019): without a gradient, weights *= 1 - lr * weight_decay."""
    weights = parameters()
    before = [w.detach().clone() for w in weights]
    optimizer = Optimizer(name, weights, lr=0.1, eps=1e-8, weight_decay=0.5)
    for _ in range(3):
        optimizer.step([torch.zeros_like(w) for w in weights])
    for w, start in zip(weights, before, strict=True):
        torch.testing.assert_close(w.detach(), start * 0.95**3, rtol=1e-6, atol=0.0)  # three roundings


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_reset_is_a_new_beginning(name):
    old, new = parameters(), parameters()
    options = {"lr": 1e-2, "eps": 1e-8}
    used, fresh = Optimizer(name, old, **options), Optimizer(name, new, **options)
    used.step([torch.randn_like(w) for w in old])
    used.reset()
    gradients = [torch.randn_like(w) for w in new]
    for weights in (old, new):
        for weight, start in zip(weights, parameters(), strict=True):
            weight.data.copy_(start)
    used.step(gradients)
    fresh.step(gradients)
    assert all(torch.equal(left, right) for left, right in zip(old, new, strict=True))


def test_a_state_of_other_weights_is_refused():
    optimizer = Optimizer("adam", parameters(), lr=0.1)
    with pytest.raises(ValueError, match="shorter"):
        optimizer.load_state_dict(Optimizer("adam", parameters()[:1], lr=0.1).state_dict())
