"""Is every sampled transition what happened? A world that writes who, when and where into its observations.

T rows of the ring, N environments, S frames of a stack, n steps of a return. The oracle keeps plain lists of episodes.
"""

import io
import tempfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats

from agents.replay.observations import ObservationStore
from agents.replay.rows import Indices
from agents.replay.uniform import UniformReplay

S, T, ACTIONS, GAMMA = 4, 20, 3, 0.9
STACKED = ("repeat", "zeros", "mapped")
every_kind = pytest.mark.parametrize("kind", ["plain", *STACKED])


class World:
    """`rows` steps of N environments, made up beforehand: `adds` is what replay is told, `episodes` what is true.

    Args:
        kind: `plain` vectors; stacks of images, padded at a start by `repeat` or `zeros`; `mapped` is `repeat` in a
            replay whose frames lie in a file.
        unlike_from: observations from this row on are unrelated arrays, of the same shape as a stack.
        zeros_from: stacks that begin from this row on are padded by zeros instead.
        cuts: (row, env) where an episode is cut after replay was told that it goes on.
        end, lose: probabilities that a step ends an episode, or costs a life (terminal, but the episode goes on).
    """

    def __init__(self, kind, rows, num_envs, *, seed=0, end=0.15, lose=0.1, **special):
        rng = np.random.default_rng(seed)
        self.kind, self.rows, self.num_envs, self.special = kind, rows, num_envs, special
        self.episodes = [[[]] for _ in range(num_envs)]
        self.cuts = special.get("cuts", set())
        for row in range(rows):
            for env in range(num_envs):
                episode, cut = self.episodes[env][-1], (row, env) in self.cuts
                ends, lost = rng.random() < end, rng.random() < lose
                terminated = ends and rng.random() < 0.5
                step = SimpleNamespace(
                    row=row,
                    action=int(rng.integers(ACTIONS)),
                    reward=((env * 7 + len(self.episodes[env]) * 3 + len(episode) ** 2) % 11) - 4.75,
                    terminal=not cut and (terminated or (lost and not ends)),
                    end=ends or cut,
                    mask=episode[-1].next_mask if episode else rng.random(ACTIONS) < 0.5,
                    next_mask=rng.random(ACTIONS) < 0.5,
                    obs=self.observation(env, len(episode), row),
                    next_obs=self.observation(env, len(episode) + 1, row + 1),
                )
                episode.append(step)
                if step.end:
                    self.episodes[env].append([])

    def frame(self, env, t):
        """What nothing else in the world looks like; never 0."""
        number = len(self.episodes[env]) - 1
        values = [env + 1, number % 200 + 1, t % 200 + 1, 1 + number // 200 + 10 * (t // 200)]
        return np.array(values, np.float32) if self.kind == "plain" else np.array(values, np.uint8).reshape(2, 2)

    def observation(self, env, t, row):
        if self.kind == "plain":
            return self.frame(env, t)
        if row >= self.special.get("unlike_from", self.rows + 1):
            number = len(self.episodes[env])
            return np.random.default_rng([env, number, t]).integers(0, 255, (S, 2, 2), np.uint8)
        zeros = self.kind == "zeros" or row - t >= self.special.get("zeros_from", self.rows + 1)
        blank = np.zeros((2, 2), np.uint8) if zeros else self.frame(env, 0)
        return np.stack([self.frame(env, k) if k >= 0 else blank for k in range(t - S + 1, t + 1)])

    def told(self, row):
        """The arguments of `add`."""
        steps = [next(s for e in reversed(env) for s in e if s.row == row) for env in self.episodes]
        whole = {k: np.stack([getattr(s, k) for s in steps]) for k in ("obs", "action", "terminal", "next_obs")}
        whole["reward"] = np.array([s.reward for s in steps], np.float32)
        whole["episode_end"] = np.array([s.end and (row, env) not in self.cuts for env, s in enumerate(steps)])
        return whole | {name: np.stack([getattr(s, name) for s in steps]) for name in ("mask", "next_mask")}

    def play(self, replay, stop):
        """Add rows up to `stop`, with cuts."""
        for row in range(replay.rows, stop):
            told = self.told(row)
            replay.add(**told)
            for env in range(self.num_envs):
                if (row, env) in self.cuts:
                    replay.cut(env, told["next_obs"][env])

    def truth(self, n):
        """The n-step transition from every (row, env), by walking along lists of episodes; {name: [rows, N, ...]}."""
        shape = (self.rows, self.num_envs)
        like = self.episodes[0][0][0].obs
        names = {"action": np.int64, "next_action": np.int64, "reward": np.float64, "discount": np.float64}
        truth = {name: np.zeros(shape, dtype) for name, dtype in names.items()}
        truth |= {name: np.zeros((*shape, *like.shape), like.dtype) for name in ("obs", "next_obs")}
        truth |= {name: np.zeros((*shape, ACTIONS), bool) for name in ("mask", "next_mask")}
        for env, episodes in enumerate(self.episodes):
            for episode in episodes:
                for t, start in enumerate(episode):
                    total, factor = 0.0, 1.0
                    for step in episode[t : t + n]:
                        total += factor * step.reward
                        factor *= GAMMA
                        if step.terminal:
                            break
                    after = episode.index(step) + 1
                    last = {
                        "obs": start.obs,
                        "action": start.action,
                        "reward": total,
                        "discount": 0.0 if step.terminal else factor,
                        "next_obs": step.next_obs,
                        "next_action": episode[after].action if after < len(episode) else -1,
                        "mask": start.mask,
                        "next_mask": step.next_mask,
                    }
                    for name, value in last.items():
                        truth[name][start.row, env] = value
        return truth


def make_replay(world, n=1, rows=T, seed=0):
    shape = world.episodes[0][0][0].obs.shape
    return UniformReplay(
        rows * world.num_envs,
        world.num_envs,
        shape,
        torch.float32 if world.kind == "plain" else torch.uint8,
        num_actions=ACTIONS,
        n_step=n,
        gamma=GAMMA,
        share_frames=world.kind != "plain",
        map_dir=tempfile.gettempdir() if world.kind == "mapped" else None,
        seed=seed,
    )


def check_batch(batch, indices, truth):
    at = indices.row.numpy(), indices.env.numpy()
    for name in ("obs", "action", "next_obs", "next_action", "mask", "next_mask"):
        np.testing.assert_array_equal(getattr(batch, name).numpy(), truth[name][at], err_msg=name)
    for name in ("reward", "discount"):  # both are made in float64 and rounded once: one ulp of float32
        np.testing.assert_allclose(getattr(batch, name).numpy(), truth[name][at], rtol=1.2e-7, atol=1e-12, err_msg=name)
    assert (batch.weight == 1).all()


def assert_equal_batches(a, b):
    for name, value in a[0]._asdict().items():
        other = getattr(b[0], name)
        assert value is other is None or torch.equal(value, other), name
    assert torch.equal(a[1].row, b[1].row)
    assert torch.equal(a[1].env, b[1].env)


@every_kind
@pytest.mark.parametrize("num_envs", [1, 4, 7])
@pytest.mark.parametrize("n", [1, 3, 10])
@pytest.mark.parametrize("may_look", [True, False])
def test_every_sampled_transition_is_what_happened(kind, num_envs, n, may_look):
    """By numpy, and by what a device does."""
    # 130 rows go around a ring of 20 six times; 100 samples a row are 11,000 a case, 100,000 for each kind.
    world = World(kind, 130, num_envs, seed=n)
    truth, replay = world.truth(n), make_replay(world, n)
    replay.observations.may_look = may_look
    assert replay.num_rows == T
    for row in range(world.rows):
        world.play(replay, row + 1)
        if row < n:
            assert len(replay) == 0
            with pytest.raises(ValueError, match=f"no whole transition yet: {row + 1} rows for {n}-step"):
                replay.sample(1)
            continue
        batch, indices = replay.sample(100)
        overwritten = max(0, row + 1 - T)
        first = overwritten + (S - 1 if kind in STACKED and overwritten else 0)
        assert int(indices.row.min()) >= first
        assert int(indices.row.max()) + n <= row, "the successor's row must have been added"
        assert len(replay) == (row + 1 - n - first) * num_envs
        check_batch(batch, indices, truth)
    assert replay.layout() == (S if kind in STACKED else 1)


def test_truth_by_hand():
    """The oracle's own conventions, and replay's, on one environment with n = 3 and gamma = 1/2."""
    replay = UniformReplay(100, 1, (1,), torch.float32, n_step=3, gamma=0.5)
    #             row 0: start, row 1: a life is lost, row 3: cut by the time limit, row 5: terminated, rows 6..: go on
    terminal = [False, True, False, False, False, True, False, False, False, False, False]
    ends = [False, False, False, True, False, True, False, False, False, False, False]
    obs, next_obs = [0, 1, 2, 3, 10, 11, 20, 21, 22, 23, 24], [1, 2, 3, 4, 11, 12, 21, 22, 23, 24, 25]
    for row in range(11):
        replay.add(
            np.array([[obs[row]]], np.float32),
            np.array([row]),
            np.array([2.0**row], np.float32),
            np.array([terminal[row]]),
            np.array([ends[row]]),
            np.array([[next_obs[row]]], np.float32),
        )
    batch = replay.gather(Indices(torch.arange(8), num_envs=1))
    assert batch.obs[:, 0].tolist() == [0, 1, 2, 3, 10, 11, 20, 21]
    assert batch.reward.tolist() == [1 + 1, 2, 4 + 4, 8, 16 + 16, 32, 64 * 3, 128 * 3]
    assert batch.discount.tolist() == [0, 0, 1 / 4, 1 / 2, 0, 0, 1 / 8, 1 / 8]
    assert batch.next_obs[:, 0].tolist() == [2, 2, 4, 4, 12, 12, 23, 24]
    assert batch.next_action.tolist() == [2, 2, -1, -1, -1, -1, 9, 10]
    assert batch.next_mask is batch.mask is None


@pytest.mark.parametrize(("kind", "rows", "n", "first", "stop"), [
    ("plain", 8, 1, 0, 7),  # not wrapped: all but the last row, whose successor is not there yet
    ("plain", 8, 2, 0, 6),
    ("plain", 29, 2, 21, 27),  # 8 rows are there: 21 .. 28
    ("repeat", 8, 2, 0, 6),
    ("repeat", 29, 2, 24, 27),  # stacks of 4 from row 21 on begin with row 24
])  # fmt: skip
def test_every_valid_start_is_equally_likely(kind, rows, n, first, stop):
    world = World(kind, rows, 3)
    replay = make_replay(world, n, rows=8, seed=5)
    world.play(replay, rows)
    _, indices = replay.sample(20_000)
    counts = np.zeros((rows, 3), int)
    np.add.at(counts, (indices.row.numpy(), indices.env.numpy()), 1)
    assert counts.sum() == counts[first:stop].sum(), "only whole transitions"
    assert (counts[first:stop] > 0).all(), "all of them"
    # The seed is fixed, so this passes or fails for good; a share wrong by a tenth would give p < 1e-6.
    assert stats.chisquare(counts[first:stop].ravel()).pvalue > 0.01


def test_the_seed_alone_decides_what_is_sampled():
    world = World("plain", 30, 2)
    a, b, c = make_replay(world), make_replay(world), make_replay(world, seed=1)
    for replay in (a, b, c):
        world.play(replay, 30)
    first = a.sample(64)
    assert_equal_batches(first, b.sample(64))
    assert not torch.equal(first[1].row, c.sample(64)[1].row)


def test_stacks_of_numbers():
    """Observations [S] (frame_stack on a number) share as well: a frame is then a scalar."""
    replay = UniformReplay(40, 1, (3,), torch.float32, share_frames=True, gamma=GAMMA)
    obs = np.array([[1, 1, 1]], np.float32)
    seen = []
    for t in range(2, 60):
        end = t % 5 == 0
        next_obs = np.concatenate([obs[:, 1:], [[t]]], 1).astype(np.float32)
        replay.add(obs, np.zeros(1, int), np.zeros(1, np.float32), np.zeros(1, bool), np.array([end]), next_obs)
        seen.append((obs[0].tolist(), next_obs[0].tolist()))
        obs = np.full((1, 3), t + 0.5, np.float32) if end else next_obs
    assert replay.observations.frames.shape == (40, 1)
    batch, indices = replay.sample(300)
    for row, got, following in zip(indices.row.tolist(), batch.obs.tolist(), batch.next_obs.tolist(), strict=True):
        assert (got, following) == seen[row]


def test_missing_masks_allow_everything():
    """A mask that is not given must not be one that lay there a ring ago."""
    replay = UniformReplay(4, 1, (1,), torch.float32, num_actions=2)
    one, no = np.ones((1, 1), np.float32), np.zeros(1, bool)
    for row in range(12):
        mask = np.array([[False, True]]) if row < 6 else None
        replay.add(one, np.zeros(1, int), one[0], no, no, one, mask, mask)
    batch = replay.sample(50)[0]
    assert batch.next_mask.all()
    assert batch.mask.all()


# Observations that are no stacks, or cease to be: kept whole from there on, with nothing lost that could be rebuilt.
VIOLATIONS = {
    "never stacks": ("repeat", {"unlike_from": 0}),
    "before the ring is full": ("repeat", {"unlike_from": 9}),
    "after it went around": ("repeat", {"unlike_from": 45}),
    "zeros, after it went around": ("zeros", {"unlike_from": 45}),
    "in a file, after it went around": ("mapped", {"unlike_from": 45}),
    "padded in another way": ("repeat", {"zeros_from": 9}),
    "padded in another way, later": ("repeat", {"zeros_from": 45}),
}


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("case", VIOLATIONS)
def test_what_is_not_a_stack_is_kept_whole(case, n):
    kind, special = VIOLATIONS[case]
    world = World(kind, 100, 3, seed=2, end=0.3, **special)
    truth, replay = world.truth(n), make_replay(world, n)
    violated = next(iter(special.values()))
    whole_since, first_whole = None, 0
    for row in range(world.rows):
        world.play(replay, row + 1)
        if whole_since is None and replay.layout() == 1:
            whole_since = row
            overwritten = max(0, row - T)  # when it changed; stacks that began there had lost frames
            first_whole = overwritten + S - 1 if overwritten else 0
        overwritten = max(0, row + 1 - T)
        first = max(overwritten + (S - 1 if overwritten and replay.layout() > 1 else 0), first_whole)
        assert replay.valid_rows() == (first, row + 1 - n)
        if len(replay):
            # Every one that can be sampled, not a sample: it is the first few that a mistake here would hit.
            starts = torch.cartesian_prod(torch.arange(first, row + 1 - n), torch.arange(3))
            indices = Indices.of(starts[:, 0], starts[:, 1], num_envs=3)
            check_batch(replay.gather(indices), indices, truth)
            check_batch(*replay.sample(20), truth)
    # An array that is unlike the stack before it shows as the successor one row earlier.
    expected = max(0, violated - 1)
    assert expected <= whole_since <= (expected if "unlike_from" in special else expected + 10)


def test_other_shapes_are_not_shared_unless_asked():
    assert ObservationStore(5, 1, (3, 2, 2), torch.uint8, share_frames=False, device=torch.device("cpu")).stack == 1


def through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=True)


