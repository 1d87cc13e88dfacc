"""A replay whose frames lie in a file: who owns the file, what disk it needs, and that it is only working memory."""

import errno
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from agents.replay import mapped, memory
from agents.replay.memory import ReplayTooLargeError
from agents.replay.uniform import UniformReplay

FRAME = 6 * 6
BYTES_BESIDE = 8 + 4 + 1 + 1 + 4 + 8  # action, reward, terminal, episode_end, age, final_slot
MAPS = Path("/proc/self/maps")
linux = pytest.mark.skipif(not MAPS.is_file(), reason="looks at /proc")


def make(map_dir, capacity_steps=100, **options):
    options = {"num_envs": 1, "obs_shape": (4, 6, 6), "obs_dtype": torch.uint8, "share_frames": True} | options
    return UniformReplay(capacity_steps, map_dir=str(map_dir), **options)


def fill(replay, steps, seed=0):
    """Stacks of noise; every tenth step ends an episode."""
    rng = np.random.default_rng(seed)
    obs = np.repeat(rng.integers(0, 256, (1, 1, 6, 6), np.uint8), 4, 1)
    no = np.zeros(1, bool)
    for t in range(steps):
        newest = rng.integers(0, 256, (1, 1, 6, 6), np.uint8)
        next_obs = np.concatenate([obs[:, 1:], newest], 1)
        end = np.array([t % 10 == 9])
        replay.add(obs, np.array([t % 3]), np.array([t], np.float32), no, end, next_obs)
        obs = np.repeat(newest, 4, 1) if end[0] else next_obs


def break_sharing(replay):
    """Add a step whose stacks have nothing in common."""
    obs = np.random.default_rng(1).integers(0, 256, (2, 1, 4, 6, 6), np.uint8)
    no = np.zeros(1, bool)
    replay.add(obs[0], np.zeros(1, int), np.zeros(1, np.float32), no, no, obs[1])


def mappings(directory):
    """Sizes of the files below `directory` that this process has mapped, in bytes."""
    lines = [line for line in MAPS.read_text().splitlines() if str(directory) in line]
    ranges = [line.split()[0].split("-") for line in lines]
    return [int(stop, 16) - int(start, 16) for start, stop in ranges]


