"""Bootstrapped heads in the loop: who acts, who learns from what, and what is refused.

M members, N environments, B batch.
"""

import numpy as np
import pytest
import torch

from agents import load, train
from agents.config import RunConfig
from agents.replay.prioritized import PrioritizedReplay
from agents.replay.uniform import UniformReplay
from agents.running.record import record
from agents.running.run import Run
from agents.tables import ConfigError

M, N = 4, 3
ENSEMBLE = {"head.members": M, "head.name": "mse", "exploration.name": "bootstrapped", "env.num_envs": N}


def make_run(config):
    return Run(config, None, None)  # pyright: ignore


def test_each_environment_follows_one_member_for_an_episode(small):
    """Every action is that of one member, the same in all of an episode, and in the end every member had some."""
    run = make_run(small("CartPole-v1", {**ENSEMBLE, "env.support": [-1.0, 30.0], "agent.learn_after_steps": 10**6}))
    agent, replay = run.agent, run.agent.replay
    with torch.no_grad():
        for member in agent.online.head.each.output.members:
            member.last.bias.normal_()
    episodes, members = [set(range(M)) for _ in range(N)], []
    for _ in range(300):
        obs, before = run.obs, agent.exploration.place.copy()
        run.advance()
        with torch.no_grad():
            choices = agent.online(torch.from_numpy(obs)).by_member().argmax(-1).numpy()  # [M, N]
        row = replay.rows - 1
        for env in range(N):
            member = int(before[env] * M)
            assert replay.action[row % replay.num_rows, env] == choices[member, env]
            episodes[env] &= {member}
            assert episodes[env], "one member in all of the episode"
            if replay.episode_end[row % replay.num_rows, env]:
                members.append(member)
                episodes[env] = set(range(M))
    assert set(members) == set(range(M))
    assert len(members) > 20


def test_a_cut_episode_lets_another_member_try(small):
    run = make_run(small(overrides=ENSEMBLE))
    before = run.agent.exploration.place.copy()
    run.advance()
    run.agent.cut(1, run.obs[1])
    assert (run.agent.exploration.place != before).tolist() == [False, True, False]


def test_what_is_predicted_is_what_is_followed(small):
    """The bias of values is that of the member that acts; a policy acts by the mean."""
    run = make_run(small(overrides=ENSEMBLE))
    obs = run.obs
    run.advance()
    with torch.no_grad():
        each = run.agent.online(torch.from_numpy(obs)).by_member().numpy()
    np.testing.assert_array_equal(run.agent.by_member, each)
    member = (run.agent.exploration.place * M).astype(int)
    np.testing.assert_array_equal(run.agent.q_values, each[member, np.arange(N)])
    with torch.no_grad():
        mean = run.agent.online(torch.from_numpy(obs)).by_member().mean(0)
    np.testing.assert_array_equal(run.policy.act(obs), mean.argmax(-1).numpy())


def filled(kind, rows, **options):
    replay = kind(N * 50, N, (2,), torch.float32, num_members=M, seed=3, **options)
    none = np.zeros(N, bool)
    for row in range(rows):
        obs = np.full((N, 2), row, np.float32)
        replay.add(obs, np.zeros(N, np.int64), np.zeros(N), none, none, obs + 1)
    return replay


@pytest.mark.parametrize("kind", [UniformReplay, PrioritizedReplay])
def test_masks_are_bernoulli_and_stay_with_their_transition(kind):
    replay = filled(kind, 2_000, bootstrap_probability=0.3)
    samples = [replay.sample(200) for _ in range(20)]
    known = {}
    for batch, indices in samples:
        assert batch.bootstrap_mask.shape == (200, M)
        for r, e, mask in zip(indices.row.tolist(), indices.env.tolist(), batch.bootstrap_mask.tolist(), strict=True):
            assert known.setdefault((r, e), mask) == mask
    assert len(known) > 100
    last, indices = samples[-1]
    before = last.bootstrap_mask
    none, obs = np.zeros(N, bool), np.zeros((N, 2), np.float32)
    for _ in range(replay.num_rows):
        replay.add(obs, np.zeros(N, np.int64), np.zeros(N), none, none, obs)
    after = replay.bootstrap_mask[indices.row % replay.num_rows, indices.env]
    assert 0.3 < (before != after).float().mean() < 0.54, "rows of later steps have masks of their own: 2 * 0.3 * 0.7"


