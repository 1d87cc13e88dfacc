"""Does every recipe learn with every head? Two updates on made-up transitions of the right shape, narrow networks.

T vector steps, N environments.
"""

import math

import numpy as np
import pytest
import torch

from agents.agent import Transition
from agents.components import KINDS
from agents.config import RunConfig
from agents.networks.qnetwork import EnvSpec
from agents.presets import preset_names
from agents.replay.uniform import UniformReplay
from agents.running import dataset
from agents.running.stopwatch import Stopwatch
from value_heads import HEADS

T, N = 24, 2
SEEN = {  # smaller than a game of Atari, but 57x57 is the least that every encoder takes
    "ALE/Pong-v5": EnvSpec((4, 57, 57), "uint8", 6, has_action_mask=False),
    "minatar/asterix": EnvSpec((10, 10, 4), "bool", 5, has_action_mask=False),
    "CartPole-v1": EnvSpec((4,), "float32", 2, has_action_mask=False),
    "catch": EnvSpec((10, 5), "float32", 3, has_action_mask=False),
    "recall": EnvSpec((5,), "float32", 4, has_action_mask=False),
    "deep_sea": EnvSpec((10, 10), "float32", 2, has_action_mask=False),
}
TINY = {"device": "cpu", "env.num_envs": N}
OF_REPLAY = {
    "agent.batch_size": 4,
    "agent.learn_after_steps": 8,
    "agent.replay_ratio": 1 / N,
    "agent.target_every_updates": 1,
    "replay.capacity_steps": N * T,
}
TINY_AGENTS = {
    "dqn": OF_REPLAY,
    "pqn": {"agent.rollout_steps": 4, "agent.num_epochs": 1, "agent.num_minibatches": 2},
    "r2d2": {
        **OF_REPLAY,
        "agent.lstm_size": 8,
        "replay.burn_in_steps": 2,
        "replay.trace_steps": 4,
        "replay.period_steps": 2,
    },
    "cql": {"agent.batch_size": 4, "agent.target_every_updates": 1},
}
LOSSES = {"dqn": 4, "pqn": N * 4 // 2, "r2d2": 4 * 4, "cql": 4}  # of an update
TINY_TORSOS = {
    "mlp": {"torso.hidden": [8]},
    "cnn": {"torso.channels": [2]},
    "impala": {"torso.width": 1},
    "soft_moe": {"torso.num_experts": 2, "torso.hidden": 8},
}
TINY_HEADS = {
    "quantile": {"head.num_quantiles": 8},
    "iqn": {f"head.num_{what}": 4 for what in ("taus", "target_taus", "acting_taus", "cosines")},
}
RECIPES = preset_names()
OWN = {name: RunConfig.preset(name).head.name for name in RECIPES}
OTHER = {name: "c51" if own == "iqn" else "iqn" for name, own in OWN.items()}
ALL = [(name, head) for name in RECIPES for head in HEADS]
FAST = [pair for pair in ALL if pair[1] in (OWN[pair[0]], OTHER[pair[0]])]


def tiny(name, head):
    """The recipe with another head, its parts as small as they go and everything else as it is."""
    config = RunConfig.preset(name, {"head": head} if head != OWN[name] else {})
    small = TINY | TINY_AGENTS[config.agent.name] | TINY_TORSOS.get(config.torso.name, {}) | TINY_HEADS.get(head, {})
    if config.output_layer.hidden is not None:
        small["output_layer.hidden"] = 8
    if config.env.support == "auto":
        small["env.support"] = [-10.0, 10.0]
    if config.annealing is not None:
        small["annealing.n_step_start"] = 5  # a whole transition earlier
    return config.with_overrides(small)


def made_up(spec, seed=0):
    """Transitions that go on from each other; one environment loses a life, and one is truncated."""
    rng = np.random.default_rng(seed)
    obs = rng.integers(0, 256 if spec.obs_dtype == "uint8" else 2, (T + 1, N, *spec.obs_shape)).astype(spec.obs_dtype)
    for t in range(T):
        never = np.zeros(N, bool)
        yield Transition(
            obs=obs[t],
            action=rng.integers(spec.num_actions, size=N),
            reward=rng.normal(size=N) * 3,
            terminal=np.array([t == 2, False]),
            done=np.array([False, t == 3]) if t == 3 else never,
            next_obs=obs[t + 1],
            next_mask=None,
            mask=None,
        )


def made_up_data(spec, path):
    """The same transitions as a data set, whose last row is where the episodes that go on are cut."""
    replay = UniformReplay(N * T, N, spec.obs_shape, getattr(torch, spec.obs_dtype))
    for t in made_up(spec):
        replay.add(t.obs, t.action, t.reward, t.terminal, t.done, t.next_obs)
    for env in np.flatnonzero(replay.age):
        replay.cut(int(env), t.next_obs[env])
    return dataset.write(path, replay, spec, {}).path


@pytest.mark.parametrize(("name", "head"), [p if p in FAST else pytest.param(*p, marks=pytest.mark.slow) for p in ALL])
def test_two_updates(name, head, tmp_path):
    config = tiny(name, head)
    spec = SEEN[config.env.id]
    if config.agent.name == "cql":
        config = config.with_overrides({"agent.dataset": str(made_up_data(spec, tmp_path / "data"))})
    agent = KINDS["agent"].find(config.agent.name)(config, spec, Stopwatch())
    before = [p.detach().clone() for p in agent.online.parameters()]
    for t in made_up(spec):
        assert agent.act(t.obs).shape == (N,)
        if agent.acts:
            agent.observe(t)
        agent.learn()
        if agent.learner.num_updates >= 2:
            break
    assert agent.learner.num_updates == 2
    after = list(agent.online.parameters())
    assert all(p.isfinite().all() for p in after)
    changed = [not torch.equal(p, q) for p, q in zip(before, after, strict=True)]
    assert changed[-1], "the last layer learns"
    assert np.mean(changed) > 0.9  # but for what ReLUs of a narrow layer keep from learning
    assert agent.last_update is not None
    assert agent.last_update.losses.shape == (LOSSES[config.agent.name],)
    assert all(math.isfinite(value) for value in agent.metrics().values())
    assert "updates of" in agent.plan() or "1 update of" in agent.plan()


def play(agent, spec, updates):
    """Everything that the agent chooses and predicts while it makes so many updates, or a few more."""
    seen, seed = [], 0
    while agent.learner.num_updates < updates:
        for t in made_up(spec, seed):
            seen.append(agent.act(t.obs).tolist())
            seen.append(agent.q_values.tolist())
            if agent.acts:
                agent.observe(t)
            agent.learn()
        seed += 1
    return seen


@pytest.mark.parametrize("updates", [8, pytest.param(1_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", [n for n in RECIPES if RunConfig.preset(n).agent.name != "r2d2"])
def test_a_recorded_run_is_the_same_to_the_bit(name, updates, tmp_path):
    """Acting and updates by recordings from the third on, and never: weights, optimiser, actions and values."""
    config = tiny(name, OWN[name])
    spec = SEEN[config.env.id]
    if config.agent.name == "cql":
        config = config.with_overrides({"agent.dataset": str(made_up_data(spec, tmp_path / "data"))})
    quick, plain = (KINDS["agent"].find(config.agent.name)(config, spec, Stopwatch()) for _ in range(2))
    quick.values_of.after = quick.learner.gradient_of.after = 2
    plain.values_of, plain.learner.gradient_of = plain.predict, plain.learner.differentiate
    assert play(quick, spec, updates) == play(plain, spec, updates)
    assert len(quick.learner.gradient_of.recordings) == len(quick.values_of.recordings) == 1
    states = [agent.learner.state_dict() for agent in (quick, plain)]
    for part in ("online", "target"):
        assert all(torch.equal(x, states[1][part][key]) for key, x in states[0][part].items())
    ours, theirs = (state["optimizer"]["exp_avg_sqs"] for state in states)
    assert all(torch.equal(x, y) for x, y in zip(ours, theirs, strict=True))
