"""Do agents come to rest at the truth where an illegal action looks best? Whole agents in `doors`, whose Q* is known.

Everything is deterministic and tables are exact, so that what is off is a target. The hatch is never taken, and keeps
the value near 0 that it began with, where all others are at -1 or below: a rule, a return or a regulariser that forgets
the mask once would put 0 in the place of what follows. Rooms S, actions A = 4, of which 2 are legal in each.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from agents.config import RunConfig
from agents.running.progress import Silent
from agents.running.record import record
from agents.running.run import Run
from agents.running.setup import build
from agents.running.trainer import train
from envs.doors import Doors
from value_heads.ensemble import EnsembleHead

S, HATCH, GAMMA = 4, 3, 0.9
WORLD = Doors(S)
LEGAL = np.array([WORLD.open_in(room) for room in range(S)])
RUN = {
    "env": {"id": "doors", "num_envs": 8, "support": [-14.0, 2.0], "max_steps": 2},  # cut in all rooms but the last two
    "head": "mse",
    "torso": {"name": "mlp", "hidden": []},
}
RANDOMLY = {"exploration": {"name": "epsilon_greedy", "epsilon_end": 1.0}}
LEARNING = {"gamma": GAMMA, "lr": 0.05, "learn_after_steps": 10**6, "target_every_updates": 20, "batch_size": 32}


def at_rest(value, bonus=None, sweeps=200):
    """The table of q(s, a) = r + bonus + gamma * value of the next room, float64 [S, A]; -inf for what is illegal.

    `value` maps the legal action values of a room to what it is worth, and `bonus` to what is added for each of them.
    """
    q = np.where(LEGAL, 0.0, -np.inf)
    for _ in range(sweeps):
        new = q.copy()
        for room in range(S):
            legal = np.flatnonzero(LEGAL[room])
            following = value(q[room + 1, LEGAL[room + 1]]) if room + 1 < S else 0.0
            extra = 0.0 if bonus is None else bonus(q[room, legal])
            new[room, legal] = -1.0 - legal + extra + GAMMA * following
        q = new
    return q


def log_softmax(x):
    return x - x.max() - np.log(np.exp(x - x.max()).sum())


def soft(q, temperature=0.5):
    """sum_a pi (q - temperature log pi): Munchausen's value."""
    log_policy = log_softmax(q / temperature)
    return (np.exp(log_policy) * (q - temperature * log_policy)).sum()


BEST = WORLD.optimal_q(GAMMA)
EVEN = {"target_rule": {"name": "expected_sarsa", "epsilon": 0.5}}
WARM = {"target_rule": {"name": "expected_sarsa", "epsilon": 0.0, "temperature": 0.5}}
SOFT = {"target_rule": {"name": "munchausen", "temperature": 0.5}}
QUANTILES = {"head": {"name": "quantile", "num_quantiles": 4}}
ENSEMBLE = {"head.members": 2}
EVEN_REST = at_rest(lambda q: 0.5 * q.max() + 0.5 * q.mean())
WARM_REST = at_rest(lambda q: (np.exp(log_softmax(q / 0.5)) * q).sum())
SOFT_REST = at_rest(soft, bonus=lambda q: 0.9 * np.maximum(-1.0, 0.5 * log_softmax(q / 0.5)))

# What each comes to; the value of the next room, forgotten, is 0.9 or more.
FROM_REPLAY = {
    "q_learning": ({}, BEST, 0.01),
    "double": ({"target_rule": "double_q_learning"}, BEST, 0.01),
    "sarsa, at a cut": ({"target_rule": "sarsa", "env.max_steps": 1}, BEST, 0.01),
    "expected sarsa": (EVEN, EVEN_REST, 0.01),
    "expected sarsa, softmax": (WARM, WARM_REST, 0.01),
    "munchausen": (SOFT, SOFT_REST, 0.01),
    "quantiles, averaged": (SOFT | QUANTILES, SOFT_REST, 0.05),
    "bins": ({"head": {"name": "hl_gauss"}}, BEST, 0.1),
    "distributions, mixed": ({"head": {"name": "c51"}} | EVEN, EVEN_REST, 0.1),
    "an ensemble": (ENSEMBLE | {"target_rule": "double_q_learning", "agent.bootstrap_probability": 0.5}, BEST, 0.01),
    "an ensemble, munchausen": (SOFT | ENSEMBLE, SOFT_REST, 0.01),
    "by priority": ({"replay": "prioritized"}, BEST, 0.01),
}


