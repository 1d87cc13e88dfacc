"""Every classification loss where it is used: in a learner, recorded, stacked, in an ensemble, on every output layer.

Dimensions: B batch, A actions, F features.
"""

import copy
import functools

import pytest
import torch

from agents.learning.batch import Batch
from agents.learning.learner import Learner
from agents.learning.recorded import Recorded
from agents.learning.stacked import StackedLearner
from agents.learning.targets import TARGET_RULES
from agents.networks.output_layers import OUTPUT_LAYERS
from agents.networks.qnetwork import QNetwork
from agents.networks.torsos import MLP
from value_heads import LOSSES, make_head

A, B = 3, 6
CASES = {
    **{name: {"loss": name} for name in LOSSES},
    "ensemble, categorical": {"loss": "ensemble", "form": "categorical"},
    "ensemble, literal": {"loss": "ensemble", "form": "literal"},
    "elastic_cos, plus": {"loss": "elastic_cos", "plus": True},
}
OWN_LAYER = [name for name in LOSSES if LOSSES[name]().last_layer is not None]
every_case = pytest.mark.parametrize("case", CASES)
# To record takes a second: of those that are random, couple the batch or have a layer of their own one each, else slow.
FEW = ("ldr_kl", "ensemble", "class_balanced_bce", "elastic_cos, plus")
recorded_case = pytest.mark.parametrize(
    "case", [case if case in FEW else pytest.param(case, marks=pytest.mark.slow) for case in CASES]
)


def make_network(case, seed=0, output="linear", **options):
    torch.manual_seed(seed)
    layer = functools.partial(OUTPUT_LAYERS[output], hidden=5)
    options = {"num_bins": 9, "allow_biased": True, **CASES[case], **options}
    sizes = {"in_features": 6, "num_actions": A, "support": (-4.0, 4.0)}
    return QNetwork(MLP((4,), hidden=(6,)), make_head("hl_gauss", **sizes, output_layer=layer, **options))


def make_learner(case, seed=0, **options):
    rule = TARGET_RULES["double_q_learning"]
    settings = {"lr": 0.01, "adam_eps": 1e-8, "max_grad_norm": 1.0, "target_every_updates": 2}
    return Learner(make_network(case, seed, **options), rule, **settings, seed=seed)


def make_batch(seed):
    g = torch.Generator().manual_seed(seed)
    normal = functools.partial(torch.randn, generator=g)
    action = torch.randint(A, (B,), generator=g)
    return Batch(normal(B, 4), action, normal(B), 0.9 * (normal(B) > -0.5), normal(B, 4), torch.ones(B))


@recorded_case
def test_updates_change_every_weight_and_are_the_same_recorded(case):
    """To the bit: weights, and what an update says. The random numbers of both are those of equal generators."""
    learner = make_learner(case)
    before = {name: p.clone() for name, p in learner.online.named_parameters()}
    quick = copy.deepcopy(learner)
    quick.gradient_of = Recorded(quick.differentiate, after=1)
    learner.gradient_of = learner.differentiate
    for k in range(4):
        ours, wanted = quick.update(make_batch(k)), learner.update(make_batch(k))
        assert wanted.losses.shape == (B,)
        assert wanted.losses.isfinite().all()
        assert torch.equal(ours.losses, wanted.losses)
        assert torch.equal(ours.td_error, wanted.td_error)
    assert len(quick.gradient_of.recordings) == 1
    for name, p in learner.online.named_parameters():
        assert p.isfinite().all(), name
        assert not torch.equal(p, before[name]), name
        assert torch.equal(p, dict(quick.online.named_parameters())[name]), name
    assert torch.equal(learner.generator.get_state(), quick.generator.get_state())


@every_case
def test_two_updates(case):
    """Finite losses [B], and no weight stays as it was."""
    learner = make_learner(case)
    before = {name: p.clone() for name, p in learner.online.named_parameters()}
    for k in range(2):
        losses = learner.update(make_batch(k)).losses
        assert losses.shape == (B,)
        assert losses.isfinite().all()
    for name, p in learner.online.named_parameters():
        assert p.isfinite().all(), name
        assert not torch.equal(p, before[name]), name


