"""Is every sampled sequence what happened, and is it sampled as often as it should be?

T steps of a trace, L burn-in steps before it, N environments, n steps of a return. The oracle walks along plain lists
of episodes.
"""

import importlib.util
import io
from pathlib import Path

import numpy as np
import pytest
import torch

from agents.replay.rows import Indices
from agents.replay.sequences import SequenceReplay

# The world that writes who, when and where into its observations.
SPEC = importlib.util.spec_from_file_location("worlds", Path(__file__).with_name("test_replay_transitions.py"))
worlds = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(worlds)
S, World, GAMMA = worlds.S, worlds.World, worlds.GAMMA
ROWS = 24
SHAPES = {"overlapping": (2, 4, 3), "no burn-in": (0, 4, 4), "one after the other": (3, 5, 5), "one step": (1, 1, 1)}
each_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def make_replay(world, shape=(2, 4, 3), n=2, **options):
    burn_in, trace, period = shape
    like = world.episodes[0][0][0].obs
    stacks = world.kind != "plain"
    return SequenceReplay(
        ROWS * world.num_envs,
        world.num_envs,
        like.shape,
        torch.uint8 if stacks else torch.float32,
        num_actions=worlds.ACTIONS,
        n_step=n,
        gamma=GAMMA,
        share_frames=stacks,
        **{"state_size": 2, "burn_in_steps": burn_in, "trace_steps": trace, "period_steps": period, **options},
    )


def play(world, replay, stop):
    """As `World.play`, with a state that says who and when."""
    for row in range(replay.rows, stop):
        told = world.told(row)
        replay.add(**told, state=torch.tensor([[row + 0.5, env] for env in range(world.num_envs)]))
        for env in range(world.num_envs):
            if (row, env) in world.cuts:
                replay.cut(env, told["next_obs"][env])


def whole(world, replay, shape, stop):
    """{(row, env): (episode, index of its first step, index of its last)} of the sequences that can be sampled."""
    burn_in, trace, period = shape
    frames_before = S - 1 if world.kind != "plain" else 1  # of a stack; the last action and reward
    first = 0 if stop <= replay.num_rows else stop - replay.num_rows + frames_before
    found = {}
    for env, episodes in enumerate(world.episodes):
        for episode in episodes:
            for start in range(0, len(episode), period):
                last = min(start + trace, len(episode)) - 1
                row = episode[start].row
                over = episode[last].end and episode[last].row < stop
                if (over or row + trace < stop) and row - (burn_in if start else 0) >= first:
                    found[row, env] = episode, start, last
    return found


def check(batch, column, sequence, env, shape, n):
    """One sequence of a batch, field by field."""
    burn_in, trace, _ = shape
    episode, start, last = sequence
    begun = start - burn_in if start else start
    assert batch.burnt_in[column] == (start > 0)
    assert batch.state[column].tolist() == [episode[begun].row + 0.5, env]
    for index in range(begun, last + 2):
        at = burn_in + index - start
        before = episode[index - 1] if index else None
        np.testing.assert_array_equal(
            batch.obs[at, column], episode[index].obs if index <= last else episode[last].next_obs
        )
        assert batch.last_action[at, column] == (before.action if before else -1)
        assert batch.last_reward[at, column] == (before.reward if before else 0)
    for t in range(trace):
        real = start + t <= last
        index = start + t if real else start
        reward, discount = 0.0, 1.0
        for step in episode[index : min(index + n, start + trace)]:
            reward += discount * step.reward
            discount = 0.0 if step.terminal else discount * GAMMA
            if step.terminal:
                break
        after = episode.index(step) + 1
        assert batch.real[t, column] == real
        assert batch.position[t, column] == index - start
        assert batch.next_position[t, column] == after - start
        assert batch.action[t, column] == episode[index].action
        # Both are made in float64 and rounded once: one ulp of float32.
        assert batch.reward[t, column].item() == pytest.approx(reward, rel=1.2e-7, abs=1e-12)
        assert batch.discount[t, column].item() == pytest.approx(discount, rel=1.2e-7)
        assert batch.next_action[t, column] == (episode[after].action if after < len(episode) else -1)
        np.testing.assert_array_equal(batch.mask[t, column], episode[index].mask)
        np.testing.assert_array_equal(batch.next_mask[t, column], step.next_mask)


@each_shape
@pytest.mark.parametrize("kind", ["plain", "repeat", "zeros"])
def test_every_sequence_is_what_happened(kind, shape):
    """All that are whole can be sampled, no others, and none goes across a reset: frames say whose they are."""
    world = World(kind, 90, 3, seed=1, end=0.12, cuts={(13, 0), (50, 2), (51, 2)})
    replay = make_replay(world, shape)
    assert replay.num_rows == ROWS
    for stop in [*range(1, 12), 24, 25, 26, 29, 60, 61, 90]:
        play(world, replay, stop)
        expected = whole(world, replay, shape, stop)
        assert len(replay) == len(expected)
        weights = replay.tree.weights.view(ROWS, 3)
        assert {(r, e) for r, e in expected if weights[r % ROWS, e] > 0} == expected.keys()
        assert int((weights > 0).sum()) == len(expected)
        if not expected:
            continue
        batch, indices = replay.sample(40)
        batch = type(batch)(*(x if x is None else x.numpy() for x in batch))
        for column, (row, env) in enumerate(zip(indices.row.tolist(), indices.env.tolist(), strict=True)):
            check(batch, column, expected[row, env], env, shape, n=2)


