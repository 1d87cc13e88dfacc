"""Is a launch what that many updates are? On a CPU a recording stands in for a graph, as it bakes in as much."""

import copy
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from agents.config import RunConfig
from agents.dqn import DQN
from agents.learning.recorded import collect, rebuild
from agents.networks.qnetwork import EnvSpec
from agents.replay.uniform import UniformReplay
from agents.running.stopwatch import Stopwatch
from agents.whole_updates import MOST, WholeUpdates, whole_updates

N, S, A = 4, 3, 3
SPEC = EnvSpec((S, 6, 6), "uint8", A, has_action_mask=False)
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="wants a GPU")
RECIPES = {
    "uniform": {"head": "hl_gauss", "agent.n_step": 1},
    "n steps, clipped, rewards scaled": {"head": "mse", "agent.max_grad_norm": 0.1, "agent.normalize_reward": True},
    "prioritized, noise": {
        "head": "iqn",
        "replay": "prioritized",
        "output_layer.name": "noisy",
        "head.num_taus": 4,
        "head.num_target_taus": 4,
        "agent.target_every_updates": 1,
    },
    "rainbow": {
        "head": {"name": "c51", "num_bins": 11},
        "replay": {
            "name": "prioritized",
            "priority": "loss",
            "stratified": False,
            "uniform_mix": 0.2,
            "importance_steps": 500,
        },
        "agent.target_tau": 0.5,
    },
    "augmented, reset": {
        "resets": {"every_updates": 13, "shrink": 0.5},
        "augmentation": {"shift_pixels": 1},
        "head": "quantile",
        "head.num_quantiles": 8,
    },
}
SLOW = ("uniform", "augmented, reset")  # to record
every_recipe = pytest.mark.parametrize("recipe", RECIPES)


def make_agent(recipe: str, device: str = "cpu", **more) -> DQN:
    settings = {
        "device": device,
        "env": {"id": "none", "num_envs": N, "support": [-5.0, 5.0]},
        "steps": 10_000,
        "torso": {"name": "cnn", "channels": [4]},
        "output_layer": {"name": "linear", "hidden": 8},
        "agent": {
            "batch_size": 5,
            "n_step": 3,
            "replay_ratio": 1.0,
            "target_every_updates": 7,
            "learn_after_steps": 40,
        },
    }
    ring = {"replay.capacity_steps": 25 * N, "replay.device": "same"}
    config = RunConfig.parse(settings).with_overrides(RECIPES[recipe] | more).with_overrides(ring)
    agent = DQN(config, SPEC, Stopwatch())
    agent.learner.gradient_of = agent.learner.differentiate
    store = agent.replay.observations
    store.finals = store.finals[:8].clone()  # so that it grows while graphs are there that read it
    return agent


def play(seed: int = 0):
    """Steps of N environments, as stacks of frames: they end, are cut off, and lose lives."""
    rng = np.random.default_rng(seed)
    newest = rng.integers(0, 256, (N, 1, *SPEC.obs_shape[1:]), np.uint8)
    obs = np.repeat(newest, S, 1)
    while True:
        next_obs = np.concatenate([obs[:, 1:], rng.integers(0, 256, newest.shape, np.uint8)], 1)
        done, lost = rng.random(N) < 0.2, rng.random(N) < 0.3
        yield obs, rng.integers(A, size=N), rng.normal(size=N), done & lost, done, next_obs
        obs = np.where(done[:, None, None, None], np.repeat(next_obs[:, -1:], S, 1), next_obs)


def step(agent: DQN, told) -> None:
    reward = agent.learning_reward(told[2], told[4])
    agent.replay.add(*told[:2], reward, *told[3:])
    agent.step += N


def frozen(compute):
    """`compute` as the operations that it makes now, every number that is not in a tensor being what it is now.

    It is computed while that is found out, so the first launch has been made already.
    """
    results = []

    def flat():
        results.append(compute())
        collect(results[-1], outputs := [], [])
        return outputs

    module = make_fx(flat)()
    calls = itertools.count()
    return torch.no_grad()(lambda: rebuild(results[0], iter(module())) if next(calls) else results[0])


def look_like_a_gpu(agent: DQN) -> None:
    """Take the ways that do not look at what is in tensors."""
    agent.replay.observations.may_look = False
    if agent.learner.max_grad_norm is not None:
        agent.learner.device = torch.device("meta")


