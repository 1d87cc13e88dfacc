"""runs, list, check-env and help."""

import io
import re
import subprocess
import sys
from pathlib import Path

import gymnasium
import pytest

from agents import AGENTS
from agents.networks.output_layers import OUTPUT_LAYERS
from agents.networks.torsos import TORSOS
from agents.presets import preset_names
from envs import ENVS
from value_heads import ENCODINGS, HEADS, LOSSES

REGISTRIES = {
    "heads": HEADS,
    "encodings": ENCODINGS,
    "losses": LOSSES,
    "torsos": TORSOS,
    "output_layers": OUTPUT_LAYERS,
    "agents": AGENTS,
    "envs": [*ENVS, *gymnasium.registry],
    "presets": preset_names(),
}
HERE = Path(__file__).parents[2]


@pytest.mark.parametrize("what", REGISTRIES)
def test_list_has_every_name(what, classyq):
    result = classyq("list", what)
    assert result.code == 0
    assert {line.split()[0] for line in result.out.splitlines()} >= set(REGISTRIES[what])
    assert REGISTRIES[what], "an empty registry proves nothing"


def test_list_tells_of_options_and_purposes(classyq):
    assert re.search(r"^hl_gauss +num_bins=51, .*sigma_ratio=0.75", classyq("list", "heads").out, re.MULTILINE)
    assert re.search(r"^huber +kappa=1.0", classyq("list", "heads").out, re.MULTILINE)
    assert re.search(r"^mlp +\w+", classyq("list", "torsos").out, re.MULTILINE)


def test_list_losses_is_a_table(classyq):
    """Source, whether the mean is what it learns, and the cost; narrow enough for a terminal."""
    header, *rows = classyq("list", "losses").out.splitlines()
    assert header.split() == ["loss", "source", "calibrated", "cost", "in", "m", "bins"]
    assert max(len(row) for row in rows) <= 120
    cells = {row.split()[0]: re.split(" {2,}", row)[1:] for row in rows}
    assert cells["ldr_kl"] == ["2023, 2112.14869", "yes", "O(m)"]
    assert cells["wasserstein"] == ["2022, 2210.14523", "no: median, with allow_biased", "O(m)"]
    assert {name for name, row in cells.items() if row[1] != "yes"} == {"wasserstein", "decoupled_softmax"}


def test_list_presets_is_a_table(classyq):
    """A line each, narrow enough for a terminal: what, source, head, environment, weights, replay."""
    header, *rows = classyq("list", "presets").out.splitlines()
    assert header.split("  ")[0] == "preset"
    assert len(rows) == len(preset_names())
    assert max(len(row) for row in rows) <= 120
    cells = {row.split()[0]: re.split(" {2,}", row) for row in rows}
    assert cells["btr"][1:] == ["Beyond The Rainbow (Clark et al. 2025)", "iqn", "ALE/Pong-v5", "5.27M", "7.4 GB"]
    assert cells["pqn"][-2:] == ["1.69M", "no replay"]


def test_runs(classyq, finished):
    result = classyq("runs")
    assert result.code == 0
    size = sum(p.stat().st_size for p in finished.rglob("*") if p.is_file())
    (line,) = [line for line in result.out.splitlines() if "60 / 60" in line]
    assert line.endswith(f"{size / 1e6:.1f}  {finished}")
    assert "there are no runs in elsewhere/ yet" in classyq("runs", "--root", "elsewhere").out
    (finished / "config.json").write_text("{")
    result = classyq("runs")
    assert (result.code, "damaged" in result.out, str(finished) in result.out) == (0, True, True)


def test_runs_delete_asks(classyq, finished, monkeypatch):
    for answer, remains in (("n\n", True), ("y\n", False)):
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        result = classyq("runs", "delete", "last")
        assert result.code == 0
        assert f"delete {finished} (" in result.out
        assert finished.exists() == remains


def test_runs_delete_yes(classyq, finished, tmp_path):
    (tmp_path / "runs" / "mine.txt").write_text("not a run's")
    result = classyq("runs", "delete", finished, "--yes")
    assert (result.code, result.out) == (0, f"deleted {finished}\n")
    assert not finished.exists()
    assert (tmp_path / "runs" / "mine.txt").exists()
    assert classyq("runs", "delete", finished, "--yes").code == 2


def test_check_env(classyq, tmp_path):
    result = classyq("check-env", "catch", "--steps", "200")
    assert result.code == 0
    assert "suggested support" in result.out
    assert {line.split()[0] for line in result.out.splitlines()} == {"ok"}
    result = classyq("check-env", "nowhere-v0")
    assert result.code == 1
    assert result.out.startswith("error  making the environment: UnknownEnvironment")
    result = classyq("check-env", "ALE/Typo-v5")
    assert result.code == 1
    wanted = "error  making the environment: UnknownEnvironment: unknown environment 'ALE/Typo-v5'; did you mean 'ALE/"
    assert result.out.startswith(wanted)
    source = "from envs.toy import Catch\nclass Bad(Catch):\n    def step(self, action):\n        return 1\n"
    (tmp_path / "bad.py").write_text(source)
    assert classyq("check-env", "./bad.py:Bad", "--steps", "200").code == 1


def test_help(classyq):
    result = classyq("--help")
    assert result.code == 0
    for command in ("train", "resume", "evaluate", "runs", "list", "check-env"):
        assert command in result.out
    for command in (["train"], ["resume"], ["evaluate"], ["runs"], ["runs", "delete"], ["list"], ["check-env"]):
        assert re.search(rf"Usage: .*{' '.join(command)} \[OPTIONS\]", classyq(*command, "--help").out)


def test_help_does_not_wait_for_torch():
    """In a fresh process: what `python -m agents train --help` imports."""
    code = (
        "import sys; sys.argv = ['classyq', 'train', '--help']\n"
        "from agents.cli import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code\n"
        "slow = {'torch', 'numpy', 'gymnasium', 'tensorboard'} & sys.modules.keys()\n"
        "assert not slow, slow"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=HERE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--agent.lr" in done.stdout


def test_python_m_agents(tmp_path):
    """The module is the command, from any directory."""
    done = subprocess.run(
        [sys.executable, "-m", "agents", "runs"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(HERE), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "there are no runs in runs/ yet: classyq train" in done.stdout
