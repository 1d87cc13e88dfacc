"""PQN: what a rollout becomes, and how it is learned from. T steps, N environments."""

import numpy as np
import pytest
import torch

from agents.agent import Transition
from agents.config import RunConfig
from agents.networks.qnetwork import EnvSpec
from agents.pqn import PQN
from agents.running.stopwatch import Stopwatch
from agents.tables import ConfigError

T, N, GAMMA, LAMBDA = 6, 2, 0.9, 0.6
SPEC = EnvSpec((3,), "float32", 4, False)


def make(**overrides):
    config = RunConfig.parse({
        "steps": 1_000,
        "env": {"id": "catch", "num_envs": N, "support": [-5.0, 5.0]},
        "torso": "mlp",
        "agent": {
            "name": "pqn",
            "gamma": GAMMA,
            "trace_decay": LAMBDA,
            "rollout_steps": T,
            "num_minibatches": 4,
            "num_epochs": 3,
        },
    })  # fmt: skip
    return PQN(config.with_overrides(overrides), SPEC, Stopwatch())


def play(agent, seed=0, steps=T):
    """Fabricated decisions: environment 0 ends terminally at step 2, environment 1 is cut off at step 3."""
    rng = np.random.default_rng(seed)
    seen, obs = [], rng.normal(size=(N, 3)).astype(np.float32)
    for t in range(steps):
        action, next_obs = agent.act(obs), rng.normal(size=(N, 3)).astype(np.float32)
        terminal, done = np.array([t == 2, False]), np.array([t == 2, t == 3])
        step = Transition(obs, action, rng.normal(size=N).astype(np.float32), terminal, done, next_obs, None, None)
        agent.observe(step)
        seen.append((step, agent.q_values.max(-1)))
        obs = np.where(done[:, None], rng.normal(size=(N, 3)).astype(np.float32), next_obs)
    agent.act(obs)  # as a run does before it learns
    return seen


def n_step_mixture(seen, agent, env, t):
    """The lambda-return by its definition, (1 - lambda) sum_n lambda**(n-1) G^(n) + the last with what is left."""
    total, weight, discounted, factor = 0.0, 1.0, 0.0, 1.0
    for k in range(t, T):
        step, _ = seen[k]
        discounted += factor * step.reward[env]
        factor *= GAMMA
        if step.terminal[env]:
            value = 0.0
        elif step.done[env]:
            value = agent.online(torch.from_numpy(step.next_obs[env][None])).mean().max().item()
        else:
            value = seen[k + 1][1][env] if k + 1 < T else agent.q_values[env].max()
        last = step.done[env] or k == T - 1
        total += (weight if last else weight * (1 - LAMBDA)) * (discounted + factor * value)
        weight *= LAMBDA
        if last:
            return total
    raise AssertionError


def test_returns_are_those_of_the_definition():
    agent = make()
    seen = play(agent)
    batch = agent.make_batch(torch.from_numpy(agent.q_values.max(-1)).float())
    expected = [n_step_mixture(seen, agent, env, t) for t in range(T) for env in range(N)]
    # Sums of up to six float32 products of numbers of the size of 1.
    np.testing.assert_allclose(batch.reward.numpy(), expected, atol=2e-6)
    assert (batch.discount == 0).all(), "the return is whole: nothing more is bootstrapped"
    flat = [(step.obs[env], step.action[env]) for step, _ in seen for env in range(N)]
    assert all((batch.obs[i].numpy() == obs).all() and batch.action[i] == a for i, (obs, a) in enumerate(flat))


def test_every_decision_is_learned_from_once_in_every_epoch(monkeypatch):
    agent = make()
    seen = play(agent)
    batches = []
    monkeypatch.setattr(agent.learner, "update", lambda batch: batches.append(batch))
    agent.learn()
    assert len(batches) == 3 * 4
    every = sorted(step.obs[env].tolist() for step, _ in seen for env in range(N))
    orders = []
    for epoch in range(3):
        obs = torch.cat([b.obs for b in batches[4 * epoch : 4 * epoch + 4]]).tolist()
        assert sorted(obs) == every
        orders.append(obs)
    assert orders[0] != orders[1]
    agent.learn()
    assert len(batches) == 12, "the rollout is learned from, and a new one begins"


def test_nothing_is_learned_before_a_rollout_is_complete():
    agent = make()
    play(agent, steps=T - 1)
    agent.learn()
    assert agent.learner.num_updates == 0


def test_there_is_no_target_network():
    agent = make()
    assert agent.learner.target is agent.learner.online


@pytest.mark.parametrize(("decay", "rate"), [(False, 0.5), (True, 0.5 * (1 - 2 * T / 1_000))])
def test_the_learning_rate_may_fall_to_0_over_the_run(decay, rate):
    agent = make(**{"agent.lr": 0.5, "agent.lr_decay": decay})
    play(agent)
    agent.learn()
    assert agent.learner.optimizer.lr == pytest.approx(rate)


def test_an_episode_that_is_cut_from_outside_bootstraps_there():
    """A world that cannot be replayed on resume: its last observation is where the return is cut."""
    agent = make()
    play(agent, steps=3)
    obs = np.array([0.5, -1.0, 2.0], np.float32)
    agent.cut(1, obs)
    with torch.no_grad():
        value = agent.online(torch.from_numpy(obs[None])).mean().max()
    assert bool(agent.rollout[-1]["episode_end"][1])
    assert agent.rollout[-1]["final_value"][1] == value
    assert not agent.rollout[-2]["episode_end"][1]


