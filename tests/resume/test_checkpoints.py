"""Checkpoints: whole or not there, refused in words when they cannot be used, and none too many on disk."""

import errno
import io
import itertools
import json
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
import torch

from agents.running import checkpoint
from agents.running.checkpoint import Checkpointer, CheckpointError
from agents.running.progress import Silent
from agents.running.setup import build
from agents.running.trainer import train

STEPS = [90, 180, 270, 360, 400]


@pytest.fixture(scope="module")
def master(tmp_path_factory):
    return tmp_path_factory.mktemp("master") / "run"


@pytest.fixture
def trained(tiny, master, tmp_path):
    """A finished run that kept all its checkpoints: (configuration, directory of a copy)."""
    config = tiny(overrides={"checkpoint.keep": 100})
    if not master.is_dir():
        train(config, master)
    shutil.copytree(master, tmp_path / "run")
    return config, tmp_path / "run"


def file_of(run_dir: Path, step: int) -> Path:
    return run_dir / "checkpoints" / f"step-{step:012d}.pt"


def truncated(path, run_dir):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path, run_dir):
    path.write_bytes(b"")


def foreign_torch_file(path, run_dir):
    torch.save({"model": torch.zeros(3)}, path)


def foreign_tensor(path, run_dir):
    torch.save(torch.zeros(3), path)


def foreign_text(path, run_dir):
    path.write_text("these are not the weights you are looking for")


def code_inside(path, run_dir):
    torch.save({"format": checkpoint.FORMAT, "version": 1, "path": path}, path)  # a Path is not plain Python


def other_version(path, run_dir):
    torch.save(torch.load(path, weights_only=True) | {"version": 999}, path)


def policy_alone(path, run_dir):
    shutil.copy(run_dir / "best.pt", path)


def missing_segment(path, run_dir):
    (run_dir / "replay/1-000000000360-000000000400.pt").unlink()


def damaged_segment(path, run_dir):
    truncated(run_dir / "replay/1-000000000360-000000000400.pt", run_dir)


def gone(path, run_dir):
    path.unlink()


DAMAGES = {
    truncated: "is missing, damaged or not a checkpoint of classyq",
    empty: "is missing, damaged or not a checkpoint of classyq",
    gone: "is missing, damaged or not a checkpoint of classyq",
    foreign_text: "is missing, damaged or not a checkpoint of classyq",
    code_inside: "is missing, damaged or not a checkpoint of classyq",
    foreign_torch_file: "is not a checkpoint of classyq",
    foreign_tensor: "is not a checkpoint of classyq",
    other_version: "has version 999, this classyq reads version 2",
    policy_alone: "holds a policy alone",
    missing_segment: "which is gone",
    damaged_segment: "1-000000000360-000000000400.pt is missing, damaged",
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda f: f.__name__)
def test_what_cannot_be_used_is_refused(damage, trained):
    """The message names the file, says why, and offers the one before; nothing is removed; that one can be used."""
    config, run_dir = trained
    damage(file_of(run_dir, 400), run_dir)
    there = sorted(run_dir.rglob("*.pt"))
    with pytest.raises(CheckpointError) as caught:
        train(config, run_dir, resume_from=file_of(run_dir, 400))
    message = str(caught.value)
    assert DAMAGES[damage] in message
    assert message.endswith(f"; the one before it is {file_of(run_dir, 360)}")
    if "segment" not in damage.__name__:
        assert message.startswith(str(file_of(run_dir, 400)))
    assert sorted(run_dir.rglob("*.pt")) == there
    if damage not in (missing_segment, damaged_segment):  # 360 needs only older ones
        return
    assert train(config, run_dir, resume_from=file_of(run_dir, 360)).finished


def test_nothing_before_the_first(trained):
    config, run_dir = trained
    truncated(file_of(run_dir, 90), run_dir)
    with pytest.raises(CheckpointError, match=r"; there is none before it$"):
        train(config, run_dir, resume_from=file_of(run_dir, 90))


