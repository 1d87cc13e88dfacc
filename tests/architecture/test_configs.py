"""Does every recipe load and train, and is the schema for editors the one of the code?"""

import json

import pytest

from agents import train
from agents.config import RunConfig, json_schema
from agents.presets import PRESETS, preset_names
from agents.running.record import record

SHORT = {"steps": 300, "agent.learn_after_steps": 100, "evaluation.num_episodes": 1, "evaluation.final_episodes": 1}
SHORT |= {"evaluation.max_steps": 300, "replay.capacity_steps": 1_000, "device": "cpu"}


@pytest.mark.parametrize("name", preset_names())
def test_a_recipe_trains(name, tmp_path):
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


@pytest.mark.parametrize("name", preset_names())
def test_a_recipe_says_what_it_is_and_names_the_schema(name):
    first, second, *_ = (PRESETS / f"{name}.toml").read_text(encoding="utf-8").splitlines()
    assert first == "#:schema ./schema.json"
    assert second.startswith("# ")


def test_schema_is_current():
    stored = json.loads((PRESETS / "schema.json").read_text(encoding="utf-8"))
    assert stored == json.loads(json.dumps(json_schema())), "run: python -m agents.config > configs/schema.json"
