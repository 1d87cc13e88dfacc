"""Does a replay that many runs share give each of them what its own replay would have given?"""

import numpy as np
import pytest
import torch

from agents.replay.prioritized import PrioritizedReplay
from agents.replay.stacked import StackedReplay
from agents.replay.uniform import UniformReplay

S, N, ROWS, ACTIONS = 3, 2, 12, 3


def make_replay(seed, **options):
    """12 rows, so that 60 steps go round many times; ROWS * N - 1 is rounded up."""
    sizes = {"n_step": 3, "gamma": 0.9, "num_actions": ACTIONS} | options
    return UniformReplay(ROWS * N - 1, N, (2,), torch.float32, seed=seed, **sizes)


def steps(count, seed=0):
    """Arguments of `add` for S * N environments, in which many episodes end."""
    rng = np.random.default_rng(seed)
    obs = rng.random((S * N, 2), np.float32)
    for _ in range(count):
        next_obs, end = rng.random((S * N, 2), np.float32), rng.random(S * N) < 0.3
        terminal = rng.random(S * N) < 0.2
        masks = rng.random((2, S * N, ACTIONS)) < 0.7
        yield obs, rng.integers(ACTIONS, size=S * N), rng.random(S * N, np.float32), terminal, end, next_obs, *masks
        obs = np.where(end[:, None], rng.random((S * N, 2), np.float32), next_obs)


def part(i, arrays):
    return [array[i * N : (i + 1) * N] for array in arrays]


def assert_same_batches(whole, alone, batch_size=7):
    flat, _ = whole.sample(batch_size)
    for i, replay in enumerate(alone):
        expected, _ = replay.sample(batch_size)
        own = [None if field is None else field.unflatten(0, (S, batch_size))[i] for field in flat]
        for name, got, wanted in zip(flat._fields, own, expected, strict=True):
            assert (got is None) == (wanted is None), name
            assert got is None or torch.equal(got, wanted), name


@pytest.mark.parametrize("future", [0, 2])
def test_each_samples_what_it_would_have_sampled_alone(future):
    alone, members = ([make_replay(seed, future_steps=future) for seed in range(S)] for _ in range(2))
    whole = StackedReplay(members)
    for arrays in steps(60):
        whole.add(*arrays)
        for i, replay in enumerate(alone):
            replay.add(*part(i, arrays))
        assert len(whole) == len(alone[0])
        if len(whole):
            assert_same_batches(whole, alone)


def test_each_gets_back_what_is_its_own():
    """Given back, a replay goes on alone; rows that were saved at different times bring back the same."""
    alone, members = ([make_replay(seed) for seed in range(S)] for _ in range(2))
    whole = StackedReplay(members)
    saved = []
    for k, arrays in enumerate(steps(40), 1):
        whole.add(*arrays)
        for i, replay in enumerate(alone):
            replay.add(*part(i, arrays))
        if k in (20, 32, 40):
            whole.give()
            start = saved[-1][1] if saved else 8
            saved.append((start, k, [member.segment(start, k) for member in members]))
    restored = []
    for i, member in enumerate(members):
        restored.append(make_replay(99))
        restored[i].load_state_dict(member.state_dict())
        for start, stop, segments in saved:
            restored[i].restore(start, stop, segments[i])
    for batch_size in (5, 50):
        for replay, member, again in zip(alone, members, restored, strict=True):
            expected = replay.sample(batch_size)[0]
            for given in (member, again):
                for got, wanted in zip(given.sample(batch_size)[0], expected, strict=True):
                    assert (got is None and wanted is None) or torch.equal(got, wanted)


def test_rows_are_there_once():
    members = [make_replay(seed) for seed in range(S)]
    whole = StackedReplay(members)
    for name in whole.row_names():
        storages = {getattr(replay, name).untyped_storage().data_ptr() for replay in (whole, *members)}
        assert len(storages) == 1, name
    assert len({r.observations.frames.untyped_storage().data_ptr() for r in (whole, *members)}) == 1


def test_replays_that_were_filled_alone_go_on_side_by_side():
    alone, members = ([make_replay(seed) for seed in range(S)] for _ in range(2))
    whole = StackedReplay(members)
    more = list(steps(70))
    for arrays in more[:40]:
        for i, replay in enumerate(alone):
            replay.add(*part(i, arrays))
    for replay, member in zip(alone, members, strict=True):
        member.load_state_dict(replay.state_dict())
        member.restore(28, 40, replay.segment(28, 40))
    whole.take()
    for arrays in more[40:]:
        assert_same_batches(whole, alone)
        whole.add(*arrays)
        for i, replay in enumerate(alone):
            replay.add(*part(i, arrays))


def test_a_row_that_was_cut_is_given_back_as_cut():
    members = [make_replay(seed) for seed in range(S)]
    whole = StackedReplay(members)
    for arrays in steps(20):
        whole.add(*arrays)
    whole.give()
    row = whole.rows - 1
    members[1].amended = {row: {}}
    whole.take()
    whole.give()
    assert [list(member.state_dict()["amended"]) for member in members] == [[row]] * S


def test_replays_that_cannot_lie_side_by_side():
    with pytest.raises(ValueError, match="only uniform replays can lie side by side, got PrioritizedReplay"):
        StackedReplay([PrioritizedReplay(ROWS, N, (2,), torch.float32)])
    with pytest.raises(ValueError, match="stacked frames"):
        StackedReplay([UniformReplay(ROWS, N, (4, 5, 5), torch.uint8, share_frames=True)])
    members = [make_replay(seed) for seed in range(S)]
    whole = StackedReplay(members)
    members[0].rows = 3
    with pytest.raises(ValueError, match=r"replays with \[3, 0, 0\] rows"):
        whole.take()
