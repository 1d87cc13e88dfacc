"""Population bias: at its minimum over a random return, a loss with its own link must decode to the mean.

One state, free logits, 50 equally likely returns. A loss that decodes to the median or the mode would look fine in a
regression test on symmetric noise, and be wrong by 1 / (1 - gamma) times its bias after bootstrapping.

Dimensions: R return distributions, S equally likely returns, m bins.
"""

import functools

import numpy as np
import pytest
import scipy.stats
import torch

from value_heads import ENCODINGS, HEADS, LOSSES, Atoms, head_options, make_head
from value_heads.base import Support
from value_heads.registry import options_of

SUPPORT, NUM_BINS = Support(-12, 12), 51
LEVELS = (np.arange(50) + 0.5) / 50
RETURNS = {
    "gauss": scipy.stats.norm.ppf(LEVELS, 0.7, 1.2),
    "skew": scipy.stats.expon.ppf(LEVELS, -1, 1.5),
    "bimodal": np.where(LEVELS < 0.8, -2.0, 5.0) + 0.1 * scipy.stats.norm.ppf(LEVELS),
}

# What so many steps leave: tail bins, whose mass is small, are still on their way. The bias of HL-Gauss inside the
# support is 2e-6. Losses that are known to be wrong are off by 0.1 and more.
TOLERANCE = 0.05

UNBIASED = [name for name, loss in LOSSES.items() if loss.learns == "mean"]
LEAVE = {  # what a head takes with allow_biased alone: losses and their options
    "wasserstein": ("wasserstein", {}),
    "decoupled_softmax": ("decoupled_softmax", {}),
    "ensemble, literal": ("ensemble", {"form": "literal"}),
    "soft_top_k of 5": ("soft_top_k", {"kappa": 5.0}),
    "elastic_cos, plus": ("elastic_cos", {"plus": True}),
}
# The gradient of these is no function of the mean target: labels are made hard, or rows weigh each other.
NOT_LINEAR = ("wasserstein", "decoupled_softmax", "class_balanced_bce")
SCHEDULES = {  # steps of Adam and their first rate, where (300, 0.3) is not enough, or too quick
    "brier": (2000, 0.1),
    "cramer": (900, 0.1),
    "z_loss": (900, 0.1),
    "positive_unlabeled": (400, 0.5),
}


def decoded_bias(criterion, encoding, steps=300, lr=0.3, linear=False):
    """decoded mean - true mean for every return distribution, after minimising the expected loss.

    Where the gradient is linear in the target, the expected target has the expected gradient.
    """
    returns = torch.tensor(np.stack([*RETURNS.values()])).float()  # [R, S]
    targets = encoding(Atoms.at(returns)).double()  # [R, S, m]
    if linear:
        targets = targets.mean(1, keepdim=True)
    rows, shape = targets.flatten(0, 1), targets.shape[:2]
    num_logits = criterion.num_logits(NUM_BINS)
    logits = torch.zeros(len(returns), num_logits, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=lr)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / (steps + 1))
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        optimizer.zero_grad()
        draws = criterion.draw(len(rows), num_logits, generator)
        loss = criterion(logits.unsqueeze(1).expand(-1, shape[1], -1).flatten(0, 1), rows, draws=draws)
        loss.unflatten(0, shape).mean(1).sum().backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        decoded = encoding.mean(criterion.probs(logits))
    return dict(zip(RETURNS, (decoded.double() - returns.double().mean(1)).tolist(), strict=True))


def test_the_distributions_tell_mean_and_median_apart():
    distance = {name: np.mean(y) - np.median(y) for name, y in RETURNS.items()}
    assert abs(distance["gauss"]) < 1e-9
    assert distance["skew"] > 0.4
    assert distance["bimodal"] > 1.2
    assert all(y.min() > SUPPORT.v_min + 2 and y.max() < SUPPORT.v_max - 2 for y in RETURNS.values())


@pytest.mark.parametrize("encoding", ["two_hot", "hl_gauss"])
@pytest.mark.parametrize("loss", UNBIASED)
def test_a_loss_decodes_to_the_mean(loss, encoding):
    criterion = LOSSES[loss]()
    random = criterion.draw(2, 3, torch.Generator()) or criterion.couples_batch or loss in NOT_LINEAR
    steps, lr = SCHEDULES.get(loss, (300, 0.3))
    bias = decoded_bias(criterion, ENCODINGS[encoding](SUPPORT, NUM_BINS), steps, lr, linear=not random)
    assert max(map(abs, bias.values())) < TOLERANCE, bias


def test_the_other_form_of_the_ensemble_decodes_to_the_mean():
    bias = decoded_bias(LOSSES["ensemble"](form="categorical"), ENCODINGS["hl_gauss"](SUPPORT, NUM_BINS))
    assert max(map(abs, bias.values())) < TOLERANCE, bias


