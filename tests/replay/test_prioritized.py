"""Is everything sampled with the probability that its priority says, and is what is sampled what happened?

T rows of the ring, N environments, S frames of a stack, n steps of a return. The oracle keeps a priority for each
transition in a dictionary.
"""

import importlib.util
import io
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from agents.config import RunConfig
from agents.replay import REPLAYS, memory
from agents.replay.memory import ReplayTooLargeError
from agents.replay.prioritized import PrioritizedReplay
from agents.replay.rows import Indices
from agents.replay.sum_tree import SumTree
from agents.running.progress import Silent
from agents.running.setup import build
from value_heads.registry import options_of

# The world that writes who, when and where into its observations, with its checks.
SPEC = importlib.util.spec_from_file_location("worlds", Path(__file__).with_name("test_replay_transitions.py"))
worlds = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(worlds)
S, T, World = worlds.S, worlds.T, worlds.World


def make_replay(world, n=1, rows=T, seed=0, **options):
    shape = world.episodes[0][0][0].obs.shape
    stacks = world.kind != "plain"
    return PrioritizedReplay(
        rows * world.num_envs,
        world.num_envs,
        shape,
        torch.uint8 if stacks else torch.float32,
        num_actions=worlds.ACTIONS,
        n_step=n,
        gamma=worlds.GAMMA,
        share_frames=stacks,
        seed=seed,
        **options,
    )


def of(replay, *pairs):
    """Indices of (row, env) pairs."""
    row, env = zip(*pairs, strict=True)
    return Indices.of(torch.tensor(row), torch.tensor(env), replay.num_envs)


def update(replay, indices, errors):
    """As an agent does after an update; the losses are of no meaning here."""
    errors = torch.as_tensor(errors, dtype=torch.float32)
    replay.update_priorities(indices, errors, torch.full_like(errors, math.nan))


def update_randomly(replay, indices, rng):
    update(replay, indices, rng.normal(size=len(indices.row)) * 3)


def four_transitions(**options):
    """Rows 0 .. 3 of one environment, whole, and priorities 1 as nothing was learned yet."""
    replay = PrioritizedReplay(100, 1, (1,), torch.float32, **options)
    for t in range(5):
        obs, no = np.full((1, 1), t, np.float32), np.zeros(1, bool)
        replay.add(obs, np.zeros(1, int), np.zeros(1, np.float32), no, no, obs + 1)
    replay.weigh_new()
    return replay, of(replay, (0, 0), (1, 0), (2, 0), (3, 0))


def check_batch(batch, indices, truth):
    """What happened, with weights in (0, 1]."""
    assert batch.weight.dtype == torch.float32
    assert batch.weight.max() == 1
    assert batch.weight.min() > 0
    worlds.check_batch(batch._replace(weight=torch.ones_like(batch.weight)), indices, truth)


# Tables by hand: what is sampled how often, and weighted how, after one update of all four transitions.
# Dopamine, rainbow_agent.py: priorities sqrt(loss + 1e-10); weights 1 / sqrt(p), divided by their maximum. The square
# roots are 1/2, 1, 2 and 3, of 13/2 in all, and the weights are sqrt(1/2 / p).
COMPACT = {"priority": "loss", "exponent": 0.5, "epsilon": 1e-10, "importance_exponent": 0.5}
# BTR, Agent.py and PER.py of its authors: (|td| + 1e-6)**0.2 and (M P)**-0.2, divided by the maximum. 1e-6**0.2 is
# 0.0630957, the others are 1, 2 and 3 as 2**5 = 32 and 3**5 = 243; 6.0630957 in all, and (0.0630957 / p)**0.2.
BTR = {"priority": "td_error", "exponent": 0.2, "epsilon": 1e-6, "importance_exponent": 0.2}
# dqn_zoo, rainbow/run_atari.py and replay.py: 0.999 of losses**0.5 and 0.001 of uniform; (P / (1/M))**-0.4. No epsilon.
RAINBOW = {
    "priority": "loss",
    "exponent": 0.5,
    "epsilon": 1e-10,
    "importance_exponent": 0.4,
    "uniform_mix": 1e-3,
    "stratified": False,
}
PUBLISHED = {
    "compact rainbow": (
        COMPACT,
        [0.25, 1, 4, 9],
        [1 / 13, 2 / 13, 4 / 13, 6 / 13],
        [1, 0.7071067812, 0.5, 0.4082482905],
    ),
    "btr": (
        BTR,
        [0, 1, -32, 243],
        [0.0104065208, 0.1649322736, 0.3298644833, 0.4947967223],
        [1, 0.5754399143, 0.5009495610, 0.4619295539],
    ),
    "rainbow": (
        RAINBOW,
        [0.25, 1, 4, 9],
        [0.0770961538, 0.1539423077, 0.3076346154, 0.4613269231],
        [1, 0.7583503438, 0.5749088638, 0.4888882108],
    ),
}


