"""Is nothing illegal ever done, by whoever acts? In a world where what is illegal looks best, and raises."""

import numpy as np
import pytest
import torch

from agents.config import RunConfig
from agents.exploration import EXPLORATIONS
from agents.networks.qnetwork import EnvSpec, make_network
from agents.running.camera import Camera, make_watched_env
from agents.running.clip import record as record_clip
from agents.running.evaluation import Policy, evaluate, load
from agents.running.record import record
from agents.running.run import Run
from agents.running.trainer import train
from value_heads.ensemble import EnsembleHead

ROOMS = np.eye(4, dtype=np.float32)
HATCH = 3  # the action of `doors` that never is legal
SPEC = EnvSpec((4,), "float32", 4, has_action_mask=True)
RUN = {
    "steps": 600,
    "evaluation": {"every_steps": 200, "num_episodes": 4, "final_episodes": 4},
    "env": {"id": "doors", "num_envs": 3, "support": [-14.0, 2.0]},
    "head": "mse",
    "torso": {"name": "mlp", "hidden": []},
}
REPLAYED = {"lr": 0.1, "batch_size": 16, "learn_after_steps": 50, "replay_ratio": 0.5, "n_step": 2}
SEQUENCES = {"name": "sequences", "burn_in_steps": 1, "trace_steps": 2, "period_steps": 1}
AGENTS = {
    "dqn": {"agent": {"name": "dqn", **REPLAYED}},
    "pqn": {"agent": {"name": "pqn", "lr": 0.1, "rollout_steps": 8, "num_minibatches": 2}},
    "r2d2": {"agent": {"name": "r2d2", **REPLAYED, "lstm_size": 8}, "replay": SEQUENCES},
}
every_agent = pytest.mark.parametrize("agent", AGENTS)


def doors(agent, overrides=None):
    return RunConfig.parse(RUN | AGENTS[agent]).with_overrides(overrides or {})


def tempt(network, by=50.0):
    """Let the hatch look best everywhere."""
    outputs = network.head.each.output.members if isinstance(network.head, EnsembleHead) else [network.head.output]
    with torch.no_grad():
        for output in outputs:
            output.last.bias[HATCH] += by


@pytest.mark.parametrize("exploration", EXPLORATIONS)
@every_agent
def test_exploring(agent, exploration):
    """Whether it takes the best or draws: and the value that is told of is one that can be had."""
    members = {"head.members": 3} if exploration == "bootstrapped" else {}
    run = Run(doors(agent, {"exploration.name": exploration, "steps": 1_000, **members}), None, None)  # pyright: ignore
    tempt(run.agent.online)
    for _ in range(40):
        run.advance()
        assert run.agent.q_values.max() < 25
    assert run.agent.learner.num_updates > 0


@pytest.mark.parametrize(("epsilon", "members"), [(0.0, 1), (0.5, 1), (1.0, 1), (0.0, 3)])
@every_agent
def test_playing(agent, epsilon, members):
    """Evaluation, and the film of a policy, which also bootstraps where an episode is cut."""
    config = doors(agent, {"env.max_steps": 2, "head.members": members})
    policy = Policy(make_network(config, SPEC), config, SPEC)
    tempt(policy.network)
    assert evaluate(policy, num_episodes=20, seed=1, epsilon=epsilon).mean < 0
    venv = make_watched_env(config, seed=0)
    clip = record_clip(policy, venv, Camera(venv, "here"), np.random.default_rng(0), episodes=5, epsilon=epsilon)
    assert HATCH not in [moment.action for moment in clip.moments]
    assert clip.realised.max() < 25


@pytest.mark.parametrize("agent", [*AGENTS, "cql"])
def test_a_whole_run(agent, tmp_path):
    """Training with its evaluations and the final score, the policy that comes of it, and what it records."""
    config = doors("dqn" if agent == "cql" else agent)
    train(config, tmp_path / "run")
    data = record(tmp_path / "run", tmp_path / "data", steps=60, epsilon=0.3, seed=0).dataset
    run_dir = tmp_path / "run"
    if agent == "cql":
        run_dir = tmp_path / "offline"
        settings = {"name": "cql", "dataset": str(data.path), "lr": 0.1}
        train(RunConfig.parse(RUN | {"steps": 100, "agent": settings, "regularizers": {"cql": {}}}), run_dir)
    policy = load(run_dir)
    policy.begin(4)
    legal = np.array([[False, True, True, False], [True, False, True, False]] * 2)
    assert (policy.q_values(ROOMS).argmax(-1) == HATCH).all(), "it still looks best"
    assert legal[range(4), policy.act(ROOMS, legal)].all()
    stored = np.load(data.path / "mask.npy")
    assert not stored[..., HATCH].any()
    assert (stored.sum(-1) == 2).all()
