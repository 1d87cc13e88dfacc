"""Is an update of many learners at once an update of each of them alone?

In float64 the two differ by rounding alone, so that 1e-9 after many updates tells a wrong sum from another order of it.
"""

import pytest
import torch

from agents.learning.augmentation import Augmentation
from agents.learning.batch import Batch
from agents.learning.learner import Learner
from agents.learning.regularizers import CQL, DR3, SelfPrediction
from agents.learning.stacked import StackedLearner, state_of
from agents.learning.targets import TARGET_RULES
from agents.networks.impala import ImpalaCNN
from agents.networks.output_layers import OUTPUT_LAYERS
from agents.networks.qnetwork import EnvSpec, QNetwork
from agents.networks.torsos import MLP, SmallCNN
from agents.normalization import ObservationNormalizer
from value_heads import HEADS, make_head

TINY = {
    "quantile": {"num_quantiles": 4},
    "iqn": {"num_taus": 3, "num_target_taus": 5, "num_acting_taus": 4, "num_cosines": 4},
    **{name: {"num_bins": 7} for name in ("mse_softmax", "one_hot", "two_hot", "hl_gauss", "c51", "categorical")},
}
EACH = (
    {"lr": 0.01, "adam_eps": 1e-8, "max_grad_norm": None, "weight_decay": 0.0},
    {"lr": 0.01, "adam_eps": 1e-8, "max_grad_norm": 0.1, "weight_decay": 0.0},
    {"lr": 0.003, "adam_eps": 1e-3, "max_grad_norm": 0.5, "weight_decay": 0.1},
)
SHAPE = (3,)


def make_learner(head, seed, *, rule="double_q_learning", output="linear", shape=SHAPE, normalize=True, **options):
    torch.manual_seed(seed)
    torso = MLP(shape, hidden=(6,)) if len(shape) == 1 else SmallCNN(shape, channels=(4, 5))
    layer = OUTPUT_LAYERS[output]
    head = make_head(
        head, in_features=torso.out_features, num_actions=2, support=(-4, 4), output_layer=layer, **TINY.get(head, {})
    )
    online = QNetwork(torso, head, ObservationNormalizer(shape) if normalize else None)
    defaults = {"lr": 0.01, "adam_eps": 1e-8, "max_grad_norm": None, "target_every_updates": 3, "target_tau": 0.7}
    return Learner(online, TARGET_RULES[rule], **(defaults | options), seed=seed)


def make_batch(seed, size=8, shape=SHAPE):
    g = torch.Generator().manual_seed(seed)
    return Batch(
        obs=torch.randn(size, *shape, generator=g),
        action=torch.randint(2, (size,), generator=g),
        reward=torch.randn(size, generator=g),
        discount=0.9 * (torch.rand(size, generator=g) > 0.3).to(torch.get_default_dtype()),
        next_obs=torch.randn(size, *shape, generator=g),
        weight=torch.rand(size, generator=g) + 0.5,
        next_action=torch.randint(-1, 2, (size,), generator=g),
        next_mask=torch.stack([torch.rand(size, generator=g) < 0.5, torch.ones(size, dtype=torch.bool)], 1),
        mask=torch.ones(size, 2, dtype=torch.bool),
    )


def stack(batches):
    return Batch(*(None if fields[0] is None else torch.stack(fields) for fields in zip(*batches, strict=True)))


def compare(alone, whole, tolerance):
    """Everything that the next update depends on, and what people are shown of the last."""
    whole.give()
    for i, (learner, given) in enumerate(zip(alone, whole.learners, strict=True)):
        expected, got = learner.state_dict(), given.state_dict()
        torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)
        assert given.grad_norm() == pytest.approx(learner.grad_norm(), rel=1e-5, abs=tolerance)
        seen = whole.update_of(i)
        for name in ("loss", "losses", "td_error", "terms", "goal"):
            torch.testing.assert_close(
                getattr(seen, name), getattr(learner.shown, name), rtol=tolerance, atol=tolerance, msg=name
            )
        diagnostics = learner.shown.prediction.diagnostics(learner.shown.goal)
        torch.testing.assert_close(seen.prediction.diagnostics(seen.goal), diagnostics, rtol=1e-6, atol=1e-6)


def train_both(updates, each=EACH, size=8, **options):
    """Learners alone, and the same ones stacked, after updates on the same batches."""
    shape = options.get("shape", SHAPE)
    alone, members = ([make_learner(seed=s, **options, **own) for s, own in enumerate(each)] for _ in range(2))
    whole = StackedLearner(members)
    for k in range(updates):
        batches = [make_batch(1000 * s + k, size, shape) for s in range(len(each))]
        for learner, batch in zip(alone, batches, strict=True):
            if learner.online.normalizer is not None:
                learner.online.normalizer.update(batch.obs)
            learner.shown = learner.update(batch)
        whole.normalize(torch.stack([batch.obs for batch in batches]))
        whole.update(stack(batches))
    return alone, whole


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.usefixtures("float64")
def test_200_updates_of_every_head(head):
    alone, whole = train_both(200 if head in ("hl_gauss", "iqn") else 10, head=head)
    compare(alone, whole, 1e-9)


@pytest.mark.parametrize(("head", "output"), [("mse", "dueling"), ("iqn", "noisy"), ("c51", "noisy_dueling")])
@pytest.mark.usefixtures("float64")
def test_every_output_layer(head, output):
    compare(*train_both(4, head=head, output=output), 1e-9)