def error_of(agent, expected):
    """Largest error of the legal values of all rooms, of any member of an ensemble.

    What is illegal has to look best, or nothing was shown.
    """
    with torch.no_grad():
        q = agent.online(torch.eye(S)).by_member().double().numpy()  # [M, S, A]
    assert (q.argmax(-1) == HATCH).all()
    return np.abs(q - expected)[:, LEGAL].max()


def updated(agent, num_updates, lr):
    """Updates at a rate that stays for half of the time and falls to 0 in the other."""
    for i in range(num_updates):
        agent.learner.set_lr(lr * min(1.0, 2 - 2 * i / num_updates))
        agent.update()
    return agent


def hatch_of(agent):
    """The hatch's values in every room, by member [M, S], which nothing may change."""
    with torch.no_grad():
        return agent.online(torch.eye(S)).by_member()[..., HATCH].clone()


@pytest.mark.parametrize("case", FROM_REPLAY)
def test_dqn(case):
    changes, expected, tolerance = FROM_REPLAY[case]
    config = RunConfig.parse(RUN | RANDOMLY | {"agent": LEARNING}).with_overrides(changes)
    run = Run(config, None, None)  # pyright: ignore
    before = hatch_of(run.agent)
    for _ in range(40):
        run.advance()
    agent = updated(run.agent, 400, 0.1)
    assert error_of(agent, expected) < tolerance
    assert torch.equal(hatch_of(agent), before)


@pytest.mark.parametrize(("max_steps", "members"), [(1, 1), (4, 1), (1, 2)])
def test_pqn(max_steps, members):
    """Successors that are acted on, and with max_steps = 1 none but those at which episodes are cut; lambda = 0.

    The values of a rollout are those of its acting, up to four steps old: 0.03 behind.
    """
    learning = {"name": "pqn", "gamma": GAMMA, "rollout_steps": 4, "num_epochs": 2, "num_minibatches": 2}
    config = RunConfig.parse(RUN | RANDOMLY | {"agent": learning | {"trace_decay": 0.0}})
    changes = {"env.max_steps": max_steps, "head.members": members}
    run = Run(config.with_overrides(changes), None, None)  # pyright: ignore
    before = hatch_of(run.agent)
    for i in range(600):
        run.agent.learner.set_lr(0.1 * min(1.0, 2 - 2 * i / 600))
        run.advance()
    assert error_of(run.agent, BEST) < 0.1
    assert torch.equal(hatch_of(run.agent), before)


class Fresh:
    """What a network with a memory says of first observations: `agent` as `error_of` asks it."""

    def __init__(self, network):
        self.network = network

    def online(self, obs):
        before = torch.full((1, len(obs)), -1), torch.zeros(1, len(obs))
        features, _ = self.network.unroll(obs.unsqueeze(0), *before, torch.zeros(len(obs), self.network.state_size))
        return self.network.head(features.squeeze(0))


FROM_SEQUENCES = {
    "q_learning": ({}, BEST),
    "double": ({"target_rule": "double_q_learning"}, BEST),
    "munchausen": (SOFT, SOFT_REST),
    "an ensemble": (ENSEMBLE | {"target_rule": "double_q_learning"}, BEST),
}


