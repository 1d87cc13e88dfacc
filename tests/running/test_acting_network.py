"""The network that acts in training is the one that is evaluated, saved as the policy, and loaded again."""

import numpy as np
import pytest
import torch

from agents import load, train
from agents.running import checkpoint
from agents.running.progress import Silent
from agents.running.setup import build

ACTING = {"agent.target_tau": 0.01, "agent.target_every_updates": 1, "steps": 120, "evaluation.every_steps": 120}


@pytest.mark.parametrize("network", ["online", "target"])
@pytest.mark.parametrize("agent", ["dqn", "r2d2"])
def test_the_policy_is_what_acts(agent, network, small, tmp_path):
    overrides = ACTING | {"agent.acting_network": network}
    if agent == "r2d2":
        overrides |= {"agent.name": "r2d2", "agent.lstm_size": 4}
        overrides["replay"] = {"name": "sequences", "burn_in_steps": 0, "trace_steps": 4, "period_steps": 4}
    config = small(overrides=overrides)
    train(config, tmp_path)
    last = torch.load(checkpoint.found(tmp_path)[-1], weights_only=True)
    learner, other = last["agent"]["learner"], {"online": "target", "target": "online"}[network]
    policy = load(tmp_path)  # best.pt, of the only evaluation, at the end
    assert policy.step == 120
    weights = policy.network.state_dict()
    assert all(torch.equal(weights[name], learner[network][name]) for name in weights)
    assert not all(torch.equal(weights[name], learner[other][name]) for name in weights)
    assert all(torch.equal(weights[name], last["policy"]["weights"][name]) for name in weights)
    run = build(config, tmp_path, Silent(1))
    run.load(checkpoint.found(tmp_path)[-1])
    if agent == "dqn":
        obs = np.random.default_rng(0).normal(size=(1, 10, 5)).astype(np.float32)
        run.agent.act(obs)
        assert run.agent.q_values.max() == pytest.approx(policy.q_values(obs).max().item(), rel=1e-6)
    run.venv.close()
