"""Who may import whom: value_heads stands alone, envs knows no agent, and nobody imports the command line."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def imported_names(source, package):
    """Dotted names that `source` imports, relative ones resolved; of `from a import b` both a and a.b."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            base = ".".join(parents[: len(parents) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return found


def imports_of(folder):
    """{file relative to the repository: names that it imports}"""
    files = sorted((ROOT / folder).rglob("*.py"))
    return {
        str(f.relative_to(ROOT)): imported_names(f.read_text(), ".".join(f.relative_to(ROOT).parent.parts))
        for f in files
    }


def top(name):
    return name.split(".")[0]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("import agents.cli", "agents.cli"),
        ("import agents.cli as c", "agents.cli"),
        ("from agents import cli", "agents.cli"),
        ("from agents.cli import main", "agents.cli"),
        ("from . import cli", "agents.cli"),
        ("from .cli import main", "agents.cli"),
        ("def late():\n    import agents.cli", "agents.cli"),
    ],
)
def test_the_reader_sees_every_form_of_import(source, name):
    assert name in imported_names(source, "agents")


def test_the_reader_resolves_parents():
    assert "agents.cli" in imported_names("from .. import cli", "agents.running")
    assert "agents.running.watch" in imported_names("from . import watch", "agents.running")


def test_value_heads_imports_torch_and_the_standard_library_only():
    imports = imports_of("value_heads")
    assert "value_heads/base.py" in imports
    allowed = {"torch", "value_heads"} | set(sys.stdlib_module_names)
    assert {f: {n for n in names if top(n) not in allowed} for f, names in imports.items()} == {
        f: set() for f in imports
    }


def test_envs_imports_neither_agents_nor_value_heads():
    imports = imports_of("envs")
    assert imports
    wrong = {"agents", "value_heads"}
    assert {f for f, names in imports.items() if wrong & {top(n) for n in names}} == set()


def test_nobody_imports_the_command_line():
    for folder in ("agents", "envs", "value_heads", "benchmarks"):
        users = {
            f
            for f, names in imports_of(folder).items()
            if any(n == "agents.cli" or n.startswith("agents.cli.") for n in names)
        }
        assert users <= {"agents/__main__.py"}
