"""Is the future that replay gives what came after a transition? A loop over what happened.

N environments, B batch, K steps, S frames of a stack.
"""

import numpy as np
import pytest
import torch

from agents.replay import REPLAYS
from agents.replay.uniform import UniformReplay

N, ROWS, S = 2, 30, 3


def play(replay, rows, told, rng, share_frames):
    """`rows` steps of every environment; told[env] is a list of (obs, action, whether it ends value or episode)."""
    for _ in range(rows):
        obs, next_obs, ends, lives = [], [], rng.random(N) < 0.12, rng.random(N) < 0.08
        action = rng.integers(5, size=N)
        for env in range(N):
            row, age = len(told[env]), replay.age[env]
            frames = [1_000 * env + max(t, row - age) for t in range(row - S + 1, row + 2)]
            obs.append(frames[:S] if share_frames else frames[S - 1 : S])
            next_obs.append(frames[1:] if share_frames else frames[S:])
            told[env].append((obs[-1], int(action[env]), bool(ends[env] or lives[env])))
        shape = (N, S) if share_frames else (N, 1)
        made = [np.array(frames, np.float32).reshape(shape) for frames in (obs, next_obs)]
        replay.add(made[0], action, np.zeros(N, np.float32), lives & ~ends, ends, made[1])


@pytest.mark.parametrize("name", ["uniform", "prioritized"])
@pytest.mark.parametrize(("n_step", "k", "share_frames"), [(1, 4, False), (3, 1, True), (2, 5, True)])
def test_against_a_loop(name, n_step, k, share_frames):
    shape = (S,) if share_frames else (1,)
    replay = REPLAYS[name](
        ROWS * N, N, shape, torch.float32, n_step=n_step, future_steps=k, share_frames=share_frames, seed=2
    )
    told, rng, masked = [[] for _ in range(N)], np.random.default_rng(n_step), []
    play(replay, max(n_step, k), told, rng, share_frames)
    assert len(replay) == 0, "the last of the future is not there yet"
    for _ in range(25):
        play(replay, 5, told, rng, share_frames)
        batch, indices = replay.sample(40)
        assert batch.future_obs.shape == (40, k, *shape)
        assert batch.future_action.shape == batch.future_mask.shape == (40, k)
        assert torch.equal(batch.future_action[:, 0], batch.action)
        for b, (row, env) in enumerate(zip(indices.row.tolist(), indices.env.tolist(), strict=True)):
            assert row + k < len(told[env])
            real = True
            for step in range(k):
                _, action, ended = told[env][row + step]
                assert batch.future_action[b, step] == action
                real = real and not ended
                assert batch.future_mask[b, step] == real
                if real:
                    assert batch.future_obs[b, step].tolist() == told[env][row + step + 1][0]
        masked.append(batch.future_mask.float().mean().item())
    assert replay.layout() == (S if share_frames else 1)
    assert 0.1 < np.mean(masked) < 0.95


def test_no_future_unless_it_is_asked_for():
    replay = UniformReplay(20, N, (1,), torch.float32)
    play(replay, 10, [[] for _ in range(N)], np.random.default_rng(0), False)
    batch, _ = replay.sample(3)
    assert batch.future_obs is batch.future_action is batch.future_mask is None
    assert len(replay) == 9 * N
