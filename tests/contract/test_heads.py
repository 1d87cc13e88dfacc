"""What every head promises, whatever it predicts: run over the registry, so that a new entry is under test at once.

Dimensions: B batch, A actions, K atoms, F features, D raw outputs per action.
"""

import io

import pytest
import torch
from torch import nn

from value_heads import ENCODINGS, HEADS, LOSSES, Atoms, make_head
from value_heads.base import ActionValues

BATCH, ACTIONS, FEATURES = 6, 3, 8

LEAVE = {name: {} if loss.learns == "mean" else {"allow_biased": True} for name, loss in LOSSES.items()}

# name -> (head, options): all of HEADS, biased bootstraps, every loss, every encoding, and transformed returns
CASES = {
    **{name: (name, {}) for name in HEADS},
    "hl_gauss distribution": ("hl_gauss", {"bootstrap": "distribution", "allow_biased": True}),
    **{
        f"{encoding} ordinal_bce": ("categorical", {"encoding": encoding, "loss": "ordinal_bce"})
        for encoding in ENCODINGS
    },
    **{f"loss {loss}": ("hl_gauss", {"loss": loss, **leave}) for loss, leave in LEAVE.items()},
    "loss ensemble, categorical": ("hl_gauss", {"loss": "ensemble", "form": "categorical"}),
    "loss ensemble, literal": ("hl_gauss", {"loss": "ensemble", "form": "literal", "allow_biased": True}),
    "loss elastic_cos, plus": ("hl_gauss", {"loss": "elastic_cos", "plus": True, "allow_biased": True}),
    "c51 ordinal_bce": ("c51", {"loss": "ordinal_bce"}),
    "two_hot symlog": ("two_hot", {"transform": "symlog"}),
    "hl_gauss hyperbolic": ("hl_gauss", {"transform": "hyperbolic", "decode": "inverse_of_mean"}),
    "mse hyperbolic": ("mse", {"transform": "hyperbolic"}),
    "huber symlog": ("huber", {"transform": "symlog"}),
    "quantile kappa 0": ("quantile", {"kappa": 0.0}),
}
every_case = pytest.mark.parametrize("case", CASES)
# To compile takes a second.
FEW = ("loss ldr_kl", "loss ensemble", "loss class_balanced_bce", "loss elastic_arc")
compiled_case = pytest.mark.parametrize(
    "case",
    [c if c in FEW or not c.startswith("loss") else pytest.param(c, marks=pytest.mark.slow) for c in CASES],
)

# float32 sums of up to 51 bins times returns of up to 10, in an order that may differ.
TOLERANCE = {"atol": 1e-5, "rtol": 1e-5}


def build(case, seed=0):
    name, options = CASES[case]
    torch.manual_seed(seed)
    return make_head(name, in_features=FEATURES, num_actions=ACTIONS, support=(-10, 10), **options)


class TDLoss(nn.Module):
    """Double-free Q-learning in seven lines: the whole of what is compiled."""

    def __init__(self, online, target):
        super().__init__()
        self.online, self.target = online, target

    def forward(self, features, next_features, action, reward, discount, draws, next_draws):
        with torch.no_grad():
            following = self.target(next_features, next_draws)
            goal = following.select(following.mean().argmax(-1)).atoms().backup(reward, discount)
        return self.online(features, draws).select(action).loss(goal)


def batch_for(head, batch=BATCH, seed=0):
    """Arguments of TDLoss; the first reward is far outside the support, the second transition is terminal."""
    g = torch.Generator().manual_seed(seed)
    features, next_features = 2 * torch.randn(2, batch, FEATURES, generator=g)
    action = torch.randint(ACTIONS, (batch,), generator=g)
    reward, discount = torch.randn(batch, generator=g), torch.full((batch,), 0.9)
    reward[0], discount[1] = 50.0, 0.0
    draws = head.draw(batch, g, bootstrap=False), head.draw(batch, g, bootstrap=True)
    return features, next_features, action, reward, discount, *draws