@pytest.mark.parametrize("case", FROM_SEQUENCES)
def test_r2d2(case):
    """From the first rooms of episodes: what follows is at `next_position`, with a mask of its own.

    No table: an LSTM of 16 units shares what it learns, and comes as near as 0.1.
    """
    changes, expected = FROM_SEQUENCES[case]
    sequences = {"name": "sequences", "burn_in_steps": 1, "trace_steps": 2, "period_steps": 1}
    learning = LEARNING | {"name": "r2d2", "n_step": 1, "lstm_size": 16}
    config = RunConfig.parse(RUN | RANDOMLY | {"agent": learning, "replay": sequences})
    run = Run(config.with_overrides({"env.max_steps": S} | changes), None, None)  # pyright: ignore
    head = run.agent.online.head
    with torch.no_grad():  # what an LSTM shares could pull it down; it is never trained itself
        for output in head.each.output.members if isinstance(head, EnsembleHead) else [head.output]:
            output.last.bias[HATCH] += 20
        run.agent.learner.sync_target()
    for _ in range(40):
        run.advance()
    agent = updated(run.agent, 400, 0.02)
    assert error_of(Fresh(agent.online), expected) < 0.25


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A data set of 1,000 random steps."""
    path = tmp_path_factory.mktemp("doors")
    short = {"steps": 100, "evaluation": {"num_episodes": 1, "final_episodes": 1}}
    train(RunConfig.parse(RUN | short), path / "run")
    return record(path / "run", path / "data", steps=1_000, epsilon=1.0, seed=0).dataset.path


def conservative_rest(alpha, frequency):
    """Where sum_a p_a (q_a - y_a)^2 + alpha (log sum_a exp q_a - sum_a p_a q_a) is least, over legal actions, [S, A].

    p are the frequencies of actions in the data, and y = r + gamma * max q of the next room.
    """
    q, following = np.full((S, 4), -np.inf), 0.0
    for room in reversed(range(S)):
        legal = np.flatnonzero(LEGAL[room])
        p, y = frequency[room, legal], -1.0 - legal + GAMMA * following
        x = y.copy()
        for _ in range(2_000):
            x -= 0.1 * (2 * p * (x - y) + alpha * (np.exp(log_softmax(x)) - p))
        q[room, legal] = x
        following = x.max()
    return q


FROM_DATA = {
    "q_learning": ({}, 0.0, BEST),
    "expected sarsa": (EVEN, 0.0, EVEN_REST),
    "munchausen": (SOFT, 0.0, SOFT_REST),
    "conservative": ({"target_rule": "double_q_learning"}, 1.0, None),
    "conservative, an ensemble": (ENSEMBLE, 1.0, None),
}


@pytest.mark.parametrize("case", FROM_DATA)
def test_cql(case, recorded):
    """The log-sum-exp would be of the hatch more than of all others. The noise is that of batches with alpha > 0."""
    changes, alpha, expected = FROM_DATA[case]
    learning = {name: LEARNING[name] for name in ("gamma", "lr", "target_every_updates")}
    settings = {"name": "cql", "dataset": str(recorded), "batch_size": 128, **learning}
    config = RunConfig.parse(RUN | {"agent": settings, "regularizers": {"cql": {"alpha": alpha}}})
    agent = build(config.with_overrides(changes), Path("nowhere"), Silent(1)).agent
    data, before = agent.data, hatch_of(agent)
    room = data.observations.frames[: data.rows].argmax(-1).flatten()
    frequency = np.zeros((S, 4))
    np.add.at(frequency, (room.numpy(), data.action[: data.rows].flatten().numpy()), 1.0)
    frequency /= frequency.sum(1, keepdims=True)
    for i in range(600):
        agent.learner.set_lr(0.1 * min(1.0, 2 - 2 * i / 600))
        agent.learn()
    expected = conservative_rest(alpha, frequency) if expected is None else expected
    assert error_of(agent, expected) < (0.1 if alpha else 0.01)
    assert torch.equal(hatch_of(agent), before)