@pytest.mark.parametrize("variant", PUBLISHED)
def test_the_published_variants(variant):
    options, errors, probability, weights = PUBLISHED[variant]
    replay, indices = four_transitions(**options)
    assert replay.probability(indices).tolist() == [0.25] * 4
    errors, nothing = torch.tensor(errors, dtype=torch.float32), torch.full((4,), math.nan)
    given = (nothing, errors) if options["priority"] == "loss" else (errors, nothing)
    replay.update_priorities(indices, *given)
    # 1e-6: the table has ten digits, and where epsilon is not 0 it moves the other numbers by up to 1e-6.
    assert replay.probability(indices).tolist() == pytest.approx(probability, rel=1e-6)
    assert replay.importance_weights(replay.probability(indices)).tolist() == pytest.approx(weights, rel=1e-6)
    batch, drawn = replay.sample(64)
    expected = torch.tensor(weights)[drawn.row] / torch.tensor(weights)[drawn.row].max()
    torch.testing.assert_close(batch.weight, expected, rtol=1e-6, atol=0)


def test_importance_weights_make_a_batch_unbiased():
    """With beta = 1, weights are in the proportion 1 / P(i): sum_i P(i) w_i f_i is the mean of f up to a factor."""
    replay, indices = four_transitions(importance_exponent=1.0, exponent=1.0)
    update(replay, indices, [1, 2, 3, 4])
    probability = replay.probability(indices)
    assert probability.tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4], rel=1e-5)
    contribution = probability * replay.importance_weights(probability)
    assert contribution.tolist() == pytest.approx([0.1] * 4, rel=1e-5)


@pytest.mark.parametrize(("steps", "beta"), [(1, 0.4 + 0.6 / 40), (10, 0.55), (40, 1.0), (70, 1.0)])
def test_the_importance_exponent_rises_to_one(steps, beta):
    world = World("plain", 70, 2)
    replay = make_replay(world, importance_exponent=0.4, importance_steps=80)
    world.play(replay, steps)
    assert replay.beta() == pytest.approx(beta)
    assert make_replay(world, importance_exponent=0.3).beta() == 0.3
    assert replay.importance_weights(torch.tensor([0.1, 0.4])).tolist() == pytest.approx([1, 0.25**beta])


def test_new_transitions_have_the_largest_priority_so_far():
    world = World("plain", 30, 2)
    replay = make_replay(world, 3, exponent=1.0, epsilon=0.5)
    weight = lambda *at: float(replay.tree.weights[replay.leaf(of(replay, at))])  # noqa: E731
    world.play(replay, 6)
    _, indices = replay.sample(3)
    assert (weight(0, 0), weight(2, 1)) == (1, 1), "before any update"
    assert (weight(3, 0), weight(5, 1)) == (0, 0), "three steps are not done"
    update(replay, of(replay, (0, 0), (1, 1), (2, 0)), [7.5, -0.25, 2])
    world.play(replay, 7)
    replay.sample(1)
    assert [weight(0, 0), weight(0, 1), weight(1, 1), weight(2, 0), weight(3, 0), weight(3, 1)] == [
        *(8, 1, 0.75, 2.5),
        *(8, 8),  # new
    ]
    update(replay, of(replay, (0, 0)), [0])
    world.play(replay, 9)
    replay.sample(1)
    assert (weight(0, 0), weight(5, 0)) == (0.5, 8), "the largest never falls"
    update(replay, indices, [0, 0, 0])
    world.play(replay, 10)
    update(replay, of(replay, (5, 0)), [100])
    assert (weight(6, 1), weight(5, 0)) == (8, 100.5), "as it was when it became whole, before this update"