def gradients(module):
    return {name: p.grad for name, p in module.named_parameters()}


@every_case
def test_shapes(case):
    head = build(case)
    features, _, action, reward, discount, draws, _ = batch_for(head)
    for used in (None, draws):
        values = head(features, used)
        chosen = values.select(action)
        assert isinstance(values, ActionValues)
        assert values.outputs.dim() == 3
        assert values.outputs.shape[:2] == (BATCH, ACTIONS)
        assert values.mean().shape == (BATCH, ACTIONS)
        assert chosen.mean().shape == (BATCH,)
        assert type(chosen) is type(values)
        for atoms, shape in ((values.atoms(), (BATCH, ACTIONS)), (chosen.atoms(), (BATCH,))):
            assert atoms.values.shape == atoms.probs.shape
            assert atoms.values.shape[:-1] == shape
        goal = chosen.atoms().backup(reward, discount)
        assert chosen.loss(goal).shape == (BATCH,)
        assert chosen.target_distribution(goal).values.shape[:-1] == (BATCH,)
        policy = torch.full((BATCH, ACTIONS), 1 / ACTIONS)
        soft = values.average(policy).backup(reward, discount)
        assert chosen.loss(soft).shape == (BATCH,)


@every_case
def test_the_loss_is_neither_weighted_nor_reduced(case):
    """Row b of the loss is the loss of row b alone, unless the loss says otherwise."""
    head = build(case)
    if getattr(head, "criterion", None) is not None and head.criterion.couples_batch:
        pytest.skip("couples the batch, see test_losses.py")
    features, next_features, action, reward, discount, draws, next_draws = batch_for(head)
    loss = TDLoss(head, head)
    whole = loss(features, next_features, action, reward, discount, draws, next_draws)
    for b in range(BATCH):
        row = slice(b, b + 1)
        cut = [{k: v[row] for k, v in d.items()} for d in (draws, next_draws)]
        alone = loss(features[row], next_features[row], action[row], reward[row], discount[row], *cut)
        torch.testing.assert_close(alone, whole[row], **TOLERANCE)


@every_case
def test_wrong_shapes_are_refused(case):
    head = build(case)
    features, _, action, reward, discount, draws, _ = batch_for(head)
    values = head(features, draws)
    chosen = values.select(action)
    for shape in ((BATCH,), (BATCH, ACTIONS, 1), (1, 1), (BATCH + 1, 1)):
        with pytest.raises(ValueError, match="target atoms"):
            chosen.loss(Atoms(torch.zeros(shape), torch.ones(shape)))
    with pytest.raises(ValueError, match="call select first"):
        values.loss(Atoms.at(torch.zeros(BATCH)))
    for wrong in (action[:1], action[:, None], torch.tensor(0)):
        with pytest.raises(ValueError, match="action"):
            values.select(wrong)
    for wrong in (reward[:1], reward[:, None], torch.tensor(0.0)):
        with pytest.raises(ValueError, match="reward"):
            chosen.atoms().backup(wrong, discount)
        with pytest.raises(ValueError, match="discount"):
            chosen.atoms().backup(reward, wrong)


@every_case
def test_gradients_are_finite_and_the_target_gets_none(case):
    online, target = build(case), build(case, seed=1)
    loss = TDLoss(online, target)(*batch_for(online))
    assert loss.isfinite().all()
    loss.sum().backward()
    for name, gradient in gradients(online).items():
        assert gradient is not None, name
        assert gradient.isfinite().all(), name
    assert any(gradient.abs().max() > 0 for gradient in gradients(online).values())
    assert set(gradients(target).values()) <= {None}


