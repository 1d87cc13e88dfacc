"""Evaluation: whose episodes, how many, how long; and policies loaded from a run."""

import numpy as np
import pytest
import torch

from agents import RunConfig, load, train
from agents.networks.qnetwork import EnvSpec, make_network
from agents.running import evaluation
from agents.running.checkpoint import CheckpointError
from agents.running.evaluation import Policy, evaluate
from agents.running.run import Run
from envs import Catch
from envs.seeded import SeededEnv

CATCH = EnvSpec((10, 5), "float32", 3, False)


@pytest.fixture
def policy(small):
    return Policy(make_network(small(), CATCH), small(), CATCH)


def test_the_same_seed_gives_the_same_episodes(policy):
    results = [evaluate(policy, num_episodes=23, seed=s) for s in (1, 1, 2)]
    assert results[0] == results[1]
    assert results[0].lengths == [9] * 23
    assert results[0].mean == pytest.approx(np.mean(results[0].returns))
    assert results[0].std == pytest.approx(np.std(results[0].returns))


def test_another_seed_gives_other_episodes(small):
    """Of a chain, whose episodes start anywhere."""
    spec = EnvSpec((5,), "float32", 2, False)
    policy = Policy(make_network(small("chain"), spec), small("chain"), spec)
    assert evaluate(policy, num_episodes=23, seed=1).lengths != evaluate(policy, num_episodes=23, seed=2).lengths


def test_epsilon(policy):
    """Actions are random in the share given, and drawn anew but the same for the same seed."""
    greedy, some, again = (evaluate(policy, num_episodes=40, seed=1, epsilon=e) for e in (0.0, 0.5, 0.5))
    assert some == again
    assert some.returns != greedy.returns


class Watched(Catch):
    """Notes what happens to it."""

    seeds: list[int] = []
    instances: list["Watched"] = []
    lengths = [9]

    def __init__(self):
        super().__init__()
        self.instances.append(self)
        self.steps = 0
        self.limit = self.lengths[(len(self.instances) - 1) % len(self.lengths)]

    def reset(self, *, seed=None, options=None):
        self.seeds.append(seed)
        self.t = 0
        return super().reset(seed=seed)

    def step(self, action):
        self.t, self.steps = self.t + 1, self.steps + 1
        obs, _, _, _, info = super().step(action) if self.t < 9 else (self.observe(), 0.0, False, False, {})
        return obs, float(self.limit), self.t >= self.limit, False, info


@pytest.fixture
def watched(monkeypatch):
    """Watched as the environment of every configuration with id `catch`; forgets what it saw before."""
    for name in ("seeds", "instances"):
        monkeypatch.setattr(Watched, name, [])
    monkeypatch.setitem(evaluation.make_vector.__globals__["ENVS"], "catch", Watched)
    return Watched


@pytest.mark.parametrize(("num_episodes", "quota"), [(3, [1] * 3), (10, [1] * 10), (24, [3] * 4 + [2] * 6)])
def test_episodes_are_shared_out_before_play(num_episodes, quota, policy, watched, monkeypatch):
    """Environment i has episodes of i + 1 steps with a reward of i + 1 each: short ones are not preferred."""
    monkeypatch.setattr(watched, "lengths", list(range(1, 11)))
    result = evaluate(policy, num_episodes=num_episodes, seed=0)
    wanted = [i + 1 for i, share in enumerate(quota) for _ in range(share)]
    assert result.lengths == wanted
    assert result.returns == [float(n * n) for n in wanted]


def test_no_episode_of_an_evaluation_is_one_of_training(small, watched, tmp_path, monkeypatch):
    """Seeds of episodes in training, in its evaluations, in the final one and in the support's random play."""
    places: dict[str, set[int]] = {}
    start = SeededEnv.start

    def started(env, episode_index):
        places.setdefault(place[-1], set()).add((env._seed, env._env_index, episode_index))
        start(env, episode_index)

    place = ["training"]
    monkeypatch.setattr(SeededEnv, "start", started)

    def within(name, function):
        def inner(*arguments, **options):
            place.append(name)
            try:
                return function(*arguments, **options)
            finally:
                place.pop()

        return inner

    monkeypatch.setattr(Run, "evaluate", within("evaluation", Run.evaluate))
    monkeypatch.setattr("agents.running.trainer.final_score", within("final", final_score()))
    monkeypatch.setattr("agents.running.setup.resolve_support", within("probe", resolve_support()))
    train(small(overrides={"env.support": "auto", "steps": 200}), tmp_path)
    monkeypatch.undo()
    assert places.keys() == {"training", "evaluation", "final"}, "Catch knows its range"
    assert len(places["training"]) == 200 // 9 + 1
    assert {episode for _, _, episode in places["evaluation"]} == {0}, "the same episodes at every evaluation"
    names = list(places)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            assert not places[one] & places[other], (one, other)
            assert not {seed for seed, _, _ in places[one]} & {seed for seed, _, _ in places[other]}