@every_case
@pytest.mark.usefixtures("float64")
def test_many_learners_at_once_are_each_of_them_alone(case):
    """Losses that couple a batch couple that of their own learner, and layers have weights of their own."""
    alone, members = ([make_learner(case, seed) for seed in range(2)] for _ in range(2))
    whole = StackedLearner(members)
    for k in range(3):
        batches = [make_batch(10 * seed + k) for seed in range(2)]
        seen = [learner.update(batch) for learner, batch in zip(alone, batches, strict=True)]
        fields = zip(*batches, strict=True)
        whole.update(Batch(*(None if f[0] is None else torch.stack(f) for f in fields)))
    whole.give()
    obs = torch.stack([batch.obs for batch in batches])
    q_values = whole.q_values("online", obs, [{}, {}])
    for i, (learner, member) in enumerate(zip(alone, members, strict=True)):
        torch.testing.assert_close(member.online.state_dict(), learner.online.state_dict(), atol=1e-9, rtol=1e-9)
        torch.testing.assert_close(whole.update_of(i).losses, seen[i].losses, atol=1e-9, rtol=1e-9)
        torch.testing.assert_close(q_values[i], learner.online(obs[i]).mean(), atol=1e-9, rtol=1e-9)


RANDOM = {"ensemble", "ensemble, categorical", "ensemble, literal", "elastic_cos", "elastic_cos, plus", "elastic_arc"}


@every_case
def test_random_losses_are_drawn_by_the_learner(case):
    """Only where a prediction is trained: nothing for targets and acting, and nothing from torch's own generator."""
    learner, other, g = make_learner(case), make_learner(case), torch.Generator().manual_seed(0)
    head, state = learner.online.head, torch.get_rng_state()
    draws = head.draw(B, g, bootstrap=False)
    assert bool(draws) == (case in RANDOM)
    assert all(name.startswith("loss.") and len(value) == B for name, value in draws.items())
    assert not head.draw(B, g, bootstrap=True)
    assert not head.noise(g)
    other.generator.manual_seed(5)
    gradients = []
    for each in (learner, other):
        each.update(make_batch(0))
        gradients.append(torch.cat([gradient.flatten() for gradient in each.last.gradients]))
    assert torch.equal(*gradients) == (case not in RANDOM)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("loss", OWN_LAYER)
def test_a_layer_of_its_own(loss):
    """It takes the place of the last linear map, also of every member of an ensemble, and starts at Q = 0."""
    kind = LOSSES[loss]().last_layer.func
    single = make_network(loss)
    assert isinstance(single.head.output.last, kind)
    assert set(single.head.state_dict()) == {name for name, _ in single.head.named_parameters()}
    ensemble = make_network(loss, members=2).head.each.output
    assert [type(member.last) for member in ensemble.members] == [kind, kind]
    assert not torch.equal(ensemble.members[0].last.weight, ensemble.members[1].last.weight)
    off_centre = make_head("hl_gauss", in_features=6, num_actions=A, support=(-2.0, 7.0), loss=loss)
    torch.nn.init.zeros_(off_centre.output.last.weight)
    q_values = off_centre(torch.randn(5, 6)).mean()
    torch.testing.assert_close(q_values, torch.zeros(5, A), atol=1e-4, rtol=0)


@pytest.mark.parametrize("output", [name for name in OUTPUT_LAYERS if name != "linear"])
@pytest.mark.parametrize("loss", OWN_LAYER)
def test_a_layer_of_its_own_is_refused_where_it_would_mean_nothing(loss, output):
    with pytest.raises(ValueError, match=r"Output cannot have its last layer replaced.*output layer 'linear'"):
        make_network(loss, output=output)


@pytest.mark.parametrize("output", [name for name in OUTPUT_LAYERS if name != "linear"])
def test_the_others_go_with_every_output_layer(output):
    for case in CASES:
        if CASES[case]["loss"] not in OWN_LAYER:
            assert make_learner(case, output=output).update(make_batch(0)).losses.isfinite().all()


@every_case
def test_an_ensemble_of_them(case):
    """Random numbers for every member's copy of the batch, and layers of its own."""
    learner = make_learner(case, members=2)
    before = [p.clone() for p in learner.online.parameters()]
    for k in range(2):
        assert learner.update(make_batch(k)).losses.isfinite().all()
    assert not any(torch.equal(p, old) for p, old in zip(learner.online.parameters(), before, strict=True))