def pages(num_bytes):
    return -(-num_bytes // os.sysconf("SC_PAGE_SIZE")) * os.sysconf("SC_PAGE_SIZE")


@linux
def test_the_frames_lie_in_a_file_that_goes_with_them(tmp_path):
    replay = make(tmp_path / "not" / "there", 1_000)
    assert mappings(tmp_path) == [pages(1_000 * FRAME)]
    assert list((tmp_path / "not" / "there").iterdir()) == [], "what is killed leaves nothing behind"
    fill(replay, 30)
    del replay
    assert mappings(tmp_path) == []


def test_two_replays_with_one_directory_do_not_meet(tmp_path):
    pairs = [(make(tmp_path), UniformReplay(100, 1, (4, 6, 6), torch.uint8, share_frames=True)) for _ in range(2)]
    for seed, (in_file, in_memory) in enumerate(pairs):
        fill(in_file, 150, seed)
        fill(in_memory, 150, seed)
    for in_file, in_memory in pairs:
        assert torch.equal(in_file.observations.frames, in_memory.observations.frames)
        assert torch.equal(in_file.sample(50)[0].next_obs, in_memory.sample(50)[0].next_obs)


def test_disk_that_is_not_there_is_refused_with_what_would_fit(tmp_path, monkeypatch):
    free = {"disk": 10_000_000, "memory": 10**9}
    monkeypatch.setattr(memory, "free_bytes", lambda place: free["disk" if isinstance(place, Path) else "memory"])
    with pytest.raises(ReplayTooLargeError) as caught:
        make(tmp_path, 1_000_000)
    message = str(caught.value)
    assert message.startswith(f"a replay of 1,000,000 steps needs 0.0 GB ({FRAME} bytes a step)")
    assert f"GB of disk under {tmp_path} can be used" in message
    offered = int(re.search(r"--replay.capacity_steps ([\d_]+)$", message)[1])
    assert offered == 9_000_000 // FRAME
    assert make(tmp_path, offered).observations.frames.nbytes <= 9_000_000
    with pytest.raises(ReplayTooLargeError):
        make(tmp_path, offered + 1)


def test_frames_in_a_file_take_no_memory_and_the_rest_does(tmp_path, monkeypatch):
    free = {"disk": 10**9, "memory": 1_000 * BYTES_BESIDE * 10 // 9 + 1}
    monkeypatch.setattr(memory, "free_bytes", lambda place: free["disk" if isinstance(place, Path) else "memory"])
    assert make(tmp_path, 1_000).num_rows == 1_000
    with pytest.raises(ReplayTooLargeError, match=f"{BYTES_BESIDE} bytes a step.* of cpu memory"):
        make(tmp_path, 1_001)


def test_free_disk_is_a_positive_number_of_bytes(tmp_path):
    assert 2**20 < memory.free_bytes(tmp_path) < 2**60


def test_a_disk_that_fills_up_in_between_is_no_crash_later(tmp_path, monkeypatch):
    def full(file, offset, num_bytes):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(ReplayTooLargeError, match=r"cannot be reserved under .*: No space left on device"):
        make(tmp_path)


@linux
def test_the_space_is_reserved(tmp_path, monkeypatch):
    sizes = []
    reserve = mapped.reserve

    def watched(file, num_bytes):
        reserve(file, num_bytes)
        sizes.append(os.stat(file).st_blocks * 512)

    monkeypatch.setattr(mapped, "reserve", watched)
    make(tmp_path, 10_000)
    assert sizes[0] >= 10_000 * FRAME, "a hole that a full disk cannot fill kills the process"


def test_a_system_that_cannot_reserve(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    replay = make(tmp_path)
    fill(replay, 150)
    assert replay.sample(20)[0].obs.any()


def test_only_on_the_cpu(tmp_path):
    with pytest.raises(ValueError, match=r"replay.map_dir is for a replay on the cpu, got replay.device cuda"):
        make(tmp_path, device="cuda")


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_directory_that_is_none(tmp_path, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"replay.map_dir '.*' cannot be used: (File exists|Not a directory)"):
        make(tmp_path / name)


@linux
def test_whole_observations_get_a_new_file_and_the_old_one_goes(tmp_path):
    replay = make(tmp_path)
    fill(replay, 50)
    break_sharing(replay)
    assert replay.layout() == 1
    assert mappings(tmp_path) == [pages(100 * 4 * FRAME)]


def test_whole_observations_that_do_not_fit_on_the_disk(tmp_path, monkeypatch):
    replay = make(tmp_path)
    fill(replay, 50)
    monkeypatch.setattr(memory, "free_bytes", lambda place: 100 * 4 * FRAME if isinstance(place, Path) else 10**9)
    with pytest.raises(ReplayTooLargeError, match=r"144 bytes a step.*disk under"):
        break_sharing(replay)


@pytest.mark.parametrize("map_dir", [True, False])
def test_loading_allocates_no_second_time(tmp_path, map_dir):
    options = {"map_dir": str(tmp_path) if map_dir else None, "share_frames": True}
    replay, fresh = (UniformReplay(100, 1, (4, 6, 6), torch.uint8, **options) for _ in range(2))
    fill(replay, 120)
    place = fresh.observations.frames.data_ptr()
    fresh.load_state_dict(replay.state_dict())
    assert fresh.observations.frames.data_ptr() == place


@linux
def test_loading_whole_observations_makes_a_file_for_them(tmp_path, monkeypatch):
    replay, fresh = make(tmp_path / "one"), make(tmp_path / "two")
    fill(replay, 50)
    break_sharing(replay)
    fresh.load_state_dict(replay.state_dict())
    assert mappings(tmp_path / "two") == [pages(100 * 4 * FRAME)]
    refused = make(tmp_path / "three")
    monkeypatch.setattr(memory, "free_bytes", lambda place: 100 * 4 * FRAME)
    with pytest.raises(ReplayTooLargeError, match="144 bytes a step"):
        refused.load_state_dict(replay.state_dict())


def test_a_segment_is_a_copy(tmp_path):
    """Rows that are overwritten later must not change in a checkpoint: a resumed run would sample them too early."""
    replay = make(tmp_path)
    fill(replay, 100)
    segment = replay.segment(0, 100)
    kept = {name: value.clone() for name, value in segment.items()}
    fill(replay, 100, seed=1)
    assert all(torch.equal(value, kept[name]) for name, value in segment.items())
    assert not torch.equal(replay.observations.frames, kept["frames"])