def check_equal(recipe: str, rows: int, most: int, change, device: str = "cpu", **tolerance: Any) -> list[int]:
    """Two agents see the same steps and make 0 to `most` updates after each; gives the sizes of launches.

    The ring of 25 rows is written around, and that of final observations grows while graphs are there.
    """
    eager, agent = make_agent(recipe, device), make_agent(recipe, device)
    launched = WholeUpdates(agent, 2, after=2)
    change(eager, agent, launched)
    sizes, finals, made = [], set(), launched.made
    launched.made = lambda size: (sizes.append(size), made(size))
    for row, told in zip(range(rows), play(), strict=False):
        for each in (eager, agent):
            step(each, told)
        finals.add(len(agent.replay.observations.finals))
        if row < 15:
            continue
        count = row % (most + 1)
        for _ in range(count):
            eager.update()
        launched(count)
        if count:
            ours, wanted = [], []
            collect(agent.last_update, ours, [])
            collect(eager.last_update, wanted, [])
            for x, y in zip(ours, wanted, strict=True):
                torch.testing.assert_close(x, y, **tolerance)
    assert agent.learner.num_updates == eager.learner.num_updates
    assert len(finals) > 1
    assert agent.replay.num_rows == 25 < rows
    for part in ("learner", "replay"):
        torch.testing.assert_close(agent.state_dict()[part], eager.state_dict()[part], **tolerance)
    return sizes


@every_recipe
def test_a_launch_is_equal_to_updates_one_by_one(recipe):
    sizes = check_equal(recipe, 75, 7, lambda eager, agent, launched: None, rtol=0, atol=0)
    assert sum(sizes) > 200
    assert set(sizes) == {1, 2}


@pytest.mark.parametrize("recipe", [pytest.param(r, marks=[pytest.mark.slow] * (r in SLOW)) for r in RECIPES])
def test_nothing_that_changes_is_baked_into_a_graph(recipe):
    def freeze(eager, agent, launched):
        launched.capture = frozen
        for each in (eager, agent):
            look_like_a_gpu(each)

    assert set(check_equal(recipe, 45, 2, freeze, rtol=0, atol=0)) == {1, 2}


def test_what_cannot_be_captured_is_updated_one_by_one(monkeypatch):
    def refuse(compute, device, *generators):
        torch.rand(1, generator=generators[0])
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr("agents.whole_updates.graph_of", refuse)
    with pytest.warns(UserWarning, match="not captured whole, which would be faster: operation not permitted") as seen:
        sizes = check_equal("prioritized, noise", 30, 3, lambda eager, agent, launched: None, rtol=0, atol=0)
    assert len(seen) == 1
    assert sizes


def test_a_resumed_agent_goes_on_as_if_never_interrupted_whenever_it_captures():
    """The generators that draw in a graph are those of the checkpoint."""
    whole, resumed = make_agent("prioritized, noise"), make_agent("prioritized, noise")
    first, second = WholeUpdates(whole, 2, after=1), WholeUpdates(resumed, 2, after=4)
    steps = list(itertools.islice(play(), 40))
    for told in steps[:30]:
        step(whole, told)
    first(20)
    resumed.load_state_dict(copy.deepcopy(whole.state_dict()))
    resumed.replay.restore(5, 30, whole.replay.segment(5, 30))
    for told in steps[30:]:
        for agent, launched in ((whole, first), (resumed, second)):
            step(agent, told)
            launched(3)
    for part in ("learner", "replay"):
        torch.testing.assert_close(resumed.state_dict()[part], whole.state_dict()[part], rtol=0, atol=0)


def test_it_is_chosen_where_all_of_an_update_is_on_one_gpu(monkeypatch):
    monkeypatch.setattr("agents.whole_updates.WholeUpdates", lambda agent, per_launch: per_launch)

    class OfAnother(UniformReplay):
        pass

    def chosen(device="cuda", replay="cuda", **changes):
        agent = make_agent("rainbow")
        agent.device, agent.replay.device = torch.device(device), torch.device(replay)
        for name, value in changes.items():
            setattr(agent, name, value)
        return whole_updates(agent)

    assert chosen() == N  # updates that a step of N environments earns
    assert chosen(num_envs=1_000) == 1_000
    assert chosen("cpu", "cpu") is None
    assert chosen(replay="cpu") is None
    assert chosen(annealing=object()) is None
    other = OfAnother(25, N, SPEC.obs_shape, torch.uint8)
    other.device = torch.device("cuda")
    agent = make_agent("uniform")
    agent.device, agent.replay = torch.device("cuda"), other
    assert whole_updates(agent) is None
    assert WholeUpdates(make_agent("uniform"), 1_000).per_launch == MOST
    assert WholeUpdates(make_agent("uniform"), 0).per_launch == 1


@gpu
@every_recipe
def test_a_graph_is_equal_to_updates_one_by_one(recipe):
    torch.backends.cudnn.deterministic = True
    sizes = check_equal(recipe, 75, 7, lambda eager, agent, launched: None, "cuda", rtol=1e-3, atol=1e-4)
    assert set(sizes) == {1, 2}
