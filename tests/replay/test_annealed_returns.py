"""Returns whose n and gamma change while replay goes on, against a loop over lists of what happened.

N environments, B batch.
"""

import numpy as np
import pytest
import torch

from agents.replay import REPLAYS

N, ROWS, LARGEST = 2, 40, 6
every_replay = pytest.mark.parametrize("name", ["uniform", "prioritized"])


def make_replay(name, seed=0):
    return REPLAYS[name](ROWS * N, N, (1,), torch.float32, n_step=LARGEST, gamma=0.5, seed=seed)


def play(replay, rows, told, rng):
    """`rows` more steps of every environment; `told` [row][env] is what happened. Observations say when and where."""
    for _ in range(rows):
        row = len(told)
        end = rng.random(N) < 0.15
        terminal = (end & (rng.random(N) < 0.5)) | (rng.random(N) < 0.05)  # a time limit; a lost life
        reward = rng.normal(size=N).astype(np.float32)
        obs = np.array([[1_000 * env + row] for env in range(N)], np.float32)
        next_obs = np.where(end[:, None], -obs - 1, obs + 1)  # a final observation is seen nowhere else
        replay.add(obs, np.zeros(N, np.int64), reward, terminal, end, next_obs)
        told.append([(float(reward[e]), bool(terminal[e]), bool(end[e]), next_obs[e].tolist()) for e in range(N)])


def truth(told, row, env, n, gamma):
    total, factor = 0.0, 1.0
    for step in range(row, row + n):
        reward, terminal, end, next_obs = told[step][env]
        total += factor * reward
        factor *= gamma
        if terminal or end:
            break
    return total, 0.0 if terminal else factor, next_obs


@every_replay
def test_against_a_loop(name):
    """Long returns come back after short ones, as after a reset, and the ring wraps."""
    replay, told, rng = make_replay(name), [], np.random.default_rng(1)
    cases = [(6, 0.9), (4, 0.95), (1, 0.99), (2, 0.5), (6, 0.97), (3, 0.997), (6, 0.9)]
    for n, gamma in cases * 3:
        play(replay, 9, told, rng)
        replay.set_returns(n, gamma)
        batch, indices = replay.sample(64)
        for i, (row, env) in enumerate(zip(indices.row.tolist(), indices.env.tolist(), strict=True)):
            total, discount, next_obs = truth(told, row, env, n, gamma)
            assert batch.reward[i].item() == pytest.approx(total, rel=1e-6, abs=1e-6)
            assert batch.discount[i].item() == pytest.approx(discount, rel=1e-6)
            assert batch.next_obs[i].tolist() == next_obs
            assert batch.obs[i].item() == 1_000 * env + row
        if name == "prioritized":
            replay.update_priorities(indices, torch.from_numpy(rng.random(64)), torch.from_numpy(rng.random(64)))
    assert len(told) > 4 * ROWS


@every_replay
def test_what_can_be_sampled_does_not_depend_on_the_n_of_the_moment(name):
    replay, told = make_replay(name), []
    play(replay, 20, told, np.random.default_rng(0))
    for n in (1, 6, 3):
        replay.set_returns(n, 0.9)
        assert len(replay) == (20 - LARGEST) * N


@pytest.mark.parametrize("n", [0, LARGEST + 1])
def test_an_n_that_it_was_not_made_for(n):
    with pytest.raises(ValueError, match=f"n_step is {n}, wanted 1 to {LARGEST}, which this replay was made for"):
        make_replay("uniform").set_returns(n, 0.9)
