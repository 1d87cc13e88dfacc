"""Noise of noisy layers: where it is fresh, where it is not, and who draws it."""

import functools

import numpy as np
import pytest
import torch

from agents.config import RunConfig
from agents.dqn import DQN
from agents.learning.batch import Batch
from agents.learning.learner import Learner
from agents.learning.targets import TARGET_RULES
from agents.networks.output_layers import NoisyDuelingOutput
from agents.networks.qnetwork import EnvSpec, QNetwork
from agents.networks.torsos import MLP
from agents.running.stopwatch import Stopwatch
from value_heads import make_head
from value_heads.base import of_part

SPEC = EnvSpec((3,), "float32", 4, has_action_mask=False)


def make_learner(rule="double_q_learning", head="mse"):
    torch.manual_seed(0)
    output_layer = functools.partial(NoisyDuelingOutput, hidden=5)
    head = make_head(head, in_features=3, num_actions=4, support=(-4, 4), output_layer=output_layer)
    settings = {"lr": 1e-30, "adam_eps": 1e-8, "max_grad_norm": None, "target_every_updates": 100, "target_tau": 1.0}
    return Learner(QNetwork(MLP((3,), hidden=()), head), TARGET_RULES[rule], **settings, seed=0)


def make_batch(size=64):
    g = torch.Generator().manual_seed(0)
    return Batch(
        obs=torch.randn(size, 3, generator=g),
        action=torch.randint(4, (size,), generator=g),
        reward=torch.zeros(size),
        discount=torch.ones(size),
        next_obs=torch.randn(size, 3, generator=g),
        weight=torch.ones(size),
    )


def rows(noise):
    return torch.cat([noise[name] for name in sorted(noise)])


def test_prediction_target_and_choice_have_noise_of_their_own():
    learner = make_learner()
    draws, target = learner.online.head.draw(4, learner.generator, bootstrap=False), learner.target_draws(4)
    choice = of_part("choice", target)
    assert choice.keys() == draws.keys() == {k for k in target if not k.startswith("choice")}
    assert len(draws) == 4  # two layers in each of two streams
    numbers = torch.stack([rows(draws), rows({k: target[k] for k in draws}), rows(choice)])
    assert numbers.unique().numel() == numbers.numel()


def test_double_q_learning_chooses_with_noise_of_its_own():
    """Q_target(s', argmax_a Q_online(s', a; its noise); other noise), against four separate passes."""
    learner, batch = make_learner(), make_batch()
    with torch.no_grad():
        for p in learner.target.parameters():
            p.add_(torch.randn_like(p))
    draws = learner.target_draws(64)
    goal = TARGET_RULES["double_q_learning"](learner.online, learner.target, batch, draws)
    chosen = learner.online(batch.next_obs, of_part("choice", draws)).mean().argmax(-1)
    values = learner.target(batch.next_obs, {k: draws[k] for k in draws if not k.startswith("choice")}).mean()
    torch.testing.assert_close(goal.values, values.gather(1, chosen[:, None]))
    for other in (None, draws):  # no noise, or that of the target, would choose otherwise
        assert not torch.equal(learner.online(batch.next_obs, other).mean().argmax(-1), chosen)


@pytest.mark.parametrize("rule", TARGET_RULES)
def test_every_update_has_fresh_noise(rule):
    """The weights stand still (lr = 1e-30), so only noise can change losses and goals."""
    learner = make_learner(rule)
    batch = make_batch()._replace(next_action=torch.zeros(64, dtype=torch.int64))
    first, second = learner.update(batch), learner.update(batch)
    assert not torch.equal(first.goal.values, second.goal.values)
    assert not torch.equal(first.prediction.outputs, second.prediction.outputs)


def make_agent(output_layer, seed=1):
    config = RunConfig.parse(
        {
            "seed": seed,
            "env": {"id": "catch", "support": [-1, 1]},
            "head": {"name": "iqn"},
            "torso": {"name": "mlp", "hidden": [8]},
            "output_layer": {"name": output_layer, "hidden": 8},
            "exploration": {"epsilon_start": 0.0, "epsilon_end": 0.0},
        }
    )
    return DQN(config, SPEC, Stopwatch())


@pytest.mark.parametrize("output_layer", ["dueling", "noisy", "noisy_dueling"])
def test_acting(output_layer):
    """Other noise in every step where the layer is noisy, and none in what is evaluated; never IQN's random taus."""
    agent, obs = make_agent(output_layer), np.full((1, 3), 0.5, np.float32)
    values = []
    for _ in range(20):
        agent.act(obs)
        values.append(float(agent.q_values.max()))
    assert len(set(values)) == (20 if "noisy" in output_layer else 1)
    before = agent.generator.get_state()
    agent.act(obs)
    same = torch.equal(before, agent.generator.get_state())
    assert same == ("noisy" not in output_layer)


def test_acting_goes_on_from_its_state():
    straight, resumed = make_agent("noisy_dueling"), make_agent("noisy_dueling", seed=2)
    obs = np.full((1, 3), 0.5, np.float32)
    straight.act(obs)
    resumed.load_state_dict(straight.state_dict())
    for _ in range(3):
        straight.act(obs), resumed.act(obs)
        assert straight.q_values.max() == resumed.q_values.max()