@every_case
def test_a_target_made_by_the_same_head_is_a_constant(case):
    """Semi-gradient: bootstrapping from oneself gives the gradient of bootstrapping from a copy."""
    online, copy = build(case), build(case)
    batch = batch_for(online)
    TDLoss(online, online)(*batch).sum().backward()
    own = {name: gradient.clone() for name, gradient in gradients(online).items()}
    online.zero_grad()
    TDLoss(online, copy)(*batch).sum().backward()
    for name, gradient in gradients(online).items():
        assert torch.equal(gradient, own[name]), name


@every_case
@pytest.mark.parametrize("size", [30.0, 1e4])
def test_extreme_features_keep_everything_finite(case, size):
    """Saturated predictions: log(softmax) would be -inf where log_softmax is not."""
    head = build(case)
    features, next_features, *rest = batch_for(head)
    if "symlog" in case and HEADS[CASES[case][0]].build.__name__ == "ScalarHead":
        size = min(size, 30.0)  # an unbounded output in symlog space: exp of 1e4 has no float32, and should not
    loss = TDLoss(head, head)(size * features, next_features, *rest)
    loss.sum().backward()
    assert loss.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients(head).values())
    distribution = head(size * features).distribution()
    assert (distribution.probs >= 0).all()
    torch.testing.assert_close(distribution.probs.sum(-1), torch.ones(BATCH, ACTIONS), **TOLERANCE)


@compiled_case
def test_compiled_equals_eager(case):
    """One graph without breaks, and the same losses and gradients."""
    torch._dynamo.reset()
    online, target = build(case), build(case, seed=1)
    loss, batch = TDLoss(online, target), batch_for(online)
    eager = loss(*batch)
    eager.sum().backward()
    expected = {name: gradient.clone() for name, gradient in gradients(online).items()}
    online.zero_grad()
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)(*batch)
    compiled.sum().backward()
    # The same kernels in the same order, but for decompositions that round once more.
    torch.testing.assert_close(compiled, eager, atol=1e-6, rtol=1e-6)
    for name, gradient in gradients(online).items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-6, rtol=1e-5)


@every_case
def test_the_order_of_a_batch_does_not_matter(case):
    head = build(case)
    features, next_features, action, reward, discount, draws, next_draws = batch_for(head)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    loss = TDLoss(head, head)
    straight = loss(features, next_features, action, reward, discount, draws, next_draws)
    moved = [{k: v[order] for k, v in d.items()} for d in (draws, next_draws)]
    permuted = loss(features[order], next_features[order], action[order], reward[order], discount[order], *moved)
    torch.testing.assert_close(permuted, straight[order], **TOLERANCE)


@every_case
def test_state_dict_round_trip(case):
    first, second = build(case), build(case, seed=1)
    batch = batch_for(first)
    assert not torch.equal(TDLoss(first, first)(*batch), TDLoss(second, second)(*batch))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(TDLoss(first, first)(*batch), TDLoss(second, second)(*batch))


@every_case
def test_only_weights_are_in_the_state_dict(case):
    """Bins are configuration: a checkpoint must not silently carry those of another support."""
    head = build(case)
    assert set(head.state_dict()) == {name for name, _ in head.named_parameters()}


@every_case
def test_a_head_without_draws_is_deterministic(case):
    head = build(case)
    features = torch.randn(BATCH, FEATURES)
    state = torch.get_rng_state()
    first = head(features).mean()
    assert torch.equal(first, head(features).mean())
    assert torch.equal(state, torch.get_rng_state())  # and with draws none is taken from the default generator
    batch = batch_for(head)
    TDLoss(head, head)(*batch)
    assert torch.equal(state, torch.get_rng_state())


@every_case
def test_diagnostics_are_finite_scalars(case):
    head = build(case)
    for size in (1.0, 1e3):
        features, _, action, reward, discount, draws, _ = batch_for(head)
        with torch.no_grad():
            chosen = head(size * features, draws).select(action)
            found = chosen.diagnostics(head(features).select(action).atoms().backup(reward, discount))
        for name, value in found.items():
            assert value.shape == (), name
            assert value.isfinite(), name
            if name.startswith("frac_"):
                assert 0 <= value <= 1, name