@pytest.mark.parametrize("agent", ["dqn", "r2d2"])
def test_masks_reach_the_members(agent, small):
    """A member that learns from no transition keeps its layers, while the others change."""
    overrides = {**ENSEMBLE, "agent.bootstrap_probability": 0.5, "agent.learn_after_steps": 60}
    if agent == "r2d2":
        overrides |= {
            **{"agent.name": "r2d2", "agent.lstm_size": 6, "agent.batch_size": 4},
            "replay": {"name": "sequences", "burn_in_steps": 2, "trace_steps": 5, "period_steps": 3},
        }
    run = make_run(small(overrides=overrides))
    for _ in range(20):
        run.advance()
    run.agent.replay.bootstrap_mask[:, :, 1] = False
    members = run.agent.online.head.each.output.members
    before = [[p.detach().clone() for p in member.parameters()] for member in members]
    run.agent.update()
    for m, member in enumerate(members):
        assert all(torch.equal(p, q) == (m == 1) for p, q in zip(before[m], member.parameters(), strict=True))
    metrics = run.agent.metrics()
    assert metrics["value/ensemble_std"] > 0
    assert np.isfinite(list(metrics.values())).all()


def test_priorities_are_means_over_members(small):
    run = make_run(small(overrides={**ENSEMBLE, "replay.name": "prioritized", "agent.learn_after_steps": 60}))
    given = []
    run.agent.replay.update_priorities = lambda indices, error, losses: given.append((error, losses))
    for _ in range(25):
        run.advance()
    update = run.agent.last_update
    errors = (update.goal.mean() - update.prediction.by_member()).abs()
    assert errors.shape == (M, 16)
    torch.testing.assert_close(given[-1][0], errors.mean(0))
    torch.testing.assert_close(given[-1][1], errors.square().mean(0))


def test_an_ensemble_learns_from_a_data_set(small, tmp_path):
    """The agent cql with its regularisers; shares of the data are not offered there."""
    train(small(overrides={"steps": 30}), tmp_path / "played")
    data = record(tmp_path / "played", tmp_path / "data", steps=100, epsilon=1.0, seed=0).dataset
    config = {"head.members": M, "regularizers.cql.alpha": 0.1, "regularizers.dr3.coefficient": 0.01}
    offline = RunConfig.preset("cql_catch", {"agent.dataset": str(data.path), "steps": 20, **config})
    assert train(offline, tmp_path / "run").finished
    assert load(tmp_path / "run").config.head.members == M
    with pytest.raises(ConfigError, match=r"unknown key agent\.bootstrap_probability"):
        offline.with_overrides({"agent.bootstrap_probability": 0.5})


@pytest.mark.parametrize(("overrides", "message"), [
    ({"exploration.name": "bootstrapped"}, r"exploration.name: 'bootstrapped' follows a member of an ensemble: wanted"),
    ({"agent.bootstrap_probability": 0.5}, r"agent.bootstrap_probability: 0.5 is for the members of an ensemble"),
    ({"head.members": 2, "regularizers.self_prediction.weight": 1.0}, "regularizers.self_prediction: is for a network"),
    ({"head.members": 0}, "head.members: Input should be greater than or equal to 1"),
    ({"agent.bootstrap_probability": 0.0, "head.members": 2}, "agent.bootstrap_probability: Input should be greater"),
])  # fmt: skip
def test_what_is_for_members_alone_is_refused_without(overrides, message, small):
    with pytest.raises(ConfigError, match=message):
        make_run(small(overrides=overrides))
