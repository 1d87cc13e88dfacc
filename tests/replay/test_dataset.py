"""Is a data set what happened, to the bit, on disk and in memory; and is one that cannot be true refused?

T rows, N environments, S frames of a stack, n steps of a return.
"""

import importlib.util
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from agents.networks.qnetwork import EnvSpec
from agents.replay import memory
from agents.replay.fixed import ages, final_slots
from agents.replay.rows import Indices
from agents.running import dataset
from agents.tables import ConfigError

# The world that writes who, when and where into its observations, with its checks.
SPEC = importlib.util.spec_from_file_location("worlds", Path(__file__).with_name("test_replay_transitions.py"))
worlds = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(worlds)

ROWS = 60
KINDS = {
    "plain": ("plain", {}),
    "stacks": ("repeat", {}),
    "stacks padded by zeros": ("zeros", {}),
    "stacks that cease to be": ("repeat", {"unlike_from": 20}),
}


def make_world(case="plain", num_envs=3, seed=1, **options):
    """A world that is cut after ROWS rows; every action that was taken is legal."""
    kind, special = KINDS[case]
    cuts = {(ROWS - 1, env) for env in range(num_envs)}
    world = worlds.World(kind, ROWS, num_envs, seed=seed, **{"cuts": cuts, **special, **options})
    for step in (s for env in world.episodes for episode in env for s in episode):
        step.mask[step.action] = True
    return world


def spec_of(world):
    obs = world.episodes[0][0][0].obs
    return EnvSpec(obs.shape, str(obs.dtype), worlds.ACTIONS, True)


def write(world, path):
    replay = worlds.make_replay(world, rows=ROWS)
    world.play(replay, ROWS)
    return replay, dataset.write(path, replay, spec_of(world), {"env": {"id": "made up"}})


def load(data, world, n=1, seed=0, **changes):
    return dataset.load(data, spec_of(world)._replace(**changes), n_step=n, gamma=worlds.GAMMA, seed=seed)


@pytest.mark.parametrize("num_envs", [1, 4])
@pytest.mark.parametrize("n", [1, 3, 10])
@pytest.mark.parametrize("case", KINDS)
def test_every_transition_is_what_happened(case, n, num_envs, tmp_path):
    """All that there are, from every row to the last one, and those of a sample."""
    world = make_world(case, num_envs)
    _, data = write(world, tmp_path / "data")
    replay, truth = load(data, world, n), world.truth(n)
    assert len(replay) == ROWS * num_envs == data.steps
    starts = torch.cartesian_prod(torch.arange(ROWS), torch.arange(num_envs))
    indices = Indices.of(starts[:, 0], starts[:, 1], num_envs)
    worlds.check_batch(replay.gather(indices), indices, truth)
    worlds.check_batch(*replay.sample(200), truth)
    ends = [s.end for env in world.episodes for episode in env for s in episode]
    assert 5 < sum(ends) < len(ends), "there are episodes of several steps"
    assert data.description.stack == (worlds.S if case.startswith("stacks") and "cease" not in case else 1)


@pytest.mark.parametrize("case", KINDS)
def test_round_trip(case, tmp_path):
    """What was loaded has the rows of what was written, and is written as the same bytes."""
    world = make_world(case)
    before, data = write(world, tmp_path / "one")
    after = load(data, world)
    for name, rows in before.segment(0, ROWS).items():
        if name not in ("final_slot", "finals"):  # numbered anew, in order of rows
            assert torch.equal(rows, after.segment(0, ROWS)[name]), name
    again = dataset.write(tmp_path / "two", after, spec_of(world), data.description.about)
    for path in sorted(data.path.iterdir()):
        assert path.read_bytes() == (again.path / path.name).read_bytes(), path.name
    assert again.fingerprint == data.fingerprint
    assert not list(tmp_path.glob("*.partial"))


def test_every_row_is_equally_likely(tmp_path):
    world = make_world()
    _, data = write(world, tmp_path / "data")
    _, indices = load(data, world, n=3, seed=5).sample(20_000)
    counts = np.zeros((ROWS, 3), int)
    np.add.at(counts, (indices.row.numpy(), indices.env.numpy()), 1)
    # The seed is fixed, so this passes or fails for good.
    assert stats.chisquare(counts.ravel()).pvalue > 0.01


def test_the_seed_alone_decides_what_is_sampled(tmp_path):
    world = make_world()
    _, data = write(world, tmp_path / "data")
    a, b, c = load(data, world), load(data, world), load(data, world, seed=1)
    first = a.sample(64)
    worlds.assert_equal_batches(first, b.sample(64))
    assert not torch.equal(first[1].row, c.sample(64)[1].row)


def test_ages_and_slots_by_hand():
    ends = torch.tensor([[0, 1], [1, 0], [0, 0], [1, 1]]).bool()
    assert ages(ends).tolist() == [[0, 0], [1, 0], [0, 1], [1, 2]]
    assert final_slots(ends).tolist() == [[-1, 0], [1, -1], [-1, -1], [2, 3]]


def test_rewards_of_episodes(tmp_path):
    world = make_world(end=0.3)
    _, data = write(world, tmp_path / "data")
    expected = [[s.reward for s in episode] for env in world.episodes for episode in env if episode]
    assert data.episodes() == expected


@pytest.fixture
def data(tmp_path):
    """A data set to be spoilt: (its world, what it is)."""
    world = make_world()
    return world, write(world, tmp_path / "data")[1]


def describe(data, **changes):
    """Change dataset.json."""
    path = data.path / dataset.DESCRIPTION
    stored = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in stored.items() if value is not None}))


def put(data, **arrays):
    """Put other arrays into a data set, with their checksums."""
    for name, array in arrays.items():
        np.save(data.path / f"{name}.npy", array)
    describe(data, crc32={p.name: zlib.crc32(p.read_bytes()) for p in data.path.glob("*.npy")})


