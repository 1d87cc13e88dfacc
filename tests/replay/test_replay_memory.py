"""How much memory a replay takes, and that it says so before it takes any."""

import re

import numpy as np
import pytest
import torch

from agents.config import RunConfig
from agents.dqn import make_replay
from agents.networks.qnetwork import EnvSpec
from agents.replay import memory
from agents.replay.memory import ReplayTooLargeError
from agents.replay.observations import ObservationStore
from agents.replay.uniform import UniformReplay

FRAME = 6 * 6
BYTES_BESIDE = 8 + 4 + 1 + 1 + 4 + 8  # action, reward, terminal, episode_end, age, final_slot


def add(replay, obs, next_obs, *, terminal=False, end=False):
    num_envs = len(obs)
    full = np.full
    replay.add(
        obs, np.zeros(num_envs, int), full(num_envs, 1.0), full(num_envs, terminal), full(num_envs, end), next_obs
    )


@pytest.fixture
def free(monkeypatch):
    """Sets how much memory is said to be free."""
    return lambda num_bytes: monkeypatch.setattr(memory, "free_bytes", lambda device: num_bytes)


@pytest.fixture
def nothing_allocated(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("allocated before it was known to fit")

    for name in ("zeros", "ones", "full", "empty"):
        monkeypatch.setattr(torch, name, refuse)


@pytest.mark.parametrize("num_envs", [1, 7])
@pytest.mark.parametrize("share", [False, True])
def test_what_does_not_fit_is_refused_with_what_would(free, nothing_allocated, monkeypatch, num_envs, share):
    per_step = (FRAME if share else 4 * FRAME) + BYTES_BESIDE
    free(10_000_000)
    kwargs = {"num_envs": num_envs, "obs_shape": (4, 6, 6), "obs_dtype": torch.uint8, "share_frames": share}
    with pytest.raises(ReplayTooLargeError, match="a replay of 1,000,") as caught:
        UniformReplay(1_000_000, **kwargs)
    message = str(caught.value)
    assert f"{per_step:,} bytes a step" in message
    assert "0.0 GB of cpu memory can be used" in message
    offered = int(re.search(r"--replay.capacity_steps ([\d_]+)$", message)[1])
    assert 9_000_000 - per_step * num_envs < offered * per_step <= 9_000_000  # nine tenths, in whole rows
    monkeypatch.undo()
    monkeypatch.setattr(memory, "free_bytes", lambda device: 10_000_000)
    replay = UniformReplay(offered, **kwargs)
    stored = ("action", "reward", "terminal", "episode_end")
    observations = [getattr(replay.observations, name) for name in ("frames", "age", "final_slot")]
    assert sum(t.nbytes for t in [*(getattr(replay, name) for name in stored), *observations]) == offered * per_step
    with pytest.raises(ReplayTooLargeError):
        UniformReplay(offered + 1, **kwargs)


def test_masks_are_counted(free):
    """That of obs and that of next_obs."""
    free(10_000)
    with pytest.raises(ReplayTooLargeError, match=f"\\({4 + BYTES_BESIDE + 2 * 18} bytes a step\\)"):
        UniformReplay(1_000, 1, (1,), torch.float32, num_actions=18)


def test_whole_observations_that_do_not_fit_are_refused_when_they_turn_out_to_be_needed(free):
    free(1_000 * (FRAME + BYTES_BESIDE) * 10 // 9 + 10)
    replay = UniformReplay(1_000, 1, (4, 6, 6), torch.uint8, share_frames=True)
    obs = np.random.default_rng(0).integers(0, 255, (2, 1, 4, 6, 6), np.uint8)
    with pytest.raises(ReplayTooLargeError, match="144 bytes a step"):
        add(replay, obs[0], obs[1])


def test_free_memory_is_a_positive_number_of_bytes():
    assert 2**20 < memory.free_bytes(torch.device("cpu")) < 2**50


@pytest.mark.parametrize("num_envs", [1, 5])
@pytest.mark.parametrize("share", [False, True])
def test_one_step_episodes_do_not_fill_the_memory(num_envs, share):
    rows = 30
    replay = UniformReplay(rows * num_envs, num_envs, (2, 1), torch.float32, share_frames=share, n_step=2)
    sizes = set()
    for t in range(20 * rows):
        first = np.full((num_envs, 2, 1), t, np.float32)
        first += np.arange(num_envs, dtype=np.float32)[:, None, None] / 10
        last = np.concatenate([first[:, 1:], first[:, 1:] + 0.5], 1)
        add(replay, first, last, end=True)
        sizes.add(len(replay.observations.finals))
        if t > 2 and t % 7 == 0:
            batch, indices = replay.sample(20)
            expected = indices.row + indices.env / 10
            # float32 holds row + env / 10 up to its rounding of 3e-5 at 600, twice.
            torch.testing.assert_close(batch.obs[:, -1, 0], expected.float(), rtol=0, atol=1e-4)
            torch.testing.assert_close(batch.next_obs[:, -1, 0], expected.float() + 0.5, rtol=0, atol=1e-4)
            torch.testing.assert_close(batch.next_obs[:, 0, 0], expected.float(), rtol=0, atol=1e-4)
            assert (batch.next_action == -1).all()
    # It grows to four times what is needed, which is one for each step kept and those of the row being added.
    assert max(sizes) <= max(64, 4 * (rows + 1) * num_envs)
    assert len(sizes) <= 3, "it settles"


def test_final_observations_are_forgotten_with_their_rows():
    store = ObservationStore(3, 1, (1,), torch.float32, share_frames=False, device=torch.device("cpu"))
    for row in range(500):
        obs = np.array([[row]], np.float32)
        store.write(row, obs, np.zeros(1, np.int32), np.array([True]), obs + 0.5)
    assert len(store.finals) == 64
    steps = torch.tensor([497, 498, 499])
    ended = torch.ones(3, dtype=torch.bool)
    assert store.read_next(steps, ended)[:, 0].tolist() == [497.5, 498.5, 499.5]


@pytest.mark.parametrize(("n", "share", "rows"), [(1, False, 3), (10, False, 12), (1, True, 6), (10, True, 15)])
def test_a_ring_holds_at_least_one_transition(n, share, rows):
    replay = UniformReplay(1, 2, (4, 1, 1), torch.uint8, n_step=n, share_frames=share)
    assert replay.num_rows == rows
    obs = np.zeros((2, 4, 1, 1), np.uint8)
    for _ in range(3 * rows):
        add(replay, obs, obs)
    assert len(replay) >= 2
    assert replay.sample(4)[0].discount.tolist() == pytest.approx([0.99**n] * 4, rel=1e-6)


def test_a_device_that_is_too_small_leaves_the_replay_to_the_host(monkeypatch):
    config = RunConfig.preset("catch", {"device": "cuda", "replay.device": "same"})
    spec = EnvSpec((10, 5), "float32", 3, False)
    monkeypatch.setattr(memory, "free_bytes", lambda place: 0 if place.type == "cuda" else 10**10)
    with pytest.warns(UserWarning, match="replay lies in the host's memory.*0.0 GB of cuda memory"):
        replay = make_replay(config, spec, n_step=1)
    assert replay.device == torch.device("cpu")
    asked_for = config.with_overrides({"replay.device": "cuda"})
    with pytest.raises(ReplayTooLargeError, match="cuda memory"):
        make_replay(asked_for, spec, n_step=1)
    monkeypatch.setattr(memory, "free_bytes", lambda place: 0)
    with pytest.warns(UserWarning, match="host's memory"), pytest.raises(ReplayTooLargeError, match="cpu memory"):
        make_replay(config, spec, n_step=1)
