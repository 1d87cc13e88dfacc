"""Is bfloat16 where it is said to be, in the encoder's products, and nowhere else?"""

import pytest
import torch
from torch import nn

from agents.config import RunConfig
from agents.dqn import DQN
from agents.learning.batch import Batch
from agents.networks.impala import SpectralConv2d
from agents.networks.qnetwork import EnvSpec, make_network
from agents.running.stopwatch import Stopwatch

SPEC = EnvSpec((4, 44, 44), "uint8", 3, has_action_mask=False)
TORSOS = {
    "nature": {"name": "nature", "layer_norm": True},
    "impala": {"name": "impala", "spectral_norm": True, "pool": "max6", "renormalize": True},
}
every_torso = pytest.mark.parametrize("torso", TORSOS)


def config(torso, precision="bfloat16", **more):
    changes = {"torso": TORSOS[torso], "env.support": [-5.0, 5.0], "device": "cpu", "agent.precision": precision}
    return RunConfig.preset("dqn", changes | {"output_layer.hidden": 16, "replay.capacity_steps": 50} | more)


def make_batch(size=4):
    generator = torch.Generator().manual_seed(0)
    obs, next_obs = (torch.randint(0, 256, (size, *SPEC.obs_shape), generator=generator).to(torch.uint8) for _ in "ab")
    action, reward = torch.arange(size) % 3, torch.randn(size, generator=generator)
    return Batch(obs, action, reward, torch.full((size,), 0.9), next_obs, torch.ones(size))


def dtypes_of(module, kinds):
    """What the layers of a module are given and give, as they are called."""
    seen = {}
    for name, layer in module.named_modules():
        if isinstance(layer, kinds):
            layer.register_forward_hook(
                lambda _, given, out, name=name: seen.update({name: (given[0].dtype, out.dtype)})
            )
    return seen


@every_torso
def test_convolutions_are_in_bfloat16_and_heads_targets_and_losses_in_float32(torso):
    agent = DQN(config(torso, head="c51"), SPEC, Stopwatch())
    convolutions = dtypes_of(agent.online.torso, (nn.Conv2d, SpectralConv2d))
    of_target = dtypes_of(agent.learner.target.torso, (nn.Conv2d, SpectralConv2d))
    of_head = dtypes_of(agent.online.head, nn.Linear)
    update = agent.learner.update(make_batch())
    for seen in (convolutions, of_target):
        assert len(seen) >= 3
        assert {out for _, out in seen.values()} == {torch.bfloat16}
    assert {*of_head.values()} == {(torch.float32, torch.float32)}
    assert agent.online.features(make_batch().obs).dtype == torch.float32
    for tensor in (update.loss, update.losses, update.td_error, update.prediction.outputs, *update.goal):
        assert tensor.dtype == torch.float32
    assert agent.learner.last is not None
    assert {tensor.dtype for tensor in agent.learner.last.gradients} == {torch.float32}
    assert {tensor.dtype for tensor in agent.online.parameters()} == {torch.float32}


@every_torso
def test_it_is_close_to_float32(torso):
    """A bfloat16 has 8 bits: each product is off by 2**-9 at most of its size, and some ten layers add that up."""
    low, full = (make_network(config(torso, precision), SPEC) for precision in ("bfloat16", "float32"))
    obs = make_batch().obs
    got, wanted = low.features(obs), full.features(obs)
    assert 0 < (got - wanted).norm() < 0.03 * wanted.norm()


def test_the_largest_singular_value_is_in_float32():
    layer = SpectralConv2d(3, 5, 3, padding=1)
    with torch.autocast("cpu", torch.bfloat16):
        inside = layer.sigma()
    assert torch.equal(inside, layer.sigma())
    assert inside.dtype == torch.float32


def test_what_is_recorded_is_what_would_have_been_computed():
    agents = [DQN(config("nature", head="hl_gauss", **{"agent.lr": 1e-3}), SPEC, Stopwatch()) for _ in range(2)]
    agents[0].learner.gradient_of.after = 1
    agents[1].learner.gradient_of = agents[1].learner.differentiate
    for _ in range(3):
        ours, wanted = (agent.learner.update(make_batch()).losses for agent in agents)
        assert torch.equal(ours, wanted)
    assert agents[0].learner.gradient_of.recordings


def test_it_is_for_images():
    spec = EnvSpec((5,), "float32", 3, has_action_mask=False)
    with pytest.raises(ValueError, match=r"agent.precision 'bfloat16' is for nature, .*, got torso 'mlp'"):
        make_network(config("nature").with_overrides({"torso": "mlp"}), spec)