def segments_of(replay, world, stops):
    """What a checkpointer keeps: each segment is taken when its last row has just been added, and never again."""
    segments = []
    for stop in stops:
        world.play(replay, stop)
        start = max(segments[-1][1] if segments else 0, replay.rows - replay.num_rows)
        segments.append((start, stop, through_a_file(replay.segment(start, stop))))
    return segments


def check_restored(replay, world, n, segments, fresh=None):
    """Another replay with the same state and segments is the same replay, now and later."""
    state = through_a_file(replay.state_dict())
    fresh = fresh or make_replay(world, n, seed=99)
    fresh.load_state_dict(state)
    for start, stop, segment in reversed(segments):  # the order must not matter: what was overwritten stays away
        fresh.restore(start, stop, segment)
    truth = world.truth(n)
    assert len(fresh) == len(replay) > 0
    for row in range(replay.rows, world.rows):
        expected, got = replay.sample(200), fresh.sample(200)
        assert_equal_batches(expected, got)
        check_batch(*got, truth)
        world.play(replay, row + 1)
        world.play(fresh, row + 1)
    return fresh


STOPS = {
    "one": (50,),
    "several, some overwritten": (7, 8, 31, 39, 50),
    "an empty tail": (31, 50, 50),
    "not yet wrapped": (5, 14),
    "longer than the ring": (3, 50),
}


