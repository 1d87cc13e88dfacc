"""Is what a graph is launched for what would have been computed? With a graph that is played on a CPU, and on a GPU."""

import copy
import itertools
import warnings

import pytest
import torch
from torch import Tensor, nn

from agents.learning import captured
from agents.learning.batch import Batch
from agents.learning.captured import WARM_UP, Captured
from agents.learning.learner import Learner
from agents.learning.recorded import collect, recorded
from agents.learning.targets import TARGET_RULES
from agents.networks.qnetwork import QNetwork
from agents.networks.torsos import MLP
from value_heads import HEADS, make_head

A, B, CPU = 3, 6, torch.device("cpu")
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="wants a GPU")


def played(compute, device):
    """What `capture` is to a function: a launch computes from the same tensors, and writes where the results are."""
    assert device == CPU
    for _ in range(WARM_UP):
        compute()
    results, outputs, others = compute(), [], []
    collect(results, outputs, [])
    collect(compute(), others, [])
    made = [x.data_ptr() != y.data_ptr() for x, y in zip(outputs, others, strict=True)]  # not a buffer of a head's

    def launch():
        again: list[Tensor] = []
        with torch.inference_mode(mode=False), torch.enable_grad():
            collect(compute(), again, [])
        for to, source in itertools.compress(zip(outputs, again, strict=True), made):
            to.copy_(source)
        return results

    for output in itertools.compress(outputs, made):  # a captured graph has computed nothing yet
        output.fill_(0)
    return launch


@pytest.fixture
def on_a_cpu(monkeypatch):
    monkeypatch.setattr(captured, "capture", played)


def make_learner(head: str, device: torch.device = CPU) -> Learner:
    torch.manual_seed(0)
    torso = MLP((5,), hidden=(8,))
    head_of = make_head(head, in_features=torso.out_features, num_actions=A, support=(-5.0, 5.0))
    online = QNetwork(torso, head_of).to(device)
    settings = {"lr": 1e-2, "adam_eps": 1e-8, "max_grad_norm": 0.5, "target_every_updates": 3, "seed": 1}
    return Learner(online, TARGET_RULES["double_q_learning"], **settings)


def make_batch(generator: torch.Generator, size: int = B) -> Batch:
    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    action = torch.randint(A, (size,), generator=generator)
    return Batch(normal(size, 5), action, normal(size), 0.9 * (normal(size) > 0), normal(size, 5), normal(size) ** 2)


def check_equal(head: str, device: torch.device, updates: int, sizes: tuple[int, ...] = (B,), **tolerance: float):
    """Two learners on the same batches, one of which captures: the same losses, norms and weights."""
    eager, quick = make_learner(head, device), make_learner(head, device)
    eager.gradient_of = eager.differentiate
    quick.gradient_of = Captured(quick.differentiate, device, after=2)
    generator = torch.Generator().manual_seed(3)
    for update in range(updates):
        batch = make_batch(generator, sizes[update % len(sizes)]).to(device)
        ours, wanted = quick.update(batch), eager.update(batch)
        for x, y in [(ours.losses, wanted.losses), (ours.goal.mean(), wanted.goal.mean())]:
            torch.testing.assert_close(x, y, **tolerance)
        torch.testing.assert_close(quick.grad_norm(), eager.grad_norm(), **tolerance)
    assert quick.gradient_of.num_graphs == len(sizes)
    torch.testing.assert_close(quick.state_dict(), eager.state_dict(), **tolerance)


@pytest.mark.parametrize("head", HEADS)
def test_updates_of_every_head(head, on_a_cpu):
    check_equal(head, CPU, 12, atol=0, rtol=0)


def test_batches_of_two_sizes_have_a_graph_each(on_a_cpu):
    check_equal("iqn", CPU, 16, sizes=(4, 6), atol=0, rtol=0)


def test_a_resumed_learner_goes_on_as_if_never_interrupted_whenever_it_captures(on_a_cpu):
    """The random numbers are drawn outside of the graph, so none of them is drawn by warming up."""
    whole, resumed = make_learner("iqn"), make_learner("iqn")
    whole.gradient_of = Captured(whole.differentiate, CPU, after=1)
    generator = torch.Generator().manual_seed(5)
    batches = [make_batch(generator) for _ in range(10)]
    for batch in batches[:5]:
        whole.update(batch)
    resumed.load_state_dict(copy.deepcopy(whole.state_dict()))
    resumed.gradient_of = Captured(resumed.differentiate, CPU, after=2)
    for batch in batches[5:]:
        assert torch.equal(whole.update(batch).losses, resumed.update(batch).losses)
    torch.testing.assert_close(resumed.state_dict(), whole.state_dict(), atol=0, rtol=0)


def test_it_reads_arguments_from_places_of_its_own_and_writes_results_over_each_other(on_a_cpu):
    layer, given = nn.Linear(3, 2), torch.randn(5, 3)
    quick = Captured(lambda x: (layer(x).detach(), "fixed"), CPU, after=0)
    (first, name), wanted = quick(given), layer(given)
    assert torch.equal(first, wanted)
    assert name == "fixed"
    with torch.no_grad():
        layer.weight.mul_(2)
    other = torch.randn(5, 3)
    second, _ = quick(other)
    assert torch.equal(second, layer(other))
    assert second.data_ptr() == first.data_ptr()


def test_what_cannot_be_captured_is_called_as_it_is(monkeypatch):
    def refuse(compute, device):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(captured, "capture", refuse)
    quick = Captured(lambda x: x * 2, CPU, after=0)
    with pytest.warns(UserWarning, match="not captured in a CUDA graph.*not permitted"):
        assert float(quick(torch.ones(()))) == 2
    assert quick.num_graphs == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert float(quick(torch.tensor(3.0))) == 6


def test_a_copy_captures_for_itself(on_a_cpu):
    quick = Captured(nn.Linear(3, 2), CPU, after=0)
    quick(torch.ones(1, 3))
    twin = copy.deepcopy(quick)
    assert not twin.recordings
    with torch.no_grad():
        quick.function.weight.zero_()
        assert not torch.equal(twin(torch.ones(1, 3)), quick(torch.ones(1, 3)))


def test_it_is_chosen_on_a_gpu():
    quick = recorded(len, torch.device("cuda", 0))
    assert isinstance(quick, Captured)
    assert quick.device == torch.device("cuda", 0)


@gpu
@pytest.mark.parametrize("head", HEADS)
def test_a_graph_is_equal_to_what_it_was_captured_from(head):
    check_equal(head, torch.device("cuda"), 200, atol=1e-5, rtol=1e-4)