@pytest.mark.parametrize("case", LEAVE)
def test_a_loss_that_does_not_wants_leave(case):
    """It is off where the mean is neither mode nor median; a head refuses it and says what it learns instead."""
    name, options = LEAVE[case]
    criterion = LOSSES[name](**options)
    bias = decoded_bias(criterion, ENCODINGS["two_hot"](SUPPORT, NUM_BINS))
    assert max(map(abs, bias.values())) > 2 * TOLERANCE, bias
    build = functools.partial(make_head, "hl_gauss", in_features=4, num_actions=2, support=(-1, 1), loss=name)
    with pytest.raises(ValueError, match=rf"loss '{name}' learns the .*{criterion.learns[:5]}.*allow_biased = true"):
        build(**options)
    build(allow_biased=True, **options)


def test_every_loss_that_learns_something_else_is_here():
    assert {name for name, loss in LOSSES.items() if loss.learns != "mean"} <= {name for name, _ in LEAVE.values()}


class WrongLink(LOSSES["cross_entropy"]):
    """Cross-entropy, read with another temperature."""

    def probs(self, logits):
        return (2 * logits).softmax(-1)


def test_the_harness_rejects_a_loss_that_decodes_to_the_median():
    bias = decoded_bias(LOSSES["wasserstein"](), ENCODINGS["two_hot"](SUPPORT, NUM_BINS))
    # The medians are 0.46 and 1.4 below the means.
    assert bias["skew"] < -0.2
    assert bias["bimodal"] < -0.2
    assert abs(bias["gauss"]) < 0.1  # symmetric noise would not have shown it


def test_the_harness_rejects_a_wrong_link():
    bias = decoded_bias(WrongLink(), ENCODINGS["two_hot"](SUPPORT, NUM_BINS))
    assert bias["bimodal"] < -0.2


@pytest.mark.parametrize("num_bins", [2, 51])
@pytest.mark.parametrize("loss", LOSSES)
def test_link_and_inverse(loss, num_bins):
    """probs(logits) sums to 1; logits(probs) is a right inverse, in the shape that num_logits promises."""
    criterion = LOSSES[loss]()
    torch.manual_seed(0)
    probs = criterion.probs(4 * torch.randn(7, criterion.num_logits(num_bins)))
    assert probs.shape == (7, num_bins)
    torch.testing.assert_close(probs.sum(-1), torch.ones(7), atol=1e-6, rtol=0)
    wanted = torch.rand(7, num_bins, dtype=torch.float64).softmax(-1)
    logits = criterion.logits(wanted)
    assert logits.shape == (7, criterion.num_logits(num_bins))
    if loss != "z_loss":  # which gives no mass to half of the bins
        torch.testing.assert_close(criterion.probs(logits), wanted, atol=1e-9, rtol=0)


@pytest.mark.parametrize("loss", [name for name in LOSSES if name != "z_loss"])
def test_the_inverse_of_peaked_distributions(loss):
    """Masses from 1e-4 to 0.98: where a margin has two solutions, and a temperature is far from its start."""
    criterion = LOSSES[loss]()
    wanted = torch.tensor([[1e-4, 0.98, 0.0199], [0.9, 0.05, 0.05], [0.45, 0.45, 0.1]], dtype=torch.float64)
    torch.testing.assert_close(criterion.probs(criterion.logits(wanted)), wanted, atol=1e-7, rtol=0)


def test_the_start_of_the_z_loss_has_the_mean_that_it_is_told():
    index = torch.arange(51.0, dtype=torch.float64)
    for mean in (12.0, 25.0, 31.3):
        probs = (-((index - mean) ** 2) / 200).softmax(-1)
        decoded = LOSSES["z_loss"]().probs(LOSSES["z_loss"]().logits(probs))
        assert float(decoded @ index) == pytest.approx(float(probs @ index), abs=1e-6)


NO_INVERSE = ("z_loss", "positive_unlabeled", "elastic_arc")  # whose `logits` are one of several, and not the best


@pytest.mark.parametrize("loss", [name for name in UNBIASED if name not in NO_INVERSE])
def test_a_loss_is_smallest_at_its_target(loss):
    """Proper: logits(p) minimises the loss against p; any other distribution costs more."""
    criterion = LOSSES[loss]()
    torch.manual_seed(0)
    target = (2 * torch.randn(9, dtype=torch.float64)).softmax(-1)
    others = (2 * torch.randn(200, 9, dtype=torch.float64)).softmax(-1)
    targets = target.expand_as(others)
    assert (criterion(criterion.logits(others), targets) > criterion(criterion.logits(targets), targets)).all()
    if not criterion.couples_batch:
        logits = criterion.logits(target).requires_grad_()
        (gradient,) = torch.autograd.grad(criterion(logits, target).sum(), logits)
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-7, rtol=0)


