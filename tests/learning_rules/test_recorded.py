"""What is recorded is what would have been computed, to the bit, as long as it is used."""

import copy
import warnings
from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from agents.learning.batch import Batch
from agents.learning.learner import Learner
from agents.learning.recorded import Recorded, recorded
from agents.learning.regularizers import CQL, DR3
from agents.learning.simplified import simplify
from agents.learning.targets import TARGET_RULES
from agents.networks.qnetwork import QNetwork
from agents.networks.torsos import MLP, ImpalaCNN
from value_heads import HEADS, make_head

GET = ["<built-in function getitem>"]


def both(x: Tensor) -> list[Tensor]:
    product = torch.addmm(BIAS, x, WEIGHT)
    return [product, product.relu()]


class Pair(NamedTuple):
    left: Tensor
    right: Tensor | None = None


@dataclass(frozen=True)
class Named:
    value: Tensor
    name: str


def function(pair: Pair, extra: dict[str, Tensor]) -> tuple[Named, list[Tensor]]:
    total = pair.left * 2 + extra["a"]
    if pair.right is not None:
        total = total + pair.right
    return Named(total.t().t(), "total"), [total.sum(), pair.left]


def test_structures_and_kinds():
    """Arguments in tuples and mappings, results in dataclasses; each kind of arguments has a recording of its own."""
    quick = Recorded(function, after=1)
    for shape in [(2, 3), (4, 3)]:
        for with_right in (False, True):
            for _ in range(4):
                left, right, a = (torch.randn(shape) for _ in range(3))
                arguments = Pair(left, right if with_right else None), {"a": a}
                (got, sums), (wanted, wanted_sums) = quick(*arguments), function(*arguments)
                assert got.name == "total"
                assert torch.equal(got.value, wanted.value)
                assert all(torch.equal(x, y) for x, y in zip(sums, wanted_sums, strict=True))
    assert len(quick.recordings) == 4


def test_it_follows_weights_that_change_in_place_and_never_calls_the_function_again():
    layer, calls = nn.Linear(3, 2), []

    def forward(x: Tensor) -> Tensor:
        calls.append(1)
        return layer(x)

    quick = Recorded(forward, after=2)
    for _ in range(6):
        x = torch.randn(5, 3)
        assert torch.equal(quick(x), layer(x))
        layer.weight.data.mul_(1.5)
        layer.load_state_dict({"weight": layer.weight + 1, "bias": layer.bias})
    assert len(calls) == 3  # twice as it is, and once to be recorded


def test_changes_in_place_are_made_and_equal_operations_between_them_are_not_one():
    counter = torch.zeros(3)

    def count(x: Tensor) -> tuple[Tensor, Tensor]:
        before = counter + x
        counter.add_(1)
        return before, counter + x

    quick, x = Recorded(count, after=0), torch.ones(3)
    quick(x)
    start = counter.clone()  # recording runs it, and so does the first use
    before, after = quick(x)
    assert torch.equal(before, start + 1)
    assert torch.equal(after, start + 2)


def test_random_numbers_are_drawn_anew_and_each_for_itself():
    quick, x = Recorded(lambda x: (torch.rand_like(x), torch.rand_like(x)), after=0), torch.ones(50)
    (a, b), (c, d) = quick(x), quick(x)
    assert len({float(t.sum()) for t in (a, b, c, d)}) == 4