def changed(data, name, at, value):
    array = np.load(data.path / f"{name}.npy")
    array[at] = value
    put(data, **{name: array})


def pickled(data):
    np.save(data.path / "action.npy", np.array([{}], object), allow_pickle=True)
    put(data)


def flip_a_bit(data):
    path = data.path / "obs.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


SPOILT = {
    "gone": (lambda d: (d.path / "dataset.json").unlink(), "is no data set: .* classyq record RUN makes one"),
    "no JSON": (lambda d: (d.path / "dataset.json").write_text("{"), "is no data set: .* classyq record RUN makes one"),
    "foreign": (lambda d: describe(d, format="other"), "is not that of a data set of classyq"),
    "a list": (lambda d: (d.path / "dataset.json").write_text("[1]"), "is not that of a data set of classyq"),
    "other version": (lambda d: describe(d, version=2), "has version 2, this classyq reads version 1"),
    "a key is missing": (lambda d: describe(d, rows=None), "dataset.json: rows: Field required"),
    "a key too many": (lambda d: describe(d, colour=1), "dataset.json: colour: Extra inputs are not permitted"),
    "stack of another length": (lambda d: describe(d, stack=2), r"stack is 2, wanted 1 or the first of obs_shape"),
    "a file is gone": (lambda d: (d.path / "reward.npy").unlink(), "reward.npy is missing or damaged: .*No such file"),
    "truncated": (lambda d: (d.path / "obs.npy").write_bytes(b"abc"), "obs.npy is missing or damaged: its CRC-32"),
    "a bit": (flip_a_bit, "obs.npy is missing or damaged: its CRC-32 is not the one in dataset.json"),
    "pickled": (pickled, "action.npy is missing or damaged: "),
    "another type": (
        lambda d: put(d, reward=np.zeros((ROWS, 3))),
        r"reward.npy holds float64 \(60, 3\), wanted float32 \(60, 3\)",
    ),
    "another shape": (lambda d: put(d, terminal=np.zeros((ROWS, 2), bool)), r"terminal.npy holds bool \(60, 2\)"),
    "too few final observations": (
        lambda d: put(d, final_obs=np.load(d.path / "final_obs.npy")[1:]),
        "final_obs.npy holds float32 .*, wanted float32",
    ),
    "no end": (lambda d: changed(d, "episode_end", (-1, 1), False), "the last row must end the episode of every"),
    "actions": (lambda d: changed(d, "action", (3, 1), 3), r"actions are in 0 .. 3, wanted 0 .. 2"),
    "negative actions": (lambda d: changed(d, "action", (3, 1), -1), r"actions are in -1 .. 2, wanted 0 .. 2"),
    "illegal action": (lambda d: changed(d, "mask", 7, False), "an action was taken that its mask calls illegal"),
    "reward": (lambda d: changed(d, "reward", 7, np.inf), "reward has numbers that are not finite"),
    "observation": (lambda d: changed(d, "obs", (7, 0, 1), np.nan), "obs has numbers that are not finite"),
    "final observation": (lambda d: changed(d, "final_obs", 0, -np.inf), "final_obs has numbers that are not finite"),
}  # fmt: skip


@pytest.mark.parametrize("case", SPOILT)
def test_what_cannot_be_used_is_refused(case, data):
    spoil, message = SPOILT[case]
    world, data = data
    spoil(data)
    with pytest.raises(ConfigError, match=f"^agent.dataset: .*{message}"):
        load(dataset.find(data.path), world)


def test_what_is_changed_to_the_same_is_not_refused(data):
    """The cases above fail for what they spoil, and not for how they do it."""
    world, data = data
    changed(data, "reward", 0, np.load(data.path / "reward.npy")[0])
    load(dataset.find(data.path), world)


@pytest.mark.parametrize(("change", "message"), [
    ({"obs_shape": (5,)}, r"it has obs_shape \(4,\) instead of \(5,\)"),
    ({"obs_dtype": "uint8"}, "it has obs_dtype float32 instead of uint8"),
    ({"num_actions": 4}, "it has num_actions 3 instead of 4"),
    ({"has_action_mask": False}, "it has has_action_mask True instead of False"),
    ({"num_actions": 4, "obs_dtype": "uint8"}, "it has obs_dtype float32 instead of uint8, num_actions 3 instead of 4"),
])  # fmt: skip
def test_another_kind_of_environment(change, message, data):
    world, data = data
    with pytest.raises(ConfigError, match=f"^agent.dataset: .* is of another kind of environment: {message}"):
        load(data, world, **change)


def test_no_directory_is_given():
    with pytest.raises(ConfigError, match=r"^agent.dataset is missing: the directory of a data set, which classyq"):
        dataset.find("")


def test_more_than_fits(data, monkeypatch):
    world, data = data
    monkeypatch.setattr(memory, "free_bytes", lambda place: 1_000)
    with pytest.raises(ConfigError, match=r"^agent.dataset: .* does not fit: 180 steps needs .* can be used$"):
        load(data, world)


def test_it_is_written_once(data, tmp_path):
    world, data = data
    for path in (data.path, data.path / "obs.npy"):
        with pytest.raises(ConfigError, match="is there already, and a data set is never changed: give a new"):
            write(world, path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.partial").mkdir()
    (tmp_path / "empty.partial" / "left.npy").touch()  # by one that was killed
    again = write(world, tmp_path / "empty")[1]
    assert {p.name for p in again.path.iterdir()} == {p.name for p in data.path.iterdir()}
    with pytest.raises(ConfigError, match=r"^--out: /dev/null/x cannot be written: "):
        write(world, Path("/dev/null/x"))
