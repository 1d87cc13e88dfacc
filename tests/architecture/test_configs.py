"""Do recipes train, is what they say of themselves true, and is the schema for editors the one of the code?"""

import json

import pytest

from agents import train
from agents.components import KINDS
from agents.config import RunConfig, json_schema
from agents.networks.qnetwork import EnvSpec, make_network
from agents.presets import PRESETS, preset_names
from agents.replay import uniform
from agents.running.record import record
from agents.running.stopwatch import Stopwatch
from envs import make_vector

SHORT = {"steps": 300, "agent.learn_after_steps": 100, "evaluation.num_episodes": 1, "evaluation.final_episodes": 1}
SHORT |= {"evaluation.max_steps": 300, "replay.capacity_steps": 1_000, "device": "cpu"}


@pytest.mark.parametrize("name", ["cartpole", "catch", "cql_catch", "deep_sea", "r2d2_recall", "pong"])
def test_a_recipe_trains(name, tmp_path):
    """From the command's configuration to the best policy; the other recipes are in tests/contract/test_recipes.py."""
    changes = SHORT
    if RunConfig.preset(name).agent.name == "cql":
        train(RunConfig.preset("catch", {"steps": 20, "evaluation.final_episodes": 1}), tmp_path / "played")
        data = record(tmp_path / "played", tmp_path / "data", steps=100, epsilon=1.0, seed=0).dataset
        without = ("agent.learn_after_steps", "replay.capacity_steps")
        changes = {k: v for k, v in SHORT.items() if k not in without} | {"agent.dataset": str(data.path)}
    summary = train(RunConfig.preset(name, changes), tmp_path / "run")
    assert summary.finished
    assert summary.step == 300
    assert (tmp_path / "run" / "best.pt").is_file()


@pytest.fixture(scope="module")
def specs():
    """What is seen of every environment that a recipe has, by its id."""
    found = {}
    for env_id in {RunConfig.preset(name).env.id for name in preset_names()}:
        venv = make_vector(env_id)
        found[env_id] = EnvSpec.of(venv)
        venv.close()
    return found


def size_line(name, spec, monkeypatch):
    """How many weights are made, and how much memory the replay asks for before it is allocated."""
    config = RunConfig.preset(name, {"device": "cpu"})
    if config.env.support == "auto":
        config = config.with_overrides({"env.support": [-1.0, 1.0]})
    weights = sum(p.numel() for p in make_network(config, spec).parameters())
    text = f"{weights / 1e6:.2f}M" if weights >= 1e6 else f"{weights / 1e3:.1f}k"
    agent = KINDS["agent"].find(config.agent.name)
    if "replay" not in agent.Config.tables:
        return f"# {text} weights, no replay"
    asked = []

    def check_fits(rows, num_envs, bytes_per_step, place):
        asked.append(rows * num_envs * bytes_per_step)
        raise MemoryError

    monkeypatch.setattr(uniform, "check_fits", check_fits)
    with pytest.raises(MemoryError):
        agent(config, spec, Stopwatch())
    size = f"{asked[0] / 1e9:.1f} GB" if asked[0] >= 1e9 else f"{asked[0] / 1e6:.1f} MB"
    return f"# {text} weights, {size} of replay"


@pytest.mark.parametrize("name", preset_names())
def test_a_recipe_says_what_it_is(name, specs, monkeypatch):
    first, second, third, *_ = (PRESETS / f"{name}.toml").read_text(encoding="utf-8").splitlines()
    assert first == "#:schema ./schema.json"
    assert second.startswith("# ")
    assert third == size_line(name, specs[RunConfig.preset(name).env.id], monkeypatch)


def test_every_recipe_is_in_the_page():
    rows = (PRESETS.parent / "docs" / "recipes.md").read_text(encoding="utf-8").splitlines()
    listed = [row.split("`")[1] for row in rows if row.startswith("| `")]
    worlds = {name: RunConfig.preset(name).env.id for name in preset_names() if name != "pong"}
    assert sorted(listed) == [name for name, env_id in worlds.items() if env_id.startswith(("ALE/", "minatar/"))]


def test_schema_is_current():
    stored = json.loads((PRESETS / "schema.json").read_text(encoding="utf-8"))
    assert stored == json.loads(json.dumps(json_schema())), "run: python -m agents.config > configs/schema.json"
