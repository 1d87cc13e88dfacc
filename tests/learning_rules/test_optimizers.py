"""Optimisers by name: Adam as it is, and weight decay beside the gradient."""

import pytest
import torch

from agents.learning.learner import OPTIMIZERS


def parameters():
    torch.manual_seed(0)
    return [torch.randn(30, 7, requires_grad=True), torch.randn(5, requires_grad=True)]


def test_without_weight_decay_it_is_adam_to_the_bit():
    ours, plain = parameters(), parameters()
    options = {"lr": 1e-2, "eps": 3e-4}
    steps = OPTIMIZERS["adam"](ours, **options, weight_decay=0.0), torch.optim.Adam(plain, **options, fused=True)
    for _ in range(50):
        for left, right in zip(ours, plain, strict=True):
            left.grad = torch.randn_like(left)
            right.grad = left.grad.clone()
        for step in steps:
            step.step()
    assert all(torch.equal(left, right) for left, right in zip(ours, plain, strict=True))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weight_decay_shrinks_weights_and_leaves_the_gradient_alone(name):
    """Decoupled (Loshchilov & Hutter 2019): without a gradient, weights *= 1 - lr * weight_decay."""
    weights = parameters()
    before = [w.detach().clone() for w in weights]
    optimizer = OPTIMIZERS[name](weights, lr=0.1, eps=1e-8, weight_decay=0.5)
    for _ in range(3):
        for w in weights:
            w.grad = torch.zeros_like(w)
        optimizer.step()
    for w, start in zip(weights, before, strict=True):
        torch.testing.assert_close(w.detach(), start * 0.95**3, rtol=1e-6, atol=0.0)  # three roundings