def test_a_transition_drawn_twice_keeps_the_larger_priority():
    for order in (1, -1):
        replay, _ = four_transitions(exponent=1.0, epsilon=1.0)
        update(replay, of(replay, (1, 0), (1, 0), (2, 0), (1, 0)), [3.0, 5.0, 0.0, 4.0][::order][:4])
        expected = {1: [1, 6, 1, 1], -1: [1, 5, 6, 1]}[order]
        assert replay.tree.weights[:4].tolist() == expected


def test_errors_that_are_no_numbers_count_as_the_largest():
    replay, indices = four_transitions(exponent=1.0, epsilon=1.0)
    update(replay, indices, [3.0, math.nan, math.inf, -math.inf])
    assert replay.tree.weights[:4].tolist() == [4, 1, 1, 1]
    update(replay, indices, [1.0, math.nan, math.inf, -math.inf])
    assert replay.tree.weights[:4].tolist() == [2, 4, 4, 4]
    assert float(replay.max_weight) == 4


def test_what_was_overwritten_since_it_was_sampled_is_left_out():
    world = World("repeat", 40, 2)
    replay = make_replay(world)
    world.play(replay, 25)
    first, stop = replay.valid_rows()
    old = of(replay, (first, 0), (first, 1))
    world.play(replay, 40)
    replay.weigh_new()
    before = replay.tree.weights.clone()
    assert replay.valid_rows()[0] > first
    update(replay, old, [9.0, 9.0])
    update(replay, of(replay, (stop + 15, 0), (stop + 15, 1)), [9.0, 9.0])  # not whole yet: the row after it is missing
    assert torch.equal(replay.tree.weights, before)


class Oracle:
    """Priorities in a dictionary, {(row, env): weight}, with those that can be sampled."""

    def __init__(self, world, n, rows, exponent, epsilon):
        self.world, self.n, self.num_rows, self.exponent, self.epsilon = world, n, rows, exponent, epsilon
        self.rows, self.largest, self.weight = 0, 1.0, {}

    def add(self):
        self.rows += 1
        oldest = self.rows - self.num_rows
        lacks_frames = S - 1 if oldest > 0 and self.world.kind != "plain" else 0
        for row, env in list(self.weight):
            if row < oldest + lacks_frames:
                del self.weight[row, env]
        if (row := self.rows - 1 - self.n) >= 0:
            self.weight |= {(row, env): self.largest for env in range(self.world.num_envs)}

    def update(self, pairs, errors):
        new = {}
        for pair, error in zip(pairs, errors, strict=True):
            new[pair] = max(new.get(pair, 0.0), (abs(float(np.float32(error))) + self.epsilon) ** self.exponent)
        self.weight |= new
        self.largest = max([self.largest, *new.values()])


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 12)),
        st.tuples(st.just("update"), st.integers(1, 9)),
        st.tuples(st.just("cut"), st.integers(0, 2)),
    ),
    min_size=5,
    max_size=30,
)
LONG = {kind: World(kind, 400, 3, seed=11, end=0.2) for kind in ("plain", "repeat")}
TOLD = {kind: [world.told(row) for row in range(400)] for kind, world in LONG.items()}
TRUTH = {(kind, n): world.truth(n) for kind, world in LONG.items() for n in (1, 3)}


