"""The command called in this process, which has imported torch already, and a finished run to call it on."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from agents import cli


class Result(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


SHORT = [
    *("--env", "catch", "--support", "-1,1", "--steps", "60", "--torso", "mlp", "--torso.hidden", "[8]"),
    *("--agent.learn_after_steps", "20", "--agent.batch_size", "8", "--evaluation.num_episodes", "2"),
    *("--evaluation.final_episodes", "2", "--log.every_steps", "20"),
]


@pytest.fixture
def classyq(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Result]:
    """classyq("train", "--seed", 3) in an empty directory, where `runs` is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")  # so that no sentence is broken
    monkeypatch.setattr(sys, "path", [*sys.path])

    def call(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["classyq", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return Result(caught.value.code or 0, out, " ".join(err.replace("│", " ").split()))

    return call


@pytest.fixture
def short() -> list[str]:
    """Arguments of a training that takes a quarter of a second."""
    return list(SHORT)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("made") / "runs"


@pytest.fixture
def finished(classyq: Callable[..., Result], made: Path, tmp_path: Path) -> Path:
    """A copy of a finished run of Catch in runs/, below the current directory; its path as one would type it."""
    if not made.is_dir():
        assert classyq("train", *SHORT, "--root", made).code == 0
    shutil.copytree(made, tmp_path / "runs")
    return next(p.parent.relative_to(tmp_path) for p in tmp_path.rglob("config.json"))
