"""One update: what it changes, by how much, and that nothing but its state decides it."""

import copy
import io

import numpy as np
import pytest
import torch
from tiny_heads import TINY

from agents.learning.batch import Batch
from agents.learning.learner import Learner
from agents.learning.targets import TARGET_RULES
from agents.networks.qnetwork import QNetwork
from agents.networks.torsos import MLP
from agents.normalization import ObservationNormalizer
from value_heads import HEADS, make_head


def make_learner(head="mse", *, seed=0, rule="double_q_learning", normalize=False, hidden=(6,), **options):
    torch.manual_seed(seed)
    torso = MLP((3,), hidden=hidden)
    head = make_head(head, in_features=torso.out_features, num_actions=2, support=(-4, 4), **TINY.get(head, {}))
    online = QNetwork(torso, head, ObservationNormalizer((3,)) if normalize else None)
    defaults = {"lr": 0.01, "adam_eps": 1e-8, "max_grad_norm": None, "target_every_updates": 3, "target_tau": 1.0}
    return Learner(online, TARGET_RULES[rule], **(defaults | options), seed=seed)


def make_batch(seed=0, size=8):
    g = torch.Generator().manual_seed(seed)
    return Batch(
        obs=torch.randn(size, 3, generator=g),
        action=torch.randint(2, (size,), generator=g),
        reward=torch.randn(size, generator=g),
        discount=0.9 * (torch.rand(size, generator=g) > 0.3).float(),
        next_obs=torch.randn(size, 3, generator=g),
        weight=torch.rand(size, generator=g) + 0.5,
        next_action=torch.randint(-1, 2, (size,), generator=g),
        next_mask=torch.stack([torch.rand(size, generator=g) < 0.5, torch.ones(size, dtype=torch.bool)], 1),
    )