@given(OPERATIONS, st.sampled_from(["plain", "repeat"]), st.sampled_from([1, 3]), st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_priorities_against_a_dictionary(operations, kind, n, seed):
    world, rng = LONG[kind], np.random.default_rng(seed)
    replay = make_replay(world, n, rows=12, seed=seed, exponent=0.7, epsilon=0.01)
    oracle = Oracle(world, n, 12, 0.7, 0.01)
    cut = False
    for name, count in operations:
        if name == "add":
            for _ in range(count):
                replay.add(**TOLD[kind][replay.rows])
                oracle.add()
        elif name == "cut":
            if replay.rows and kind == "plain":  # a stack that goes on after a cut is no stack any more
                cut = cut or bool(replay.age[count])
                replay.cut(count, TOLD[kind][replay.rows - 1]["next_obs"][count])
        elif oracle.weight:
            batch, indices = replay.sample(count)
            if not cut:  # the world does not know of cuts that were made up here
                check_batch(batch, indices, TRUTH[kind, n])
            pairs = list(zip(indices.row.tolist(), indices.env.tolist(), strict=True))
            assert set(pairs) <= oracle.weight.keys()
            total = math.fsum(oracle.weight.values())
            # 1e-13: the powers of two libraries may differ by an ulp, and sums of 36 by their order.
            expected = [oracle.weight[pair] / total for pair in pairs]
            assert replay.probability(indices).tolist() == pytest.approx(expected, rel=1e-13)
            errors = rng.normal(size=count) * 3
            update(replay, indices, errors)
            oracle.update(pairs, errors)
        assert len(replay) == len(oracle.weight)
        replay.weigh_new()
        leaves = np.zeros((12, 3))
        for (row, env), weight in oracle.weight.items():
            leaves[row % 12, env] = weight
        np.testing.assert_allclose(replay.tree.weights.view(12, 3).numpy(), leaves, rtol=1e-13, atol=0)


SAMPLING = {
    "stratified": {},
    "independent": {"stratified": False},
    "stratified, mixed": {"uniform_mix": 0.3},
    "independent, mixed": {"uniform_mix": 0.3, "stratified": False},
    "uniform": {"exponent": 0.0},
}


@pytest.mark.parametrize("sampling", SAMPLING)
@pytest.mark.parametrize("batch_size", [7, 32])
def test_shares_of_samples_are_their_probabilities(sampling, batch_size):
    """After the ring went around, with rows that cannot be sampled in the middle of it."""
    world, options, rng = World("repeat", 50, 3), SAMPLING[sampling], np.random.default_rng(0)
    replay = make_replay(world, 2, seed=2, **options)
    for row in range(10, 51, 4):
        world.play(replay, row)
        update_randomly(replay, replay.sample(40)[1], rng)
    first, stop = replay.valid_rows()
    pairs = [(row, env) for row in range(first, stop) for env in range(3)]
    weights = replay.tree.weights[replay.leaf(of(replay, *pairs))].numpy()
    assert np.count_nonzero(replay.tree.weights) == len(pairs)
    mix = options.get("uniform_mix", 0.0)
    probability = (1 - mix) * weights / math.fsum(weights) + mix / len(pairs)
    np.testing.assert_allclose(replay.probability(of(replay, *pairs)), probability, rtol=1e-13)
    assert (np.ptp(probability) == 0) == (sampling == "uniform")
    drawn = [replay.draw(batch_size) for _ in range(3_000)]
    counts = np.zeros((50, 3), int)
    np.add.at(counts, (torch.cat([d.row for d in drawn]).numpy(), torch.cat([d.env for d in drawn]).numpy()), 1)
    assert counts.sum() == counts[first:stop].sum(), "only whole transitions"
    expected = probability * counts.sum()
    # The seed is fixed, so this passes or fails for good. Strata vary less than the independent draws of the test.
    assert stats.chisquare(counts[first:stop].ravel(), expected).pvalue > 0.01
    if not mix:  # B draws in B equal parts give B P(i) of transition i, rounded either way
        per_batch = [np.bincount(replay.leaf(d).numpy(), minlength=len(replay.tree.weights)) for d in drawn[:300]]
        shares = (replay.tree.weights / replay.tree.total() * batch_size).numpy()
        assert (np.abs(np.array(per_batch) - shares).max() < 2) == options.get("stratified", True)


@worlds.every_kind
@pytest.mark.parametrize(("num_envs", "n"), [(1, 3), (4, 1), (7, 10)])
def test_every_sampled_transition_is_what_happened(kind, num_envs, n):
    # 90 rows go around a ring of 20 four times. Some rows are added between samples, as an agent does.
    world, rng = World(kind, 90, num_envs, seed=n, cuts={(39, 0), (70, num_envs - 1)}), np.random.default_rng(n)
    truth, replay = world.truth(n), make_replay(world, n, uniform_mix=0.1 if n == 1 else 0.0)
    with pytest.raises(ValueError, match=f"no whole transition yet: 0 rows for {n}-step"):
        replay.sample(1)
    for row in range(n, world.rows, 2):
        world.play(replay, row + 1)
        batch, indices = replay.sample(100)
        overwritten = max(0, row + 1 - T)
        assert int(indices.row.min()) >= overwritten + (S - 1 if kind != "plain" and overwritten else 0)
        assert int(indices.row.max()) + n <= row
        check_batch(batch, indices, truth)
        update_randomly(replay, indices, rng)


@pytest.mark.parametrize("case", worlds.VIOLATIONS)
def test_what_is_not_a_stack_is_kept_whole(case):
    kind, special = worlds.VIOLATIONS[case]
    world, rng = World(kind, 80, 3, seed=2, end=0.3, **special), np.random.default_rng(0)
    truth, replay = world.truth(3), make_replay(world, 3)
    for row in range(3, world.rows):
        world.play(replay, row + 1)
        batch, indices = replay.sample(60)
        check_batch(batch, indices, truth)
        update_randomly(replay, indices, rng)
        replay.weigh_new()
        assert np.count_nonzero(replay.tree.weights) == len(replay), "all that are whole, and no others"


def through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=True)