def final_score():
    from agents.running.trainer import final_score

    return final_score


def resolve_support():
    from agents.running.setup import resolve_support

    return resolve_support


def test_num_cut(small, policy):
    """Cut is what evaluation.max_steps ended alone: not what terminated, nor what env.max_steps ended."""

    def cut(**overrides):
        config = small(overrides={k.replace("__", "."): v for k, v in overrides.items()})
        result = evaluate(Policy(policy.network, config, CATCH), num_episodes=7, seed=0)
        return result.num_cut, set(result.lengths)

    assert cut() == (0, {9})
    assert cut(evaluation__max_steps=4) == (7, {4})
    assert cut(evaluation__max_steps=9) == (0, {9})
    assert cut(env__max_steps=4) == (0, {4})
    assert cut(env__max_steps=4, evaluation__max_steps=4) == (0, {4})
    assert cut(env__max_steps=6, evaluation__max_steps=4) == (7, {4})


def test_a_cut_is_said(small, tmp_path, capsys):
    from agents.running.progress import PlainLines

    train(small(overrides={"evaluation.max_steps": 4, "steps": 100}), tmp_path, reporter=PlainLines(100))
    out = capsys.readouterr().out
    assert "eval   step 100: 0.0 ± 0.0 (3 episodes, epsilon 0, 3 cut at evaluation.max_steps)   best so far 0.0" in out


def test_act_is_greedy_for_one_and_for_many(run_dir):
    policy = load(run_dir)
    rng = np.random.default_rng(0)
    obs = rng.random((64, 10, 5), np.float32)
    q_values = policy.network(torch.from_numpy(obs)).mean()
    actions = policy.act(obs)
    assert (actions.shape, actions.dtype) == ((64,), np.int64)
    assert actions.tolist() == q_values.argmax(-1).tolist()
    assert len(set(actions.tolist())) > 1
    assert [int(policy.act(one)) for one in obs[:8]] == actions[:8].tolist()
    assert np.shape(policy.act(obs[0])) == ()
    assert torch.equal(policy.q_values(obs), q_values)
    mask = np.ones((64, 3), bool)
    mask[np.arange(64), actions] = False
    second = q_values.scatter(-1, torch.from_numpy(actions)[:, None], -torch.inf).argmax(-1)
    assert policy.act(obs, mask).tolist() == second.tolist()
    assert int(policy.act(obs[0], mask[0])) == second[0]


def test_observations_of_another_shape_are_refused(policy):
    with pytest.raises(ValueError, match=r"observations \(2, 5, 10\) are not \[N, 10, 5\]"):
        policy.act(np.zeros((2, 5, 10), np.float32))


def test_the_best_policy_is_loaded_and_without_it_the_last(small, run_dir, tmp_path, monkeypatch):
    """best.pt is of the highest evaluation; of equals, the later one."""
    scores = iter([1.0, 3.0, 3.0, 2.0])
    networks = []

    def scripted(policy, **options):
        networks.append({k: v.clone() for k, v in policy.network.state_dict().items()})
        return evaluation.Evaluation([next(scores)], [9], 0)

    monkeypatch.setattr(evaluation, "evaluate", scripted)
    monkeypatch.setattr("agents.running.trainer.final_score", lambda run: 0.0)
    train(small(overrides={"steps": 400}), tmp_path)
    loaded = load(tmp_path).network.state_dict()
    assert [all(torch.equal(n[k], loaded[k]) for k in n) for n in networks] == [False, False, True, False]
    (tmp_path / "best.pt").unlink()
    loaded = load(tmp_path).network.state_dict()
    assert all(torch.equal(networks[3][k], loaded[k]) for k in loaded)


def test_a_run_without_a_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match=r"has no checkpoint to load"):
        load(tmp_path)


def test_from_python(small, tmp_path):
    """from agents import train, load, RunConfig: a run, its summary, and its policy."""
    config = RunConfig.preset("catch", {"steps": 60, "evaluation.num_episodes": 2, "evaluation.final_episodes": 2})
    summary = train(config, str(tmp_path / "mine"))
    assert summary.run_dir == tmp_path / "mine"
    assert (summary.step, summary.finished, summary.exit_code) == (60, True, 0)
    assert -1 <= summary.best_return <= 1
    assert -1 <= summary.last_return <= 1
    assert 0 <= summary.time_logging < 1
    assert load(str(tmp_path / "mine")).act(np.zeros((4, 10, 5), np.float32)).shape == (4,)


def test_what_agents_does_not_have():
    import agents

    with pytest.raises(AttributeError, match="module 'agents' has no attribute 'trian'"):
        _ = agents.trian
