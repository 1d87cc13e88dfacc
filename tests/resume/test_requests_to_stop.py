"""Ctrl-C, SIGTERM and SIGUSR1: a checkpoint, the exit code that says why, and a line that says how to go on."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agents.running import checkpoint
from agents.running.run import Run
from agents.running.signals import StopRequest
from agents.running.trainer import train

CODES = {"SIGINT": 130, "SIGTERM": 85, "SIGUSR1": 85}
HERE = Path(__file__).parents[2]


@pytest.mark.parametrize("name", CODES)
def test_exit_code_and_message(name, tiny, tmp_path, monkeypatch, capsys):
    """Sent by os.kill to this very process in the middle of a step: the step is made, saved, and the program leaves."""
    from agents.cli import run

    advance = Run.advance

    def killed_within(run):
        if run.step == 122:
            os.kill(os.getpid(), getattr(signal, name))
        advance(run)

    monkeypatch.setattr(Run, "advance", killed_within)
    before = {s: signal.getsignal(getattr(signal, s)) for s in CODES}
    with pytest.raises(SystemExit) as caught:
        run(tiny(), tmp_path / "run")
    assert caught.value.code == CODES[name]
    saved = checkpoint.found(tmp_path / "run")[-1]
    assert int(saved.stem[5:]) == 123
    last_lines = capsys.readouterr().out.splitlines()[-2:]
    assert last_lines == [
        f"stopped at step 123, saved as {saved}",
        f"go on  classyq resume {tmp_path / 'run'}",
    ]
    assert {s: signal.getsignal(getattr(signal, s)) for s in CODES} == before, "handlers are put back"


def test_a_real_process(tiny, tmp_path):
    """SIGTERM from outside, through `python -m agents`."""
    command = ["train", "--env", "catch", "--support", "-1,1", "--steps", "1000000", "--run-dir", str(tmp_path)]
    command += ["--log.every_steps", "50", "--evaluation.every_steps", "1000000"]
    environment = os.environ | {"PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "agents", *command], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    )
    first = process.stdout.readline()
    assert first.startswith("run ")
    while not (tmp_path / "metrics.csv").is_file() or b"\n50," not in (tmp_path / "metrics.csv").read_bytes():
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 85
    assert f"go on  classyq resume {tmp_path}" in out
    assert len(checkpoint.found(tmp_path)) == 1


def test_a_run_that_is_finished_leaves_with_0(tiny, tmp_path):
    assert train(tiny(), tmp_path).exit_code == 0


def test_only_the_first_request_counts_and_a_second_ctrl_c_is_at_once():
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGUSR1)
        assert stop.signum == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert stop.exit_code() == 85


def test_outside_of_the_main_thread_signals_are_left_alone(tiny, tmp_path):
    """train() may be called in a thread, where handlers cannot be set."""
    import threading

    before, summaries = signal.getsignal(signal.SIGTERM), []
    thread = threading.Thread(target=lambda: summaries.append(train(tiny(overrides={"steps": 60}), tmp_path)))
    thread.start()
    thread.join()
    assert summaries[0].finished
    assert signal.getsignal(signal.SIGTERM) == before