@worlds.every_kind
@pytest.mark.parametrize("stop", [14, 50, 51])
def test_a_replay_goes_on_as_if_nothing_had_been(kind, stop):
    """Priorities change after their rows went into a segment, and rows are added after the last update."""
    world, rng = World(kind, 90, 5, seed=3, end=0.3), np.random.default_rng(1)
    replay, segments = make_replay(world, 3), []
    for row in range(7, stop, 3):
        world.play(replay, row)
        update_randomly(replay, replay.sample(30)[1], rng)
        start = max(segments[-1][1] if segments else 0, row - T)
        segments.append((start, row, through_a_file(replay.segment(start, row))))
    world.play(replay, stop)
    segments.append((row, stop, through_a_file(replay.segment(row, stop))))
    state = replay.state_dict()
    saved = through_a_file(state)
    update_randomly(replay, replay.sample(30)[1], rng)  # what was given out must not change with the replay
    assert torch.equal(saved["priorities"]["weights"], state["priorities"]["weights"])

    copies = [make_replay(world, 3, seed=9), make_replay(world, 3, seed=8)]
    for copy in copies:
        copy.load_state_dict(through_a_file(state))
        for segment in segments:
            copy.restore(*segment)
    one, other = copies
    for row in range(stop, world.rows, 2):
        for level, expected in zip(one.tree.levels, other.tree.levels, strict=True):
            assert torch.equal(level, expected)
        world.play(one, row)
        batches = [one.sample(40)]
        world.play(other, row)
        batches.append(other.sample(40))
        worlds.assert_equal_batches(*batches)
        errors = rng.normal(size=40)
        update(one, batches[0][1], errors)
        update(other, batches[1][1], errors)
        if row == stop + 10:  # and again, from what had been restored
            state, other = through_a_file(one.state_dict()), make_replay(world, 3, seed=7)
            segment = max(0, row - T), row, one.segment(max(0, row - T), row)
            other.load_state_dict(state)
            other.restore(*segment)


def test_a_restored_replay_equals_the_one_that_went_on():
    world = World("repeat", 70, 3, seed=5)
    replay, rng = make_replay(world, 3), np.random.default_rng(2)
    for row in range(5, 41, 3):
        world.play(replay, row)
        update_randomly(replay, replay.sample(30)[1], rng)
    world.play(replay, 43)
    fresh = make_replay(world, 3, seed=99)
    fresh.load_state_dict(through_a_file(replay.state_dict()))
    fresh.restore(23, 43, through_a_file(replay.segment(23, 43)))
    for row in range(43, 70, 3):
        expected, got = replay.sample(50), fresh.sample(50)
        worlds.assert_equal_batches(expected, got)
        errors = rng.normal(size=50)
        for each, (_, indices) in ((replay, expected), (fresh, got)):
            update(each, indices, errors)
            world.play(each, row + 1)
        assert replay.metrics() == fresh.metrics()
    for level, expected in zip(fresh.tree.levels, replay.tree.levels, strict=True):
        assert torch.equal(level, expected)