@every_kind
@pytest.mark.parametrize("stops", STOPS)
def test_a_replay_rebuilt_from_segments_is_the_same(kind, stops):
    world = World(kind, 90, 5, seed=3, end=0.5)  # about 50 final observations live in a ring that begins with 64
    replay = make_replay(world, 3)
    fresh = check_restored(replay, world, 3, segments_of(replay, world, STOPS[stops]))
    assert fresh.observations.num_finals > 3 * 64, "the ring of final observations went around"


def test_what_a_replay_held_before_it_is_loaded_is_forgotten():
    """Also where the loaded one has not come so far: its few rows must not meet final observations of others."""
    world = World("repeat", 60, 3, seed=5, end=0.6)
    used, replay = make_replay(world, 3), make_replay(world, 3)
    world.play(used, 50)
    check_restored(replay, world, 3, segments_of(replay, world, (8,)), used)
    assert len(replay.observations.finals) == len(used.observations.finals) < 4 * (T + 1) * 3


@pytest.mark.parametrize(("kind", "unlike_from"), [("repeat", 9), ("repeat", 30), ("mapped", 30)])
def test_segments_after_a_change_of_layout(kind, unlike_from):
    world = World(kind, 90, 3, seed=4, end=0.4, unlike_from=unlike_from)
    replay = make_replay(world, 3)
    world.play(replay, 32)
    assert replay.layout() == 1
    check_restored(replay, world, 3, segments_of(replay, world, (32, 37)))


