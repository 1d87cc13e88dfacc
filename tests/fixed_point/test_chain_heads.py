"""Does TD learning converge to the truth? Every head on a chain whose Q* is known from value iteration in float64.

Five states in a row, two actions. "back" goes one state down (at the lower end it stays and earns 0.1), "ahead" costs
0.1 and goes up; from the last state it ends with +5. On the slippery chain "ahead" fails with chance 0.2: it stays, and
from the last state it ends with -2, a skewed return that tells means from medians.

The features are one-hot, a linear output layer makes the heads tables, and every transition is in every update,
weighted by its probability: nothing is sampled and nothing generalises, so that what is off is the head.

Dimensions: B transitions, S states, A actions.
"""

import copy
from typing import NamedTuple

import numpy as np
import pytest
import torch

from value_heads import HEADS, make_head

NUM_STATES, NUM_ACTIONS, GAMMA, SLIP = 5, 2, 0.9, 0.2
SUPPORT = (-6.0, 9.0)


class Transition(NamedTuple):
    state: int
    action: int
    next_state: int
    reward: float
    discount: float
    prob: float


def chain(slip):
    found = []
    for s in range(NUM_STATES):
        found.append(Transition(s, 0, max(s - 1, 0), 0.1 * (s == 0), GAMMA, 1.0))
        if s < NUM_STATES - 1:
            found.append(Transition(s, 1, s + 1, -0.1, GAMMA, 1 - slip))
            found.append(Transition(s, 1, s, -0.1, GAMMA, slip))
        else:
            found.append(Transition(s, 1, s, 5.0, 0.0, 1 - slip))
            found.append(Transition(s, 1, s, -2.0, 0.0, slip))
    return [t for t in found if t.prob > 0]


def value_iteration(transitions):
    q = np.zeros((NUM_STATES, NUM_ACTIONS))
    for _ in range(500):
        backed_up = np.zeros_like(q)
        for t in transitions:
            backed_up[t.state, t.action] += t.prob * (t.reward + t.discount * q[t.next_state].max())
        q = backed_up
    return q


def learn(name, slip, *, lr, syncs=50, steps=30, support=SUPPORT, **options):
    """Q of the head after `syncs` target updates with `steps` Adam steps each, [S, A]."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    transitions = chain(slip)
    state, action, next_state, reward, discount, prob = map(torch.tensor, zip(*transitions, strict=True))
    obs = torch.eye(NUM_STATES)
    online = make_head(name, in_features=NUM_STATES, num_actions=NUM_ACTIONS, support=support, **options)
    target = copy.deepcopy(online)
    optimizer = torch.optim.Adam(online.parameters(), lr=lr)
    # Half of the time at the full rate, to get there, and half of it towards 0, to settle.
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1, 2 - 2 * step / (syncs * steps + 1)))
    for _ in range(syncs):
        target.load_state_dict(online.state_dict())
        for _ in range(steps):
            draws = online.draw(len(transitions), generator, bootstrap=False)
            with torch.no_grad():
                following = target(obs[next_state])
                goal = following.select(following.mean().argmax(-1)).atoms().backup(reward, discount)
            loss = online(obs[state], draws).select(action).loss(goal)
            optimizer.zero_grad()
            (prob * loss).sum().backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        return online(obs).mean().double().numpy()


def test_the_truth():
    """The oracle itself, by hand: the last state ahead is worth 5, or 0.8 * 5 - 0.2 * 2 = 3.6 where it slips."""
    straight, slippery = value_iteration(chain(0.0)), value_iteration(chain(SLIP))
    assert straight[4, 1] == 5
    assert straight[3, 1] == pytest.approx(-0.1 + 0.9 * 5)
    assert straight[3, 0] == pytest.approx(0.9 * straight[2, 1])
    assert slippery[4, 1] == pytest.approx(3.6)
    # x = -0.1 + 0.9 (0.8 * 3.6 + 0.2 x)
    assert slippery[3, 1] == pytest.approx((-0.1 + 0.9 * 0.8 * 3.6) / (1 - 0.9 * 0.2))
    for q in (straight, slippery):
        assert (q.argmax(1) == 1).all()


if __name__ == "__main__":
    import sys, time
    for slip in (0.0, SLIP):
        q_star = value_iteration(chain(slip))
        print(slip, q_star.round(3).tolist())
        cases = {**{n: (n, {}) for n in HEADS}, "hlg dist": ("hl_gauss", dict(bootstrap="distribution", allow_biased=True)), "hlg ord": ("hl_gauss", dict(loss="ordinal_bce")),"2h ord": ("two_hot", dict(loss="ordinal_bce"))}
        for c, (n, o) in cases.items():
            for lr in (0.02, .05, 0.1, .2):
                t = time.time()
                err = learn(n, slip, lr=lr, **o) - q_star
                print(c, lr, f"{abs(err).max():.4f}", f"{err.mean():.4f}", f"{time.time() - t:.1f}s", flush=True)