@every_case
def test_the_error_is_never_less_than_that_of_the_means(case):
    """[B]; and it is that of the means, but for quantiles, of which each pair counts."""
    head = build(case)
    features, _, action, reward, discount, draws, _ = batch_for(head)
    with torch.no_grad():
        chosen = head(features, draws).select(action)
        goal = head(2 * features).select(action).atoms().backup(reward, discount)
        error, of_means = chosen.error(goal), (goal.mean() - chosen.mean()).abs()
    assert error.shape == (BATCH,)
    if hasattr(chosen, "taus"):
        of_means = of_means * chosen.outputs.shape[-1]
        assert (error >= of_means - 1e-4).all()
        assert (error > of_means + 1e-2).any(), "pairs disagree where means do not"
    else:
        assert torch.equal(error, of_means)


@every_case
def test_the_distribution_shown_is_one(case):
    """Non-negative and of mass 1 for random, strongly disagreeing logits; its mean is Q where none was negative."""
    head = build(case)
    torch.manual_seed(2)
    with torch.no_grad():
        values = head(10 * torch.randn(BATCH, FEATURES))
    chosen = values.select(torch.zeros(BATCH, dtype=torch.int64))
    goal = values.select(torch.ones(BATCH, dtype=torch.int64)).atoms().backup(torch.randn(BATCH), torch.ones(BATCH))
    shown_target = [chosen.target_distribution(goal)] if hasattr(chosen, "encoding") else []
    for shown in (values.distribution(), chosen.distribution(), *shown_target):
        assert (shown.probs >= 0).all()
        torch.testing.assert_close(shown.probs.sum(-1), torch.ones(shown.probs.shape[:-1]), **TOLERANCE)
        assert shown.values.shape == shown.probs.shape
    ordinal = hasattr(head, "encoding") and head.num_logits < head.encoding.num_bins  # may be negative
    if not ordinal and "decode" not in CASES[case][1]:
        torch.testing.assert_close(values.distribution().mean(), values.mean(), atol=1e-4, rtol=1e-5)


@every_case
def test_atoms_have_the_mean_of_the_prediction(case):
    """What is bootstrapped from is worth what acts."""
    head = build(case)
    torch.manual_seed(3)
    with torch.no_grad():
        values = head(2 * torch.randn(BATCH, FEATURES))
    torch.testing.assert_close(values.atoms().mean(), values.mean(), atol=2e-5, rtol=1e-5)
    mass = values.atoms().probs.sum(-1)
    torch.testing.assert_close(mass, torch.ones(BATCH, ACTIONS), **TOLERANCE)


@every_case
def test_select_then_mean_is_mean_then_gather(case):
    head = build(case)
    torch.manual_seed(4)
    values = head(torch.randn(BATCH, FEATURES))
    for action in (torch.tensor([0, 1, 2, 0, 2, 1]), torch.full((BATCH,), ACTIONS - 1)):
        expected = values.mean().gather(1, action[:, None]).squeeze(1)
        torch.testing.assert_close(values.select(action).mean(), expected, **TOLERANCE)


@every_case
def test_a_step_against_the_gradient_moves_the_value_towards_the_target(case):
    """For a target above and one below all predictions: the sign of the whole chain."""
    for target in (8.0, -8.0):
        head = build(case)
        torch.manual_seed(5)
        features, action = torch.randn(BATCH, FEATURES), torch.tensor([0, 1, 2, 0, 2, 1])
        draws = head.draw(BATCH, torch.Generator().manual_seed(0), bootstrap=False)
        before = head(features).select(action).mean().detach()
        goal = Atoms.at(torch.full((BATCH,), target))
        optimizer = torch.optim.SGD(head.parameters(), lr=1e-2)
        head(features, draws).select(action).loss(goal).mean().backward()
        optimizer.step()
        change = head(features).select(action).mean().detach() - before
        assert (change.mean() > 0) == (target > 0)