def test_an_earlier_checkpoint_whose_replay_is_damaged_costs_nothing(trained):
    """The later ones are given up only when the earlier one has proved good."""
    config, run_dir = trained
    truncated(run_dir / "replay/1-000000000090-000000000180.pt", run_dir)
    with pytest.raises(CheckpointError, match="the one before it"):
        train(config, run_dir, resume_from=file_of(run_dir, 180))
    assert [p.name for p in checkpoint.found(run_dir)] == [file_of(run_dir, s).name for s in STEPS]


def test_a_copy_under_another_name_gives_up_only_later_ones(trained):
    config, run_dir = trained
    copy = shutil.copy(file_of(run_dir, 270), run_dir / "a copy.pt")
    run = build(config, run_dir, Silent(1))
    run.load(Path(copy))
    assert checkpoint.found(run_dir) == [file_of(run_dir, s) for s in (90, 180, 270)]


def test_another_run_s_checkpoint_is_refused(trained, tiny, tmp_path):
    """Where its rows are not here, and where they are but the configuration is another."""
    config, run_dir = trained
    with pytest.raises(CheckpointError, match=r"other/replay/.* which is gone"):
        build(config, tmp_path / "other", Silent(1)).load(file_of(run_dir, 180))
    other = tiny(overrides={"checkpoint.keep": 100, "agent.lr": 0.5, "seed": 2, "torso.hidden": [8]})
    with pytest.raises(CheckpointError, match=r"is of a run with another seed, torso.hidden, agent.lr$"):
        build(other, run_dir, Silent(1)).load(file_of(run_dir, 180))
    assert len(checkpoint.found(run_dir)) == len(STEPS)


def test_going_on_from_an_earlier_one_is_the_same_course(trained, tiny, train_in_pieces, assert_same_course, tmp_path):
    config, run_dir = trained
    shutil.copytree(run_dir, tmp_path / "again")
    summary = train(config, tmp_path / "again", resume_from=file_of(tmp_path / "again", 180))
    assert summary.finished
    assert_same_course(run_dir, tmp_path / "again")


def test_every_file_loads_without_running_code(trained):
    _, run_dir = trained
    files = sorted(run_dir.rglob("*.pt"))
    assert {p.parent.name for p in files} == {"checkpoints", "replay", "run"}
    for file in files:
        state = torch.load(file, weights_only=True)
        assert (state["format"], state["version"]) == (checkpoint.FORMAT, checkpoint.VERSION)


DiskUsage = namedtuple("DiskUsage", "total used free")


