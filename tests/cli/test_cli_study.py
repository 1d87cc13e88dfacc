"""study, as one types it."""

import subprocess
import sys
from pathlib import Path

import pytest

from agents.cli_study import study
from agents.experiments.studies.others import OTHERS
from agents.experiments.studies.paper import paper_studies
from agents.experiments.studies.training_runs import STUDIES


def test_a_small_study(classyq, tmp_path):
    result = classyq("study", "plasticity", "--tiny")
    assert result.code == 0, result.err
    *cells, primary, wrote = result.out.splitlines()
    assert len(cells) == 4
    assert primary.split(":")[0].split() in (["primary", verdict] for verdict in ("agrees", "disagrees", "undecided"))
    assert wrote == "wrote    runs/study-plasticity-tiny/plasticity.md, .csv and .png"
    written = {path.name for path in (tmp_path / "runs" / "study-plasticity-tiny").iterdir()}
    assert written == {"cells", "measured_by.json", "plasticity.md", "plasticity.csv", "plasticity.png"}
    again = classyq("study", "plasticity", "--tiny")
    assert again.out.splitlines() == [primary, wrote]


def test_the_list_has_every_study(classyq):
    lines = classyq("list", "studies").out.splitlines()
    assert [line.split()[0] for line in lines] == [*STUDIES, *OTHERS, *paper_studies()]


def test_those_that_are_commands_of_their_own(tmp_path, monkeypatch):
    """They are handed what was asked for; what they do with it has tests of its own."""
    seen = []
    monkeypatch.setattr("agents.experiments.calibration.main", lambda **given: seen.append(given))
    monkeypatch.setattr("agents.experiments.minatar_study.training.answer", lambda *given: seen.append(given))
    study("calibration", out=tmp_path)
    study("minatar", jobs=3, root=tmp_path / "runs")
    assert seen == [{"out": tmp_path}, (3, tmp_path / "runs", Path("docs/results"))]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("plastisity",), "error: unknown study 'plastisity'. Did you mean plasticity? Choose from: cartpole"),
        (
            ("cartpole", "--tiny"),
            "--tiny is for studies with settings in configs/studies/, and 'cartpole' has none",
        ),
        (("minatar", "--tiny"), "--tiny is for studies with settings in configs/studies/, and 'minatar' has none"),
        (("minatr",), "error: unknown study 'minatr'. Did you mean minatar?"),
        (("plasticity", "--jobs", "0"), "Invalid value for '--jobs'"),
        ((), "Missing argument 'NAME'"),
    ],
)
def test_what_is_refused(classyq, arguments, message):
    result = classyq("study", *arguments)
    assert result.code == 2
    assert message in result.err


def test_the_command_that_older_pages_name(tmp_path):
    command = [sys.executable, "-m", "agents.experiments.studies", "plasticity", "--tiny", "--root", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "wrote " in result.stdout
