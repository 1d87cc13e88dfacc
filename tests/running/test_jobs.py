"""Several runs in processes of their own; the processes are stood in for, as tests/cli starts real ones."""

import json
import signal
import sys
from pathlib import Path

import pytest

from agents.experiments import jobs


@pytest.fixture
def started(monkeypatch):
    """Commands that were started; the run in a directory called bad fails."""
    commands = []

    class Process:
        def __init__(self, command, *, stdout, **options):
            commands.append(command)
            run_dir = Path(command[command.index("--run-dir") + 1])
            self.code = 2 if run_dir.name == "bad" else 0
            if self.code:
                stdout.write("first line\nerror: the last line\n")
            else:
                (run_dir / "summary.json").write_text(json.dumps({"best_return": 12.34, "last_return": 5.0}))

        def wait(self):
            return self.code

    monkeypatch.setattr(jobs.subprocess, "Popen", Process)
    return commands


def test_each_gets_its_configuration_and_directory(small, tmp_path, started, capsys):
    configs = [small(overrides={"seed": s}) for s in (1, 2, 3)]
    run_dirs = [tmp_path / name for name in ("one", "bad", "three")]
    assert jobs.train_all(configs, run_dirs, 1, tmp_path / "source") == 1
    assert [c[:4] for c in started] == [[sys.executable, "-m", "agents", "train"]] * 3
    for config, run_dir, command in zip(configs, run_dirs, started, strict=True):
        assert json.loads(Path(command[4]).read_text()) == config.plain()
        assert command[5:] == ["--run-dir", str(run_dir), "--init-from", str(tmp_path / "source")]
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"   1 of 3  {run_dirs[0]}  best 12.3, last 5.0",
        f"   2 of 3  {run_dirs[1]}  failed with exit code 2: error: the last line",
        f"   3 of 3  {run_dirs[2]}  best 12.3, last 5.0",
    ]


def test_seeds_upwards_from_the_one_given(small, tmp_path, started):
    assert jobs.train_seeds(small(overrides={"seed": 7}), 3, 2, tmp_path, None) == 0
    seeds = sorted(json.loads(Path(c[4]).read_text())["seed"] for c in started)
    assert seeds == [7, 8, 9]
    assert all("--init-from" not in c for c in started)
    assert len({c[6] for c in started}) == 3, "directories of their own"


def test_a_request_to_stop_reaches_the_runs_and_no_further_one_begins(small, tmp_path, monkeypatch):
    sent = []

    class Process:
        def __init__(self, command, **options):
            self.run_dir = Path(command[command.index("--run-dir") + 1])

        def wait(self):
            signal.raise_signal(signal.SIGUSR1)
            return 85

        def send_signal(self, signum):
            sent.append((self.run_dir.name, signum))

    monkeypatch.setattr(jobs.subprocess, "Popen", Process)
    monkeypatch.setattr(jobs, "ThreadPoolExecutor", Here)
    configs = [small(overrides={"seed": s}) for s in (1, 2)]
    assert jobs.train_all(configs, [tmp_path / "one", tmp_path / "two"], 1) == 2
    assert sent == [("one", signal.SIGUSR1)]
    assert not (tmp_path / "two").exists()


class Here:
    """A pool of no thread: Python lets only the main one handle signals."""

    def __init__(self, jobs):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        pass

    def map(self, *arguments):
        return map(*arguments)


def test_a_failure_without_a_word(tmp_path):
    (tmp_path / "log.txt").write_text("")
    assert jobs.outcome(tmp_path, -9) == "failed with exit code -9: "


class Ended:
    """A process that has ended with exit code 7."""

    def wait(self):
        return 7


def test_a_run_that_outlived_its_parent_is_waited_for(small, tmp_path, monkeypatch, capsys):
    """Its output is the log, which it holds as long as it lives; nothing is written while it does."""
    fcntl = pytest.importorskip("fcntl")
    log = (tmp_path / "log.txt").open("a")
    fcntl.flock(log, fcntl.LOCK_EX)
    waits = []

    def sleep(seconds):
        assert not (tmp_path / "requested.json").exists()
        waits.append(seconds)
        if len(waits) == 3:
            log.close()  # it ends

    monkeypatch.setattr(jobs.time, "sleep", sleep)
    monkeypatch.setattr(jobs.subprocess, "Popen", lambda *_, **__: Ended())
    assert jobs.train_in_process(small(), tmp_path) == 7
    assert len(waits) == 3
    assert capsys.readouterr().out.count(f"waits for another process that still trains {tmp_path}") == 1


def test_nobody_waits_who_is_asked_to_stop(small, tmp_path, monkeypatch):
    monkeypatch.setattr(jobs.subprocess, "Popen", lambda *_, **__: pytest.fail("started"))
    assert jobs.train_in_process(small(), tmp_path, give_up=lambda: True) == jobs.EXIT_REQUEUE