def test_too_little_space_is_seen_before_writing(trained, monkeypatch):
    config, run_dir = trained
    run = build(config, run_dir, Silent(1))
    run.load(file_of(run_dir, 400))
    run.advance()
    before = {p: p.read_bytes() for p in run_dir.rglob("*") if p.is_file()}
    monkeypatch.setattr(shutil, "disk_usage", lambda _: DiskUsage(10**6, 10**6, 12_345))
    with pytest.raises(CheckpointError, match=r"needs \d+ MB, but 0 MB of disk are free"):
        run.save()
    assert {p: p.read_bytes() for p in run_dir.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("num_bytes", [0, 100, 2_000, 40_000])
def test_a_disk_that_fills_while_writing(num_bytes, trained, monkeypatch):
    """What torch.save makes of ENOSPC depends on where in the file it happens; the old file is there in any case."""
    config, run_dir = trained
    run = build(config, run_dir, Silent(1))
    run.load(file_of(run_dir, 400))
    open_file = Path.open

    def open_on_a_small_disk(path, mode="r", **options):
        return (
            SmallDisk(open_file(path, mode, **options), num_bytes) if "w" in mode else open_file(path, mode, **options)
        )

    before = {p: p.read_bytes() for p in run_dir.rglob("*") if p.is_file()}
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", open_on_a_small_disk)
        with pytest.raises(CheckpointError, match=r"step-000000000400.pt cannot be written"):
            run.save()
    assert {p: p.read_bytes() for p in run_dir.rglob("*") if p.is_file()} == before
    run.save()


class SmallDisk(io.RawIOBase):
    """A file on a disk with `num_bytes` free."""

    def __init__(self, file, num_bytes):
        self.file, self.left = file, num_bytes

    def write(self, data):
        self.left -= len(data)
        if self.left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.file.write(data)

    def fileno(self):
        return self.file.fileno()

    def close(self):
        self.file.close()
        super().close()


def test_a_directory_that_cannot_be_written(tmp_path):
    (tmp_path / "checkpoints").write_text("a file where a directory should be")
    with pytest.raises(CheckpointError, match="cannot be written"):
        checkpoint.save({}, tmp_path / "checkpoints" / "step-1.pt")


def test_bytes_are_counted_in_nested_containers():
    value = {"a": [torch.zeros(10), (torch.zeros(3, dtype=torch.uint8), 7)], "b": None, "c": "text", "d": {"e": b"xx"}}
    assert checkpoint.num_bytes(value) == 43


@pytest.mark.parametrize("keep", [1, 3])
def test_keep(keep, tiny, train_in_pieces, tmp_path):
    """The last `keep` remain, with exactly the segments that they need; an interruption counts as one."""
    train_in_pieces(tiny(overrides={"checkpoint.keep": keep, "checkpoint.every_steps": 25}), tmp_path, [160, 333])
    kept = checkpoint.found(tmp_path)
    assert [int(p.stem[5:]) for p in kept] == [350, 375, 400][-keep:]
    needed = set()
    for path in kept:
        state = torch.load(path, weights_only=True)
        segments = state["segments"]
        assert segments[-1][1] == state["agent"]["replay"]["rows"]
        assert segments[0][0] <= max(0, segments[-1][1] - 150), "the whole ring is in segments"
        assert all(a[1] == b[0] for a, b in itertools.pairwise(segments)), "without gaps"
        needed |= {f"{state['layout']}-{a:012d}-{b:012d}.pt" for a, b in segments}
    assert {p.name for p in (tmp_path / "replay").iterdir()} == needed


def test_a_checkpoint_writes_only_what_is_new(tiny, tmp_path):
    """The size of a segment is that of its rows: 20 rows of Catch are 20 * (50 * 4 + 26) bytes and a header."""
    config = tiny(overrides={"checkpoint.keep": 100, "checkpoint.every_steps": 20, "replay.capacity_steps": 1_000})
    train(config, tmp_path)
    sizes = {tuple(map(int, p.stem.split("-")[1:])): p.stat().st_size for p in (tmp_path / "replay").iterdir()}
    assert sorted(sizes) == [(s, s + 20) for s in range(0, 400, 20)]
    row = 10 * 5 * 4 + 8 + 4 + 1 + 1 + 4 + 8  # observation, action, reward, two ends, age, slot of a final one
    finals = 3 * 10 * 5 * 4  # episodes have 9 steps
    assert all(20 * row < size < 20 * row + finals + 4_000 for size in sizes.values())


def test_what_a_kill_left_half_written_is_removed(tiny, train_in_pieces, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(tiny().plain()))
    for folder in ("checkpoints", "replay"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "step-000000000007.partial").write_bytes(b"half")
    train_in_pieces(tiny(), tmp_path)
    assert not list(tmp_path.rglob("*.partial"))


def test_a_damaged_checkpoint_keeps_nothing_alive(trained):
    _, run_dir = trained
    truncated(file_of(run_dir, 90), run_dir)
    checkpointer = Checkpointer(run_dir, keep=100)
    checkpointer.prune()
    assert file_of(run_dir, 90).is_file()
    assert sorted(p.name[2:14] for p in (run_dir / "replay").iterdir()) == [f"{s:012d}" for s in (0, 90, 180, 270, 360)]
    for step in (180, 270):
        file_of(run_dir, step).unlink()
    checkpointer.prune()  # 360 and 400 need the ring of 150 rows
    assert sorted(p.name[2:14] for p in (run_dir / "replay").iterdir()) == [f"{s:012d}" for s in (180, 270, 360)]


def test_the_old_file_is_never_written_to(tmp_path):
    """A new one takes its name when it is whole: who holds the old one open, or is killed, still has all of it."""
    path, link = tmp_path / "best.pt", tmp_path / "link"
    checkpoint.save({"a": torch.zeros(3)}, path)
    link.hardlink_to(path)
    checkpoint.save({"a": torch.ones(3)}, path)
    assert torch.load(link, weights_only=True)["a"].tolist() == [0, 0, 0]
    assert torch.load(path, weights_only=True)["a"].tolist() == [1, 1, 1]