def values(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_the_first_step_by_hand():
    """A linear network and the squared error; Adam's first step is -lr g / (|g| + eps), with g in numpy."""
    learner = make_learner("mse", hidden=(), rule="q_learning", adam_eps=1e-3, max_grad_norm=1e9)
    batch = make_batch()
    x, w = batch.obs.double().numpy(), batch.weight.double().numpy()
    layer = learner.online.head.output.last
    weight, bias = layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()
    following = np.where(batch.next_mask.numpy(), batch.next_obs.double().numpy() @ weight.T + bias, -np.inf).max(1)
    y = batch.reward.numpy() + batch.discount.numpy() * following
    action = batch.action.numpy()
    error = (x @ weight.T + bias)[np.arange(8), action] - y
    slope = np.zeros((8, 2))
    slope[np.arange(8), action] = 2 * w * error / 8
    gradients = [slope.T @ x, slope.sum(0)]

    update = learner.update(batch)

    # float32 against float64, sums of eight terms.
    assert update.loss.item() == pytest.approx((w * error**2).mean(), rel=1e-5)
    np.testing.assert_allclose(update.td_error.numpy(), -error, rtol=1e-4, atol=1e-5)
    norm = np.sqrt(sum((g**2).sum() for g in gradients))
    assert learner.grad_norm() == pytest.approx(norm, rel=1e-5)
    for new, old, g in zip((layer.weight, layer.bias), (weight, bias), gradients, strict=True):
        np.testing.assert_allclose(new.detach().numpy(), old - 0.01 * g / (np.abs(g) + 1e-3), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("max_grad_norm", [None, 0.01, 1e6])
def test_clipping_scales_the_whole_gradient(max_grad_norm):
    learner, batch = make_learner(max_grad_norm=max_grad_norm), make_batch()
    free = make_learner()
    free.update(batch)
    norm = free.grad_norm()
    assert norm > 0.02
    learner.update(batch)
    assert learner.grad_norm() == pytest.approx(norm, rel=1e-5)
    scale = 1.0 if max_grad_norm is None else min(1.0, max_grad_norm / norm)
    for a, b in zip(learner.last.gradients, free.last.gradients, strict=True):
        torch.testing.assert_close(a, b * scale, rtol=1e-4, atol=1e-9)


def test_the_target_is_copied_every_so_many_updates():
    learner = make_learner(normalize=True, target_every_updates=3)
    learner.online.normalizer.update(torch.randn(20, 3) * 5 + 2)
    begun, last = values(learner.target), None
    for number in range(1, 8):
        before = values(learner.target)
        learner.update(make_batch(number))
        assert learner.num_updates == number
        after = values(learner.target)
        if number % 3 == 0:
            assert equal(after, values(learner.online))
            assert not equal(after, before)
            last = after
        else:
            assert equal(after, begun if last is None else last)
            assert not equal(after, values(learner.online))


def test_the_target_follows_by_tau_and_copies_buffers():
    learner = make_learner(normalize=True, target_every_updates=1, target_tau=0.125)
    learner.online.normalizer.update(torch.randn(20, 3) * 5 + 2)
    before = values(learner.target)
    learner.update(make_batch())
    online, after = values(learner.online), values(learner.target)
    parameters = {name for name, _ in learner.online.named_parameters()}
    assert len(parameters) == 4
    for name, value in after.items():
        if name in parameters:
            # An eighth is exact, so one float32 rounding of the difference and one of the sum are all there is.
            expected = before[name].double() + 0.125 * (online[name].double() - before[name].double())
            torch.testing.assert_close(value.double(), expected, rtol=2.4e-7, atol=1e-8)
        else:
            assert torch.equal(value, online[name]), name
    assert float(after["normalizer.count"]) == 20


def test_the_optimiser_has_all_of_online_and_nothing_of_the_target():
    learner = make_learner("iqn", normalize=True)
    trained = {id(p) for p in learner.optimizer.parameters}
    assert trained == {id(p) for p in learner.online.parameters()}
    assert not any(p.requires_grad for p in learner.target.parameters())


@pytest.mark.parametrize("head", HEADS)
def test_an_update_is_decided_by_its_state(head):
    first, second = make_learner(head), make_learner(head)
    batch = make_batch()
    a, b = first.update(batch), second.update(batch)
    assert torch.equal(a.losses, b.losses)
    assert equal(first.weights(), second.weights())
    assert first.weights().keys() == first.online.state_dict().keys()


@pytest.mark.parametrize("head", HEADS)
def test_a_learner_goes_on_from_its_state(head):
    """Through a file into a learner that was made with another seed: the next five updates are equal to the bit."""
    straight = make_learner(head, normalize=True, target_every_updates=2)
    straight.online.normalizer.update(torch.randn(20, 3) + 2)
    for number in range(3):
        straight.update(make_batch(number))
    file = io.BytesIO()
    torch.save(straight.state_dict(), file)
    resumed = make_learner(head, seed=9, normalize=True, target_every_updates=2)
    assert not equal(values(resumed.online), values(straight.online))
    resumed.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    for number in range(3, 8):
        a, b = straight.update(make_batch(number)), resumed.update(make_batch(number))
        assert torch.equal(a.losses, b.losses)
    assert resumed.num_updates == 8
    assert equal(values(straight.online), values(resumed.online))
    assert equal(values(straight.target), values(resumed.target))


def test_random_fractions_come_from_the_learner_alone():
    """Other draws with another seed and from update to update, whatever torch's own generator does."""

    def losses(seed, global_seed):
        learner = make_learner("iqn")
        learner.generator.manual_seed(seed)
        torch.manual_seed(global_seed)
        return [learner.td_loss(make_batch(), *draws).losses for draws in two_draws(learner)]

    def two_draws(learner):
        head = learner.online.head
        return [[head.draw(8, learner.generator, bootstrap=b) for b in (False, True)] for _ in range(2)]

    a, b, c = losses(0, 0), losses(0, 1), losses(1, 0)
    assert torch.equal(torch.stack(a), torch.stack(b))
    assert not torch.equal(a[0], a[1])
    assert not torch.equal(a[0], c[0])


def test_updates_draw_anew():
    learner = make_learner("iqn", lr=1e-30, target_every_updates=100)
    first, second = learner.update(make_batch()), learner.update(make_batch())
    assert not torch.equal(first.losses, second.losses)
    assert not torch.equal(first.goal.values, second.goal.values)
    assert first.prediction.outputs.shape == (8, TINY["iqn"]["num_taus"])
    assert first.goal.values.shape == (8, TINY["iqn"]["num_target_taus"])


# Each of these waits for the device when the tensor lies there.
SYNCHRONISING = ("item", "cpu", "numpy", "tolist", "nonzero", "__bool__", "__float__", "__int__", "__index__")


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("rule", TARGET_RULES)
def test_an_update_never_waits_for_the_device(head, rule, monkeypatch):
    learner = make_learner(head, rule=rule, normalize=True, max_grad_norm=1.0, target_every_updates=1)
    batch = make_batch()
    learner.update(batch)
    learner.device = torch.device("cuda")  # on a CPU nothing is waited for, and the norm is looked at

    def refuse(name):
        def called(self, *args, **kwargs):
            raise AssertionError(f"Tensor.{name} within an update")

        return called

    with monkeypatch.context() as patch:
        for name in SYNCHRONISING:
            patch.setattr(torch.Tensor, name, refuse(name))
        update = learner.update(batch)
        with pytest.raises(AssertionError, match="item within"):
            update.loss.item()
    assert learner.num_updates == 2
    assert update.loss.isfinite()


def test_a_target_starts_as_a_copy_of_its_own():
    learner = make_learner()
    assert equal(values(learner.online), values(learner.target))
    begun = copy.deepcopy(learner.target.state_dict())
    learner.update(make_batch())
    assert equal(values(learner.target), begun)
