"""What acts while updates are made: by which weights, and on observations of which only what is new was sent."""

import numpy as np
import pytest
import torch

from agents import acting
from agents.acting import LaggedCopy, NewestFrames
from agents.experiments.cohort import check_cohort
from agents.replay.uniform import UniformReplay
from agents.running.progress import Silent
from agents.running.setup import build
from agents.running.trainer import train
from agents.tables import ConfigError

LAGGED = {"agent.acting_network": "lagged", "agent.normalize_obs": True, "agent.replay_ratio": 0.5}
N, S = 3, 4


def weights(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def equal(left, right):
    return all(torch.equal(left[name], right[name]) for name in left)


def test_it_acts_by_the_weights_before_the_last_updates(small, tmp_path):
    """Every second step of one environment makes an update: until the next one the copy stays."""
    run = build(small(overrides=LAGGED), tmp_path, Silent(1))
    agent, before, moved = run.agent, None, 0
    learned = agent.learn

    def learn():
        nonlocal before, moved
        if agent.updates_due():
            before, moved = weights(agent.online), moved + 1
        learned()

    agent.learn = learn
    while moved < 20:
        run.advance()
        if before is not None:
            assert equal(agent.lagged.network.state_dict(), before)
            assert not equal(agent.online.state_dict(), before)
    obs = run.obs.copy()
    agent.act(obs)
    wanted = agent.lagged.network(torch.from_numpy(obs), None).mean()
    assert torch.equal(torch.from_numpy(agent.values_of(torch.from_numpy(obs), {}).numpy()[0]), wanted.detach())
    assert run.policy.network is agent.online
    run.venv.close()


def test_a_resumed_run_acts_by_the_same_weights(small, tmp_path):
    overrides = LAGGED | {"steps": 200, "checkpoint.every_steps": 90}
    train(small(overrides=overrides), tmp_path / "whole")
    run = build(small(overrides=overrides), tmp_path / "whole", Silent(1))
    first, last = sorted((tmp_path / "whole" / "checkpoints").glob("*.pt"))[-2:]
    wanted = torch.load(last, weights_only=True)
    run.load(first)
    assert not equal(run.agent.lagged.network.state_dict(), run.agent.online.state_dict())
    while run.step < 200:
        run.advance()
    state = run.agent.state_dict()
    for part in ("lagged", "learner", "replay", "exploration"):
        for ours, theirs in zip(tensors(state[part]), tensors(wanted["agent"][part]), strict=True):
            assert torch.equal(ours, theirs)
    run.venv.close()


def tensors(value):
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        return [tensor for part in value.values() for tensor in tensors(part)]
    return [tensor for part in value for tensor in tensors(part)] if isinstance(value, list | tuple) else []


def test_a_copy_has_nothing_in_common_with_the_network(small, tmp_path):
    run = build(small(overrides=LAGGED), tmp_path, Silent(1))
    lagged = LaggedCopy(run.agent.online)
    before = weights(lagged.network)
    run.agent.load_weights({name: tensor + 1 for name, tensor in before.items()})
    run.agent.online.normalizer.update(torch.full((2, 10, 5), 9.0))
    assert equal(lagged.network.state_dict(), before)
    lagged.follow()
    assert equal(lagged.network.state_dict(), run.agent.online.state_dict())
    assert equal(run.agent.lagged.network.head.state_dict(), run.agent.online.head.state_dict())
    assert not any(p.requires_grad for p in lagged.network.parameters())
    run.venv.close()


def test_a_cohort_has_none(small):
    with pytest.raises(ConfigError, match=r"agent.acting_network: a cohort acts by 'online' or 'target'"):
        check_cohort([small(overrides=LAGGED)])


def test_an_agent_with_a_memory_has_none(small):
    with pytest.raises(ConfigError, match="acting_network"):
        small(overrides={"agent.name": "r2d2", "agent.lstm_size": 4, "replay": "sequences", **LAGGED})


@pytest.fixture
def crossed(monkeypatch):
    """The shapes of what was sent."""
    shapes = []

    def send(value, device):
        shapes.append(tuple(value.shape))
        return value.clone()

    monkeypatch.setattr(acting, "sent", send)
    return shapes


def play(replay, steps):
    """Stacks of N environments, each of which replay is told of after it was given."""
    rng = np.random.default_rng(0)

    def frames():
        return rng.integers(0, 256, (N, 1, 5, 5), np.uint8)

    obs, zeros = np.repeat(frames(), S, 1), np.zeros(N)
    for _ in range(steps):
        yield obs
        done = rng.random(N) < 0.2
        following = np.concatenate([obs[:, 1:], frames()], 1)
        replay.add(obs, zeros.astype(int), zeros, zeros > 0, done, following)
        obs = np.where(done[:, None, None, None], np.repeat(frames(), S, 1), following)


def make_replay(share_frames=True):
    return UniformReplay(20 * N, N, (S, 5, 5), torch.uint8, share_frames=share_frames)


def test_only_the_newest_frames_are_sent_and_whole_stacks_where_episodes_begin(crossed):
    replay = make_replay()
    newest, seen = NewestFrames(replay, torch.device("cpu")), 0
    for obs in play(replay, 60):
        crossed.clear()
        assert torch.equal(newest(obs), torch.from_numpy(obs))
        begun = int((replay.age == 0).sum())
        if replay.rows == 0:
            assert crossed == [(N, S, 5, 5)]
        else:
            assert crossed == [(N, 1, 5, 5)] + ([(begun, S, 5, 5), (begun,)] if begun else [])
        seen += begun
    assert seen > N


def test_where_replay_knows_nothing_whole_observations_are_sent(crossed):
    replay = make_replay()
    newest, steps = NewestFrames(replay, torch.device("cpu")), play(replay, 60)
    newest(next(steps))
    next(steps)
    for obs in (next(steps), np.random.default_rng(1).integers(0, 256, (N, S, 5, 5), np.uint8)):  # two steps, and none
        assert torch.equal(newest(obs), torch.from_numpy(obs))
    assert crossed == 3 * [(N, S, 5, 5)]
    replay = make_replay(share_frames=False)
    newest = NewestFrames(replay, torch.device("cpu"))
    for obs in play(replay, 5):
        assert torch.equal(newest(obs), torch.from_numpy(obs))
    assert set(crossed) == {(N, S, 5, 5)}


def test_an_agent_sees_what_there_is_while_little_of_it_is_sent(small, tmp_path, crossed):
    overrides = {"env.frame_stack": 3, "env.num_envs": 2, "torso.name": "mlp"}
    run = build(small(overrides=overrides), tmp_path, Silent(1))
    agent, seen = run.agent, run.agent.seen
    agent.newest_frames = NewestFrames(agent.replay, torch.device("cpu"))

    def checked(obs):
        found = seen(obs)
        assert torch.equal(found, torch.from_numpy(obs))
        return found

    agent.seen = checked
    for _ in range(50):
        run.advance()
    assert agent.replay.observations.stack == 3
    sizes = [shape[:2] for shape in crossed if len(shape) > 1]
    assert sizes.count((2, 3)) == 1 + sum(shape == (2,) for shape in crossed)
    assert sizes.count((2, 1)) == 49
    run.venv.close()
