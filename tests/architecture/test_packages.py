"""Is it ours that is imported? Other distributions claim the names `agents` and `envs` too."""

from pathlib import Path

import pytest

import agents
import envs
import value_heads

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("package", [agents, envs, value_heads])
def test_packages_are_ours(package):
    assert package.__file__ is not None
    assert Path(package.__file__).is_relative_to(ROOT)


@pytest.mark.parametrize("package", ["agents", "envs", "value_heads"])
def test_modules_are_at_most_about_250_lines(package):
    long = {p.name: n for p in (ROOT / package).rglob("*.py") if (n := len(p.read_text().splitlines())) > 300}
    assert not long
