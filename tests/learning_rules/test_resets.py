"""Resets: which weights are which afterwards, and that nothing but the run's seed and their number decides them."""

import copy

import numpy as np
import pytest
import torch

from agents.agent import Transition, make_regularizers
from agents.config import RunConfig
from agents.dqn import DQN
from agents.networks.base import shrink_and_perturb
from agents.networks.qnetwork import EnvSpec, make_network
from agents.running.stopwatch import Stopwatch

SPEC = EnvSpec((4,), "float32", 3, has_action_mask=False)
SETTINGS = {
    "torso.hidden": [6],
    "agent.batch_size": 4,
    "agent.learn_after_steps": 4,
    "agent.replay_ratio": 1.0,
    "agent.target_tau": 0.5,
    "agent.target_every_updates": 1,
    "agent.normalize_obs": True,
    "resets.every_updates": 5,
    "resets.shrink": 0.3,
}


def make_agent(**overrides):
    config = RunConfig.parse({"env": {"id": "catch", "support": [-4.0, 4.0]}, "torso": "mlp"})
    return DQN(config.with_overrides(SETTINGS).with_overrides(overrides), SPEC, Stopwatch())


def play(agent, updates):
    """Made-up transitions until so many updates are made."""
    rng, never = np.random.default_rng(0), np.zeros(1, bool)
    obs = rng.normal(size=(1, 4)).astype(np.float32)
    while agent.learner.num_updates < updates:
        next_obs = rng.normal(size=(1, 4)).astype(np.float32)
        agent.act(obs)
        agent.observe(Transition(obs, np.array([1]), rng.normal(size=1), never, never, next_obs, None, None))
        agent.learn()
        obs = next_obs


@pytest.mark.parametrize("head", ["mse", "c51", "iqn"])
@pytest.mark.parametrize("output_layer", ["linear", "noisy_dueling"])
def test_what_a_reset_makes_of_the_weights(head, output_layer):
    """Before it: a twin without resets, equal up to there."""
    names = {"head": head, "output_layer": {"name": output_layer, "hidden": 5}}
    agent, twin = make_agent(**names), make_agent(**names, **{"resets.every_updates": 1_000})
    for number in (1, 2):
        play(agent, 5 * number)
        if number == 1:
            play(twin, 5)
        before = {"online": twin.learner.online, "target": twin.learner.target}
        for name, old in before.items():
            new = getattr(agent.learner, name)
            fresh = make_network(agent.config, SPEC, f"weights of reset {number}: {name}")
            for p, was, drawn in zip(*(m.torso.parameters() for m in (new, old, fresh)), strict=True):
                torch.testing.assert_close(p.double(), 0.3 * was.double() + 0.7 * drawn.double(), rtol=1e-5, atol=1e-7)
            for p, drawn in zip(new.head.parameters(), fresh.head.parameters(), strict=True):
                assert torch.equal(p, drawn)
        assert not torch.equal(agent.learner.online.torso.layers[1].weight, agent.learner.target.torso.layers[1].weight)
        assert all(not tensor.any() for tensors in agent.learner.optimizer.state_dict().values() for tensor in tensors)
        assert agent.online.normalizer.count == twin.online.normalizer.count > 0
        assert agent.metrics()["replay/resets"] == agent.resets.count() == number
        assert agent.resets.updates_since() == agent.updates_since_reset() == 0
        twin.load_state_dict(copy.deepcopy(agent.state_dict()))
        play_on(agent, twin, 5 * number + 4)


def test_a_transition_model_is_part_of_the_encoder():
    """It is shrunk and perturbed, and the predictor begins anew, as projection and head do."""
    options = {"head": "mse", "output_layer.hidden": 5, "regularizers.self_prediction.steps": 2}
    agent, twin = make_agent(**options), make_agent(**options, **{"resets.every_updates": 1_000})
    play(agent, 5)
    play(twin, 5)
    new, old = (a.learner.td_loss.regularizers["self_prediction"] for a in (agent, twin))
    part = "weights of reset 1: regularizers"
    fresh = make_regularizers(agent.config, agent.online, SPEC, part)["self_prediction"]
    for p, was, drawn in zip(*(r.transition.parameters() for r in (new, old, fresh)), strict=True):
        torch.testing.assert_close(p.double(), 0.3 * was.double() + 0.7 * drawn.double(), rtol=1e-5, atol=1e-7)
    assert all(torch.equal(p, q) for p, q in zip(new.predictor.parameters(), fresh.predictor.parameters(), strict=True))
    begun = make_regularizers(agent.config, agent.online, SPEC)["self_prediction"]
    assert not torch.equal(begun.predictor.weight, new.predictor.weight)


def play_on(agent, twin, updates):
    """Both learn from the same batches; the first forgets nothing until `updates`."""
    while agent.learner.num_updates < updates:
        batch, _ = agent.replay.sample(4)
        agent.learner.update(batch)
        twin.learner.update(batch)
    batch, _ = agent.replay.sample(4)
    agent.learner.update(batch)
    twin.learner.update(batch)
    agent.resets.after_update()


def test_the_optimiser_begins_anew():
    """Adam's first step after a reset moves every weight that has a gradient by about the learning rate."""
    agent = make_agent(**{"head": "mse", "agent.lr": 1e-3, "agent.adam_eps": 1e-12})
    play(agent, 5)
    before = agent.online.head.output.last.bias.detach().clone()
    play(agent, 6)
    moved = (agent.online.head.output.last.bias.detach() - before).abs()
    torch.testing.assert_close(moved[1], torch.tensor(1e-3), rtol=1e-3, atol=0)
    assert {int(steps) for steps in agent.learner.optimizer.steps} == {1}


def test_torchs_own_generator_has_no_part_in_it():
    agents = []
    for seed in (0, 1):
        agents.append(make_agent())
        play(agents[-1], 4)
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        play(agents[-1], 5)
        assert torch.equal(torch.get_rng_state(), before)
    weights = [agent.learner.weights() for agent in agents]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize("shrink", [0.0, 0.25, 1.0])
def test_shrink_and_perturb_leaves_buffers(shrink):
    module, fresh = torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2)
    with torch.no_grad():
        module.weight.fill_(8.0)
        fresh.weight.fill_(4.0)
        fresh.running_mean.fill_(9.0)
    shrink_and_perturb(module, fresh, shrink)
    assert module.weight.tolist() == [4 + 4 * shrink] * 2
    assert module.running_mean.tolist() == [0.0, 0.0]
    assert fresh.weight.tolist() == [4.0, 4.0]


def test_the_plan_counts_them():
    assert ", 199 resets" in make_agent(**{"steps": 1_003}).plan()
    assert "resets" not in make_agent(**{"resets": None}).plan()


@pytest.mark.parametrize("network", ["online", "target"])
def test_who_acts(network):
    """A target that has not followed yet, and an online network that has learned to prefer another action."""
    agent = make_agent(**{"agent.acting_network": network, "head": "mse", "exploration": "greedy", "resets": None})
    with torch.no_grad():
        agent.learner.target.head.output.last.bias.copy_(torch.tensor([0.0, 9.0, 0.0]))
        agent.online.head.output.last.bias.copy_(torch.tensor([0.0, 0.0, 9.0]))
    obs = np.zeros((1, 4), np.float32)
    assert agent.act(obs).tolist() == [1 if network == "target" else 2]
    assert agent.actor is getattr(agent.learner, network)