def test_an_illegal_action_has_no_value_where_an_episode_was_cut():
    agent = make()
    mask = np.array([[True, False, False, False], [False, True, False, False]])
    obs = np.zeros((N, 3), np.float32)
    agent.act(obs)
    done, end = np.array([True, True]), np.array([False, False])
    agent.observe(Transition(obs, np.zeros(N, np.int64), np.zeros(N, np.float32), end, done, obs, mask, None))
    with torch.no_grad():
        q_values = agent.online(torch.from_numpy(obs)).mean()
    assert torch.equal(agent.rollout[0]["final_value"], q_values[[0, 1], [0, 1]])


def test_an_illegal_action_has_no_value_where_an_episode_is_cut_from_outside():
    agent, obs, never = make(), np.zeros((N, 3), np.float32), np.array([False, False])
    with torch.no_grad():
        q_values = agent.online(torch.from_numpy(obs[:1])).mean()
    worst = int(q_values[0].argmin())
    mask = np.arange(4) == worst
    agent.act(obs)
    agent.observe(
        Transition(obs, np.zeros(N, np.int64), np.zeros(N, np.float32), never, never, obs, np.stack([mask, mask]), None)
    )
    agent.cut(0, obs[0])
    assert agent.rollout[0]["final_value"][0] == q_values[0, worst]


def test_regularizers_are_refused():
    """They want what a rollout does not keep: the successors, and which actions were legal."""
    with pytest.raises(ConfigError, match=r"has no use for \[regularizers\]"):
        RunConfig.preset("pqn_catch", {"regularizers.cql.alpha": 0.1})


def test_a_rollout_that_cannot_be_shared_out_is_refused():
    with pytest.raises(ConfigError, match=r"agent.num_minibatches: 12 decisions of a rollout \(6 steps of 2"):
        make(**{"agent.num_minibatches": 5})


def test_the_plan():
    assert make().plan() == "12 updates of 3 per 12 steps = 996"
    assert (
        make(steps=10).plan().endswith("= 0\nwarning: the run ends before its first rollout does: nothing is learned")
    )


def test_every_member_of_an_ensemble_has_its_own_returns():
    """By the definition, with the values of that member alone; acting and what is drawn are the same for all."""
    agent, members = make(**{"head.members": 3}), 3
    rng = np.random.default_rng(0)
    seen, values, obs = [], [], rng.normal(size=(N, 3)).astype(np.float32)
    for t in range(T + 1):
        action = agent.act(obs)
        with torch.no_grad():
            values.append(agent.online(torch.from_numpy(obs)).by_member().max(-1).values.numpy())
        np.testing.assert_allclose(agent.by_member.max(-1), values[-1], rtol=1e-6)
        if t == T:
            break
        next_obs = rng.normal(size=(N, 3)).astype(np.float32)
        terminal, done = np.array([t == 2, False]), np.array([t == 2, t == 3])
        seen.append(Transition(obs, action, rng.normal(size=N), terminal, done, next_obs, None, None))
        agent.observe(seen[-1])
        obs = np.where(done[:, None], rng.normal(size=(N, 3)).astype(np.float32), next_obs)
    batch = agent.make_batch(torch.from_numpy(agent.by_member.max(-1)).flatten())
    assert batch.reward.shape == (T * N, members)
    for m in range(members):
        following = values[T][m]
        for t in reversed(range(T)):
            step, value = seen[t], values[t + 1][m].copy()
            for env in np.flatnonzero(step.done & ~step.terminal):
                with torch.no_grad():
                    final = agent.online(torch.from_numpy(step.next_obs[env][None])).by_member()[m].max()
                value[env] = following[env] = final
            mixed = (1 - LAMBDA) * value + LAMBDA * following if t < T - 1 else value
            following = step.reward + GAMMA * ~step.terminal * mixed
            found = batch.reward[t * N : t * N + N, m].numpy()
            np.testing.assert_allclose(found, following, atol=2e-6)  # float32 sums of numbers of the size of 1
    before = [p.detach().clone() for p in agent.online.head.each.output.parameters()]
    agent.learn()
    assert agent.learner.num_updates == 12
    assert all((p != q).any() for p, q in zip(before, agent.online.head.each.output.parameters(), strict=True))
    obs = np.array([0.5, -1.0, 2.0], np.float32)
    play(agent, steps=3)
    agent.cut(1, obs)
    with torch.no_grad():
        final = agent.online(torch.from_numpy(obs[None])).by_member().max(-1).values[:, 0]
    assert torch.equal(agent.rollout[-1]["final_value"].view(members, N)[:, 1], final)


def test_a_member_learns_from_its_share_of_a_rollout():
    agent = make(**{"head.members": 40, "agent.bootstrap_probability": 0.25})
    play(agent)
    mask = agent.make_batch(torch.from_numpy(agent.by_member.max(-1)).float().flatten()).bootstrap_mask
    assert mask.shape == (T * N, 40)
    assert abs(mask.float().mean() - 0.25) < 4 * (0.25 * 0.75 / mask.numel()) ** 0.5
    assert (mask[0] != mask[1]).any()