@pytest.mark.parametrize(
    ("head", "rule"),
    [("c51", "q_learning"), ("c51", "expected_sarsa"), ("c51", "munchausen"), ("mse", "sarsa"), ("iqn", "munchausen")],
)
@pytest.mark.usefixtures("float64")
def test_every_target_rule(head, rule):
    compare(*train_both(4, head=head, rule=rule), 1e-9)


@pytest.mark.usefixtures("float64")
def test_regularizers_without_weights():
    compare(*train_both(10, head="mse", regularizers={"cql": CQL(), "dr3": DR3()}), 1e-9)


@pytest.mark.usefixtures("float64")
def test_convolutions():
    compare(*train_both(10, head="mse", shape=(2, 6, 6), normalize=False), 1e-9)


@pytest.mark.usefixtures("float64")
def test_the_other_optimizer():
    compare(*train_both(20, head="mse", optimizer="radam"), 1e-9)


@pytest.mark.parametrize("head", ["mse", "hl_gauss", "quantile"])
def test_one_update_in_float32(head):
    """Sums in another order differ by 1e-7 of numbers of about 1, and Adam divides by gradients of 1e-2."""
    compare(*train_both(1, head=head), 1e-5)


def test_what_was_recorded_is_what_is_defined():
    """Bit for bit, on a batch and draws that the recording has not seen."""
    whole = StackedLearner([make_learner("iqn", seed) for seed in range(3)])
    whole.gradient_of.after = 1
    for k in range(4):
        whole.update(stack([make_batch(10 * s + k) for s in range(3)]))
    assert len(whole.gradient_of.recordings) == 1
    given = {name: v for name, v in stack([make_batch(s) for s in range(50, 53)])._asdict().items() if v is not None}
    arguments = given, {"taus": torch.rand(3, 8, 3)}, {"taus": torch.rand(3, 8, 5)}
    seen, gradients = whole.differentiate(*arguments)
    played, played_gradients = whole.gradient_of(*arguments)
    torch.testing.assert_close(played, seen, rtol=0, atol=0)
    torch.testing.assert_close(played_gradients, gradients, rtol=0, atol=0)


@pytest.mark.parametrize("part", ["online", "target"])
def test_action_values(part):
    whole = StackedLearner([make_learner("hl_gauss", seed, output="noisy") for seed in range(3)])
    for k in range(4):
        whole.update(stack([make_batch(10 * s + k) for s in range(3)]))
    whole.give()
    for k in range(2):
        obs = torch.randn(3, 2, *SHAPE)
        noise = [getattr(le, part).head.noise(torch.Generator().manual_seed(k)) for le in whole.learners]
        expected = [getattr(le, part)(o, d).mean() for le, o, d in zip(whole.learners, obs, noise, strict=True)]
        torch.testing.assert_close(whole.q_values(part, obs, noise), torch.stack(expected), rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("float64")
def test_learners_that_have_begun_alone_go_on_together():
    """Weights, running statistics, moments of the optimiser and counts are taken over, and given back."""
    alone, _ = train_both(7, head="iqn")
    members = [make_learner("iqn", 100 + s, **own) for s, own in enumerate(EACH)]
    again = StackedLearner(members)
    for learner, member in zip(alone, members, strict=True):
        member.load_state_dict(learner.state_dict())
    again.take()
    batches = [make_batch(s) for s in range(3)]
    for learner, batch in zip(alone, batches, strict=True):
        learner.shown = learner.update(batch)
    again.update(stack(batches))
    compare(alone, again, 1e-9)


def test_neighbours_with_the_same_settings_share_a_step():
    whole = StackedLearner([make_learner("mse", s, **own) for s, own in enumerate(EACH)])
    assert [rows for rows, _ in whole.optimizers] == [slice(0, 2), slice(2, 3)]
    assert [optimizer.lr for _, optimizer in whole.optimizers] == [0.01, 0.003]


def test_a_normaliser_is_one_for_both_networks():
    whole = StackedLearner([make_learner("mse", s) for s in range(2)])
    assert sum("normalizer.mean" in name for name in state_of(whole.first)) == 1
    whole.normalize(torch.ones(2, 5, *SHAPE))
    for part in whole.networks.values():
        assert torch.equal(part["normalizer.mean"], torch.ones(2, *SHAPE, dtype=torch.float64))


def test_what_cannot_be_stacked():
    image, late = (2, 12, 12), make_learner("mse", 1)
    late.num_updates = 3
    for other in (make_learner("mse", 1, normalize=False), make_learner("huber", 1, output="dueling"), late):
        with pytest.raises(ValueError, match="with other weights, or another number of updates"):
            StackedLearner([make_learner("mse", 0), other])
    augmentation = Augmentation(image, shift_pixels=1, intensity=0.0)
    with pytest.raises(ValueError, match="augmentation"):
        StackedLearner([make_learner("mse", 0, shape=image, augmentation=augmentation)])
    torso = ImpalaCNN(image)
    online = QNetwork(torso, make_head("mse", in_features=torso.out_features, num_actions=2, support=(-4, 4)))
    prediction = SelfPrediction()
    prediction.build(online, EnvSpec(image, "float32", 2, False))
    options = {"lr": 0.1, "adam_eps": 1e-8, "max_grad_norm": None, "target_every_updates": 3, "seed": 0}
    rule = TARGET_RULES["q_learning"]
    with pytest.raises(ValueError, match="ImpalaCNN changes before each update"):
        StackedLearner([Learner(online, rule, **options)])
    with pytest.raises(ValueError, match="weights of their own"):
        StackedLearner([Learner(online, rule, regularizers={"self_prediction": prediction}, **options)])
