"""Does CONTRIBUTING.md tell the truth: the reading path, the code in it, and the commands in it?"""

import importlib
import inspect
import re
import shlex
import sys
from pathlib import Path

import pytest

from agents import cli
from value_heads.encodings import OneHot

PAGE = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
ENTRY_POINTS = re.search(r"```toml\n(.*?)```", PAGE, re.S)


def find(path: str):
    module, _, names = path.partition(":")
    found = importlib.import_module(module)
    for name in names.split("."):
        found = getattr(found, name)
    return found


READING = PAGE.split("## From the command to the gradient")[1].split("\n## ")[0]
DQN_TABLE, RAINBOW_TABLE = READING.split("For a Rainbow")


def paths_in(text: str) -> list[str]:
    return re.findall(r"`([\w.]+:[\w.]+)`", text)


def num_lines(paths) -> int:
    return sum(len(inspect.getsourcelines(find(path))[0]) for path in paths)


def test_command_to_gradient_is_at_most_700_lines():
    paths = paths_in(DQN_TABLE)
    assert len(paths) >= 15
    assert num_lines(paths) <= 700


def test_a_rainbow_is_at_most_700_lines():
    """The other table leaves out what a Rainbow does without, and each of its rows says what comes in its place."""
    rows = [row.split("|")[1:3] for row in RAINBOW_TABLE.splitlines() if row.startswith("|")]
    left_out, read = (paths_in(" ".join(column)) for column in zip(*rows, strict=True))
    assert set(left_out) < set(paths_in(DQN_TABLE))
    assert len(read) >= 9
    assert num_lines((set(paths_in(DQN_TABLE)) - set(left_out)) | set(read)) <= 700


def test_an_encoding_is_at_most_13_lines():
    assert len(inspect.getsourcelines(OneHot)[0]) + 1 <= 13  # the class and its line in ENCODINGS


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """A folder with my_parts.py and the entry points of CONTRIBUTING.md, as an installed distribution has them."""
    code = re.search(r"```python\n# my_parts.py\n(.*?)```", PAGE, re.S)
    assert code is not None
    assert ENTRY_POINTS is not None
    (tmp_path / "my_parts.py").write_text(code[1])
    meta = tmp_path / "my_parts-1.0.dist-info"
    meta.mkdir()
    (meta / "METADATA").write_text("Metadata-Version: 2.1\nName: my-parts\nVersion: 1.0\n")
    entries = re.sub(r'\[project\.entry-points\."(.*?)"\]', r"[\1]", ENTRY_POINTS[1]).replace('"', "")
    (meta / "entry_points.txt").write_text(entries)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [n for n in sys.modules if n == "my_parts" or n.startswith("env_file_my_parts")]:
        del sys.modules[name]


def run(command: str, monkeypatch) -> None:
    """Run a line of the page in this process; training is cut short."""
    words = shlex.split(command)
    assert words[0] == "classyq"
    short = ["--steps", "120", "--agent.learn_after_steps", "50"] if words[1] == "train" else []
    monkeypatch.setattr(sys, "argv", [*words, *short])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 0


COMMANDS = [
    line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.S) for line in block.splitlines() if "my_parts" in line
]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_with_parts_from_outside(command, outside, monkeypatch):
    run(command, monkeypatch)


@pytest.mark.parametrize(
    "options",
    [
        "catch --head log_cosh",
        "catch --head hl_gauss --head.loss cross_entropy_brier",
        "catch --head categorical --head.encoding triangle",
        "catch --torso sines --torso.width 32",
        "--env corridor --env.max_steps 50",
    ],
)
def test_entry_points(options, outside, monkeypatch):
    run(f"classyq train {options}", monkeypatch)