def test_what_depends_on_values_stays_as_it_is():
    def sign(x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x

    quick = Recorded(sign, after=1)
    quick(torch.ones(2))
    with pytest.warns(UserWarning, match="not recorded"):
        assert float(quick(-torch.ones(2)).sum()) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert float(quick(torch.ones(2)).sum()) == 2


def operations(function, *tensors: Tensor) -> list[str]:
    """The names of what is left of a function once it is recorded and simplified."""
    module = make_fx(function)(*tensors)
    constants = simplify(module, list(tensors))
    return [str(node.target) for node in module.graph.nodes if node.op == "call_function" and node not in constants]


WEIGHT, BIAS = torch.randn(4, 3), torch.randn(3)


@pytest.mark.parametrize(
    ("function", "left"),
    [
        (lambda x: x.unsqueeze(0).expand(5, -1, -1).transpose(1, 2), ["aten.as_strided.default"]),
        (lambda x: x[1:].unsqueeze(0), ["aten.slice.Tensor", "aten.unsqueeze.default"]),  # begins elsewhere
        (lambda x: [half.t() for half in x.split(1)], ["aten.split.Tensor"] + 2 * GET + 2 * ["aten.t.default"]),
        (lambda x: x * torch.ones_like(x) + torch.zeros_like(x) * 3, ["aten.add.Tensor"]),
        (lambda x: x[:, :1] * torch.ones_like(x), ["aten.slice.Tensor", "aten.mul.Tensor"]),  # of another shape
        (lambda x: x.double() * torch.ones(1), ["aten._to_copy.default"]),
        (lambda x: (BIAS + x @ WEIGHT).relu(), ["aten.mm.default", "aten.add.Tensor", "aten.relu.default"]),
        (lambda x: torch.addmm(BIAS, x, WEIGHT).relu(), ["aten._addmm_activation.default"]),
        (both, ["aten.addmm.default", "aten.relu.default"]),
    ],
    ids=["views", "elsewhere", "parts", "ones", "of another shape", "one", "sum", "product", "product used twice"],
)
def test_what_is_left_of_it(function, left):
    """And it gives the same."""
    x = torch.randn(2, 4)
    assert operations(function, x) == left
    quick = Recorded(function, after=0)
    for _ in range(3):
        x = torch.randn(2, 4)
        got, wanted = quick(x), function(x)
        pairs = [(got, wanted)] if isinstance(wanted, Tensor) else zip(got, wanted, strict=True)
        for ours, eager in pairs:
            assert torch.equal(ours, eager)
            assert (ours.shape, ours.stride(), ours.dtype) == (eager.shape, eager.stride(), eager.dtype)


def test_only_where_it_helps():
    assert isinstance(recorded(function, torch.device("cpu")), Recorded)
    assert recorded(function, torch.device("meta")) is function


A, B = 3, 6


def make_learner(head: str, rule: str, **options) -> Learner:
    torch.manual_seed(0)
    torso = MLP((5,), hidden=(8,))
    online = QNetwork(torso, make_head(head, in_features=torso.out_features, num_actions=A, support=(-5.0, 5.0)))
    settings = {"lr": 1e-2, "adam_eps": 1e-8, "max_grad_norm": 0.5, "target_every_updates": 3, "seed": 1}
    return Learner(online, TARGET_RULES[rule], **{**settings, **options})


def make_batch(generator: torch.Generator, shape=(5,)) -> Batch:
    def normal(*size: int) -> Tensor:
        return torch.randn(size, generator=generator)

    action, next_action = (torch.randint(A, (B,), generator=generator) for _ in range(2))
    mask = torch.rand(B, A, generator=generator) < 0.7
    mask[:, 0] = True
    discount = 0.9 * (normal(B) > 0)
    return Batch(normal(B, *shape), action, normal(B), discount, normal(B, *shape), normal(B) ** 2, next_action, mask)


def check_equal(learner: Learner, updates: int, shape=(5,)) -> None:
    """The same updates with and without recording: losses, and weights to the bit."""
    quick = copy.deepcopy(learner)
    quick.gradient_of = Recorded(quick.differentiate, after=1)
    learner.gradient_of = learner.differentiate
    generator = torch.Generator().manual_seed(3)
    for _ in range(updates):
        batch = make_batch(generator, shape)
        ours, wanted = quick.update(batch), learner.update(batch)
        assert torch.equal(ours.losses, wanted.losses)
        assert torch.equal(ours.td_error, wanted.td_error)
        assert torch.equal(ours.prediction.mean(), wanted.prediction.mean())
        assert torch.equal(ours.prediction.loss(ours.goal), wanted.prediction.loss(wanted.goal))
        assert quick.grad_norm() == learner.grad_norm()
    assert len(quick.gradient_of.recordings) == 1
    states = [list(module.online.state_dict().values()) for module in (quick, learner)]
    assert all(torch.equal(x, y) for x, y in zip(*states, strict=True))
    assert any(not torch.equal(x, y) for x, y in zip(states[0], learner.target.state_dict().values(), strict=True))


@pytest.mark.parametrize("rule", TARGET_RULES)
@pytest.mark.parametrize("head", HEADS)
def test_updates_of_every_head_and_rule(head, rule):
    check_equal(make_learner(head, rule), 10)


def test_updates_with_regularizers_and_without_clipping():
    options = {"regularizers": {"cql": CQL(alpha=0.3), "dr3": DR3(coefficient=0.1)}, "max_grad_norm": None}
    check_equal(make_learner("hl_gauss", "double_q_learning", optimizer="radam", **options), 10)


def test_updates_with_spectral_norm():
    """Whose estimates are buffers, changed in place before every update, and a convolution's gradient has an order."""
    torch.manual_seed(0)
    torso = ImpalaCNN((2, 12, 12), width=1, spectral_norm=True)
    online = QNetwork(torso, make_head("mse", in_features=torso.out_features, num_actions=A, support=(-5.0, 5.0)))
    rule = TARGET_RULES["q_learning"]
    learner = Learner(online, rule, lr=1e-3, adam_eps=1e-8, max_grad_norm=1.0, target_every_updates=4, seed=0)
    check_equal(learner, 6, (2, 12, 12))
