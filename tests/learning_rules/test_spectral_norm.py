"""Power iteration belongs to updates: one step before each, none while acting, and the target copies its result."""

import io

import torch
from torch.nn import functional

from agents.learning.batch import Batch
from agents.learning.learner import Learner
from agents.learning.targets import TARGET_RULES
from agents.networks.impala import ImpalaCNN
from agents.networks.qnetwork import QNetwork
from value_heads import make_head


def make_learner(seed=0, **options):
    torch.manual_seed(seed)
    torso = ImpalaCNN((1, 6, 6), spectral_norm=True)
    head = make_head("mse", in_features=torso.out_features, num_actions=2, support=(-1, 1))
    settings = {"lr": 0.01, "adam_eps": 1e-8, "max_grad_norm": None, "target_every_updates": 3, "target_tau": 1.0}
    return Learner(QNetwork(torso, head), TARGET_RULES["double_q_learning"], **settings | options, seed=0)


def make_batch(seed=0):
    g = torch.Generator().manual_seed(seed)
    obs, next_obs = torch.rand(2, 4, 1, 6, 6, generator=g)
    action = torch.randint(2, (4,), generator=g)
    return Batch(obs, action, torch.randn(4, generator=g), torch.ones(4), next_obs, torch.ones(4))


def vectors(network):
    return {name: buffer.clone() for name, buffer in network.named_buffers()}


def equal(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_one_step_in_an_update_and_none_outside():
    """Double Q-learning passes the online network twice and the target once: still one step, and of one of them."""
    learner = make_learner(target_every_updates=100)
    before, target = vectors(learner.online), vectors(learner.target)
    assert len(before) == 2 * 12
    weights = {name: p.detach().clone() for name, p in learner.online.named_parameters()}
    learner.online(make_batch().obs)
    assert equal(vectors(learner.online), before)

    learner.update(make_batch())

    for name, buffer in learner.online.named_buffers():
        if name.endswith(".u"):
            kernel, v = weights[name[:-1] + "weight"].flatten(1), before[name[:-1] + "v"]
            assert torch.equal(buffer, functional.normalize(kernel @ v, dim=0)), name
    assert equal(vectors(learner.target), target)


def test_the_target_copies_them_when_it_follows():
    learner = make_learner(target_every_updates=2, target_tau=0.5)
    begun = vectors(learner.target)
    learner.update(make_batch(1))
    assert equal(vectors(learner.target), begun)
    learner.update(make_batch(2))
    assert equal(vectors(learner.target), vectors(learner.online))
    assert not equal(vectors(learner.target), begun)


def test_it_goes_on_from_its_state():
    straight, resumed = make_learner(), make_learner(seed=5)
    straight.update(make_batch(1))
    file = io.BytesIO()
    torch.save(straight.state_dict(), file)
    resumed.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    for number in range(2, 5):
        left, right = straight.update(make_batch(number)), resumed.update(make_batch(number))
        assert torch.equal(left.losses, right.losses)
    assert equal(straight.online.state_dict(), resumed.online.state_dict())
    assert equal(straight.target.state_dict(), resumed.target.state_dict())