@pytest.mark.parametrize(("priority", "head"), [("td_error", "hl_gauss"), ("td_error", "iqn"), ("loss", "hl_gauss")])
def test_an_agent_learns_by_priority(priority, head, tmp_path):
    """What an update saw becomes the priorities of its batch, and its loss is weighted."""
    small = {"agent.learn_after_steps": 30, "agent.batch_size": 8, "torso.hidden": [16], "replay.capacity_steps": 60}
    small["head"] = head
    run = build(RunConfig.preset("catch", small), tmp_path, Silent(1))
    agent, num_envs = run.agent, run.config.env.num_envs
    given = run.spec.obs_shape, getattr(torch, run.spec.obs_dtype)
    agent.replay = replay = PrioritizedReplay(60, num_envs, *given, priority=priority, exponent=1.0, epsilon=0.25)
    batches = []
    sample, learner_update = replay.sample, agent.learner.update
    replay.sample = lambda size: batches.append(sample(size)) or batches[-1]
    agent.learner.update = lambda batch: batches.append(batch) or learner_update(batch)
    for _ in range(150 // num_envs):
        run.advance()
    (_, indices), seen = batches[-2:]
    update = agent.last_update
    by_head = update.prediction.error(update.goal)
    errors = (by_head if priority == "td_error" else update.losses).double() + 0.25
    leaves, expected = replay.leaf(indices).tolist(), {}
    for leaf, error in zip(leaves, errors.tolist(), strict=True):
        expected[leaf] = max(expected.get(leaf, 0.0), error)
    assert replay.tree.weights[leaves].tolist() == [expected[leaf] for leaf in leaves]
    assert len(set(expected.values())) > 1
    assert seen.weight.min() < 1
    assert update.loss.item() == pytest.approx(float((seen.weight * update.losses).mean()), rel=1e-5)
    assert agent.metrics()["replay/priority_max"] == float(replay.max_weight) > 0


def test_metrics():
    replay, indices = four_transitions(exponent=1.0, epsilon=1.0)
    empty = PrioritizedReplay(10, 1, (1,), torch.float32)
    assert empty.metrics() == {
        "replay/priority_mean": 0,
        "replay/priority_max": 1,
        "replay/importance_exponent": 0.4,
    }
    update(replay, indices, [0, 1, 2, 6])
    assert replay.metrics()["replay/priority_mean"] == (1 + 2 + 3 + 7) / 4
    assert replay.metrics()["replay/priority_max"] == 7


REFUSED = {
    "priority 'loss_' is unknown. Choose from: td_error, loss": {"priority": "loss_"},
    "exponent -0.1 is negative": {"exponent": -0.1},
    "epsilon 0 must be positive": {"epsilon": 0},
    "importance_exponent 1.5 is not between 0 and 1": {"importance_exponent": 1.5},
    "importance_steps 0 must be at least 1": {"importance_steps": 0},
    r"uniform_mix 1.0 is not in \[0, 1\)": {"uniform_mix": 1.0},
}


@pytest.mark.parametrize("message", REFUSED)
def test_options_out_of_range_are_refused(message):
    with pytest.raises(ValueError, match=message):
        PrioritizedReplay(10, 1, (1,), torch.float32, **REFUSED[message])


def test_the_tree_is_counted_before_it_is_allocated(monkeypatch):
    per_step = 4 + 8 + 4 + 1 + 1 + 4 + 8 + PrioritizedReplay.bytes_beside
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1_000_000)
    with pytest.raises(ReplayTooLargeError, match=f"\\({per_step} bytes a step\\)"):
        PrioritizedReplay(900_000 // per_step + 1, 1, (1,), torch.float32)
    tree = SumTree(100_000)
    assert sum(level.nbytes for level in tree.levels) <= PrioritizedReplay.bytes_beside * 100_000


def test_replays_by_name():
    assert list(REPLAYS) == ["uniform", "prioritized", "sequences"]
    assert list(options_of(REPLAYS["prioritized"])) == [
        *("priority", "exponent", "epsilon", "importance_exponent", "importance_steps", "stratified", "uniform_mix"),
    ]