CUTS = {(12, 0), (13, 2), (31, 1), (39, 0), (39, 2), (70, 1)}


@every_kind
def test_cut_ends_an_episode_as_truncated(kind):
    world = World(kind, 110, 3, seed=6, end=0.05, cuts=CUTS)
    for n in (1, 3):
        replay, truth = make_replay(world, n), world.truth(n)
        for row in range(n, world.rows):
            world.play(replay, row + 1)
            check_batch(*replay.sample(200), truth)
        assert replay.layout() == (S if kind in STACKED else 1)


def test_cut_at_the_start_of_an_episode_does_nothing():
    world = World("repeat", 60, 2, seed=7, end=0.3)
    replay, truth = make_replay(world, 3), world.truth(3)
    for row in range(60):
        world.play(replay, row + 1)
        for env in range(2):
            if replay.age[env] == 0:
                replay.cut(env, world.told(row)["obs"][env])
        if row >= 3:
            check_batch(*replay.sample(100), truth)


@every_kind
def test_cut_reaches_rows_that_are_in_a_segment_already(kind):
    """A run is resumed, an environment turns out not to be deterministic and is cut; then it is resumed again."""
    world = World(kind, 90, 3, seed=8, end=0.05, cuts={(39, 0), (39, 2), (44, 1)})
    replay = make_replay(world, 3)
    cuts, world.cuts = world.cuts, set()
    told = world.told

    def told_without_cuts(row):  # replay does not know yet when the segment is taken
        return told(row) | {"episode_end": told(row)["episode_end"] & [(row, env) not in cuts for env in range(3)]}

    world.told = told_without_cuts
    segments = segments_of(replay, world, (25, 40))
    for env in (0, 2):
        replay.cut(env, told(39)["next_obs"][env])
    world.cuts, world.told = cuts, told
    world.play(replay, 50)
    segments.append((40, 50, through_a_file(replay.segment(40, 50))))
    fresh = check_restored(replay, world, 3, segments)
    assert not fresh.state_dict()["amended"], "it is forgotten when the rows are overwritten"