@pytest.mark.parametrize("n", [1, 3, 9])
def test_n_steps_end_with_the_sequence(n):
    world = World("plain", 60, 2, seed=3, end=0.03, lose=0.3)
    shape = (2, 6, 4)
    replay = make_replay(world, shape, n)
    play(world, replay, 60)
    expected = whole(world, replay, shape, 60)
    batch, indices = replay.sample(60)
    for column, (row, env) in enumerate(zip(indices.row.tolist(), indices.env.tolist(), strict=True)):
        check(type(batch)(*(x if x is None else x.numpy() for x in batch)), column, expected[row, env], env, shape, n)
    assert int(batch.next_position.max()) == 6


def one_episode(steps, **options):
    """A replay of one environment whose only episode ends after `steps`; traces at 0, 2, 4, ..."""
    options = {"burn_in_steps": 2, "trace_steps": 4, "period_steps": 2, "state_size": 1, **options}
    replay = SequenceReplay(100, 1, (1,), torch.float32, **options)
    for t in range(steps):
        obs, end = np.full((1, 1), t, np.float32), np.array([t == steps - 1])
        replay.add(obs, np.array([t]), np.array([t], np.float32), end, end, obs + 1)
    return replay


def test_priorities_by_hand():
    """eta max + (1 - eta) mean over the real steps, to the power of 0.9; weights (min P / P)**0.6."""
    replay = one_episode(6, epsilon=1e-12)
    assert len(replay) == 3
    indices = Indices(torch.tensor([0, 2, 4]), num_envs=1)
    # The third has two real steps: what is said of its padding is not asked.
    td_error = torch.tensor([[1.0, 0, 3], [-4, 0, -1], [1, 0.5, 99], [2, 0, -99]])
    replay.update_priorities(indices, td_error.flatten(), torch.full((12,), torch.nan))
    priority = np.array([0.9 * 4 + 0.1 * 2, 0.9 * 0.5 + 0.1 * 0.125, 0.9 * 3 + 0.1 * 2])
    weight = priority**0.9
    np.testing.assert_allclose(replay.tree.weights[[0, 2, 4]], weight, rtol=1e-6)
    probability = weight / weight.sum()
    np.testing.assert_allclose(
        replay.importance_weights(replay.probability(indices)), (probability.min() / probability) ** 0.6, rtol=1e-6
    )
    assert replay.tree.weights[[1, 3, 5]].tolist() == [0, 0, 0]
    _, drawn = replay.sample(30_000)
    shares = np.bincount(drawn.row.numpy(), minlength=6)[[0, 2, 4]] / 30_000
    np.testing.assert_allclose(shares, probability, atol=1e-4)  # stratified: off by one draw in each stratum's corner
    assert replay.max_weight.item() == pytest.approx(max(1, weight.max()))


def test_a_new_sequence_has_the_largest_priority_so_far():
    replay = one_episode(4)
    _, indices = replay.sample(1)
    replay.update_priorities(indices, torch.full((4,), 5.0), torch.zeros(4))
    for t in range(2):
        obs, end = np.full((1, 1), t, np.float32), np.array([t == 1])
        replay.add(obs, np.zeros(1, int), np.zeros(1, np.float32), end, end, obs + 1)
    assert len(replay) == 3
    assert replay.tree.weights[4] == replay.max_weight > 4


def test_a_priority_of_what_left_the_ring_is_ignored():
    """Of a sequence whose burn-in has been overwritten, too, although its trace is there."""
    world = World("plain", 60, 1, seed=0, end=0.0)
    replay = make_replay(world, (2, 4, 3))
    play(world, replay, 24)
    indices = Indices(torch.tensor([0, 3, 15]), num_envs=1)
    replay.weigh_new()
    assert (replay.tree.weights[indices.row] > 0).all()
    play(world, replay, 26)  # the first readable row is 3: it has the action before
    replay.update_priorities(indices, torch.full((12,), 2.0), torch.zeros(12))
    assert [w > 0 for w in replay.tree.weights[indices.row].tolist()] == [False, False, True]


def test_state_dict_and_segments():
    """A replay put together from its parts goes on as the original: what is sampled, and how it is weighted."""
    world = World("repeat", 70, 2, seed=4, cuts={(40, 1)})
    replay, again = make_replay(world), make_replay(world)
    play(world, replay, 41)
    _, indices = replay.sample(8)
    replay.update_priorities(indices, torch.arange(32.0), torch.zeros(32))
    file = io.BytesIO()
    torch.save({"state": replay.state_dict(), "rows": replay.segment(17, 41)}, file)
    file.seek(0)
    stored = torch.load(file, weights_only=True)
    again.load_state_dict(stored["state"])
    again.restore(17, 41, stored["rows"])
    for stop in (41, 50, 70):
        play(world, replay, stop)
        play(world, again, stop)
        assert len(replay) == len(again) > 0
        one, other = replay.sample(20), again.sample(20)
        worlds.assert_equal_batches(one, other)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"state_size": 0}, "for an agent with a memory"),
        ({"burn_in_steps": 3}, "burn_in_steps 3, period_steps 2 and trace_steps 4: wanted"),
        ({"period_steps": 5}, "period_steps 5 and trace_steps 4: wanted"),
        ({"burn_in_steps": 0, "period_steps": 0}, "a period of at least 1"),
        ({"eta": 1.5}, "eta 1.5 is not between 0 and 1"),
    ],
)
def test_refused(options, words):
    with pytest.raises(ValueError, match=words):
        one_episode(1, **options)


def test_there_is_always_room_for_a_whole_sequence():
    replay = SequenceReplay(
        1, 2, (1,), torch.float32, state_size=1, burn_in_steps=2, trace_steps=5, period_steps=3, gamma=GAMMA
    )
    no = np.zeros(2, bool)
    for t in range(60):
        obs = np.full((2, 1), t, np.float32)
        replay.add(obs, np.zeros(2, int), np.zeros(2, np.float32), no, no, obs + 1)
        assert (len(replay) > 0) == (t >= 5)