@pytest.mark.parametrize("loss", [name for name in LOSSES if name not in NOT_LINEAR])
def test_the_gradient_is_linear_in_the_target(loss):
    """What makes the expected gradient that of the expected target, and with it the mean the minimum."""
    criterion = LOSSES[loss]()
    torch.manual_seed(0)
    logits = torch.randn(5, criterion.num_logits(11), dtype=torch.float64, requires_grad=True)
    draws = criterion.draw(5, logits.shape[1], torch.Generator().manual_seed(0))
    first, second = torch.randn(2, 5, 11, dtype=torch.float64).softmax(-1)

    def gradient(target):
        return torch.autograd.grad(criterion(logits, target, draws=draws).sum(), logits)[0]

    mixed = 0.3 * gradient(first) + 0.7 * gradient(second)
    torch.testing.assert_close(gradient(0.3 * first + 0.7 * second), mixed, atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("loss", LOSSES)
def test_it_is_finite_at_extreme_logits(loss):
    """+-1e4 in float32: everything saturates, and nothing is 0 / 0 or infinite."""
    criterion = LOSSES[loss]()
    num_logits = criterion.num_logits(11)
    torch.manual_seed(0)
    extreme = 1e4 * torch.randn(6, num_logits).sign()
    one = torch.full((1, num_logits), -1e4).index_fill(1, torch.tensor([3]), 1e4)
    logits = torch.cat([extreme, one, -one, torch.zeros(1, num_logits), 1e4 * torch.randn(5, num_logits)])
    logits.requires_grad_()
    target = torch.eye(11)[torch.randint(11, (len(logits),))]
    draws = criterion.draw(len(logits), num_logits, torch.Generator().manual_seed(0))
    loss_of_row = criterion(logits, target, draws=draws)
    (gradient,) = torch.autograd.grad(loss_of_row.sum(), logits)
    mean = criterion.probs(logits) @ torch.arange(11.0)
    (of_mean,) = torch.autograd.grad(mean.sum(), logits)
    assert loss_of_row.shape == (len(logits),)
    assert all(x.isfinite().all() for x in (loss_of_row, gradient, mean, of_mean))


COUPLED = {**{name: {} for name in LOSSES if LOSSES[name].couples_batch}, **{n: o for n, o in LEAVE.values() if o}}


@pytest.mark.parametrize("loss", LOSSES)
def test_rows_of_a_batch(loss):
    """In any order they have the same losses; and alone, unless the loss says that it couples the batch."""
    for options in ({}, COUPLED.get(loss, {})):
        criterion = LOSSES[loss](**options)
        torch.manual_seed(0)
        logits = torch.randn(6, criterion.num_logits(11), dtype=torch.float64)
        target = (3 * torch.randn(6, 11, dtype=torch.float64)).softmax(-1)
        draws = criterion.draw(6, logits.shape[1], torch.Generator().manual_seed(0))
        order = torch.tensor([3, 0, 5, 1, 4, 2])
        whole = criterion(logits, target, draws=draws)
        if not getattr(criterion, "plus", False):  # which shares its numbers out by rank, whoever they belong to
            moved = criterion(logits[order], target[order], draws={k: v[order] for k, v in draws.items()})
            torch.testing.assert_close(moved, whole[order], atol=1e-12, rtol=1e-12)
        alone = [
            criterion(logits[i : i + 1], target[i : i + 1], draws={k: v[i : i + 1] for k, v in draws.items()})
            for i in range(6)
        ]
        if options.get("form") != "literal":  # the number that it shows is ordinal_bce; its gradient couples
            assert torch.allclose(torch.cat(alone), whole, atol=1e-12) != criterion.couples_batch


@pytest.mark.parametrize("loss", LOSSES)
def test_what_a_loss_says_of_itself(loss):
    """A source, a cost, a docstring with a source; no weights and no state."""
    criterion = LOSSES[loss]()
    assert criterion.paper
    assert criterion.cost.startswith("O(")
    assert not criterion.state_dict()
    assert len(LOSSES[loss].__doc__ or "") > 100


def test_options_do_not_clash():
    """An option of a head belongs to it, or to its encoding, or to its loss; never to two."""
    own = set(options_of(HEADS["categorical"].build))
    for loss in LOSSES.values():
        for encoding in ENCODINGS.values():
            assert not options_of(loss).keys() & options_of(encoding).keys()
        assert not options_of(loss).keys() & own
    assert "temperature" in head_options("hl_gauss", loss="ldr_kl")