def test_amended_rows_survive_being_loaded_twice():
    world = World("zeros", 60, 2, seed=9, end=0.0, lose=0.0, cuts={(29, 0)})
    replay = make_replay(world, 3)
    cuts, world.cuts = world.cuts, set()
    world.play(replay, 29)
    told = world.told(29)
    replay.add(**(told | {"episode_end": np.zeros(2, bool)}))
    segment = through_a_file(replay.segment(10, 30))
    replay.cut(0, told["next_obs"][0])
    world.cuts = cuts
    second = make_replay(world, 3, seed=1)
    second.load_state_dict(through_a_file(replay.state_dict()))
    second.restore(10, 30, segment)
    world.play(second, 33)
    segments = [(10, 30, segment), (30, 33, through_a_file(second.segment(30, 33)))]
    check_restored(second, world, 3, segments)


@every_kind
def test_a_batch_is_the_same_where_nothing_looks_at_what_is_in_it(kind):
    world = World(kind, 50, 3)
    replay = make_replay(world, 3)
    world.play(replay, world.rows)
    indices = replay.draw(300)
    wanted = replay.gather(indices)
    replay.observations.may_look = False
    for got, expected in zip(replay.gather(indices), wanted, strict=True):
        assert got is expected is None or torch.equal(got, expected)


@every_kind
def test_finals_without_asking_where_are_the_finals(kind):
    """What a device does, which reads one for every step, is what a CPU does, which looks where there are any."""
    world = World(kind, 50, 3)
    replay = make_replay(world)
    world.play(replay, world.rows)
    store, steps = replay.observations, replay.draw(300).step
    ended = replay.episode_end.flatten()[store.place(steps)]
    assert ended.any()
    assert not ended.all()
    got = store.with_finals(store.read(steps + store.num_envs), steps, ended)
    assert torch.equal(got, store.read_next(steps, ended))
