"""study, as one types it."""

import subprocess
import sys

import pytest

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
    assert [line.split()[0] for line in lines] == [*STUDIES, *paper_studies()]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("plastisity",), "error: unknown study 'plastisity'. Did you mean plasticity? Choose from: cartpole"),
        (
            ("cartpole", "--tiny"),
            "--tiny is for studies with settings in configs/studies/, and 'cartpole' has none",
        ),
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
