"""record, and training from what was recorded, as one types them."""

import shlex
from pathlib import Path

import pytest

from agents.config import RunConfig
from agents.running import dataset

BRIEF = ["--steps", "20", "--agent.batch_size", "8", "--evaluation.final_episodes", "2", "--run-dir", "offline"]


def test_record_and_learn_from_it(classyq, finished):
    """What it prints is true, and the command that it names works as it is."""
    result = classyq("record", "last", "--steps", 100, "--epsilon", 0.5)
    assert result.code == 0
    data = dataset.find(finished / "dataset")
    assert data.steps == 100
    run, score, wrote, following = result.out.splitlines()
    assert run == f"run    {finished}, policy of step 60, epsilon 0.5"
    assert score.startswith(f"return {data.description.about['mean_return']:.2f} ± ")
    assert score.endswith(" over 11 episodes, and 1 cut at the end"), "Catch has episodes of 9 steps"
    size = sum(p.stat().st_size for p in data.path.iterdir())
    assert wrote == f"wrote  {data.path}: 100 steps (environments: 1), {size / 1e6:.1f} MB"
    name, *command = shlex.split(following.removeprefix("next"))
    assert name == "classyq"
    result = classyq(*command, *BRIEF)
    assert result.code == 0, result.err
    assert f"each of the 100 recorded steps ({data.path}) is learned from 1.6 times" in result.out
    config = RunConfig.preset("offline/config.json")
    assert (config.agent.name, config.regularizers["cql"].alpha) == ("cql", 0.1)  # pyright: ignore
    assert classyq("evaluate", "offline", "--episodes", "2").code == 0


def test_recorded_once(classyq, finished):
    assert classyq("record", "last", "--steps", 20).code == 0
    result = classyq("record", finished, "--steps", 20)
    assert (result.code, result.out) == (2, "")
    assert f"{finished}/dataset is there already, and a data set is never changed: give a new" in result.err
    assert classyq("record", finished, "--steps", 20, "--seed", 1, "--out", "elsewhere").code == 0
    assert dataset.find(Path("elsewhere")).description.about["seed"] == 1


def test_the_recipe(classyq, finished):
    """Says what would happen; without a data set it says where one is from."""
    assert classyq("record", "last", "--steps", 20, "--out", "data").code == 0
    result = classyq("train", "cql_catch", "--agent.dataset", "data", "--dry-run")
    assert result.code == 0
    assert "6,000 steps, each of them 1 update of 64 and none in an environment" in result.out
    assert 'agent.dataset = "data"' in result.out
    assert "exploration" not in result.out


@pytest.mark.parametrize(("arguments", "message"), [
    (("train", "cql_catch"), "error: agent.dataset is missing: the directory of a data set, which classyq"),
    (("train", "cql_catch", "--agent.dataset", "nowhere"), "error: agent.dataset: nowhere is no data set"),
    (("train", "cql_catch", "--exploration", "greedy"), "agent 'cql' has no use for [exploration]: leave it out"),
    (("record", "minari:theirs-v0"), "error: --out is missing: a new directory for minari:theirs-v0"),
    (("record", "last"), "there are no runs in runs/ yet: classyq train"),
    (("record", "last", "--epsilon", "2"), "Invalid value for '--epsilon'"),
])  # fmt: skip
def test_refused(arguments, message, classyq, tmp_path):
    result = classyq(*arguments)
    assert result.code == 2
    assert message in result.err
    assert not list(tmp_path.iterdir())


def test_from_minari_and_to_it(classyq, finished, monkeypatch, tmp_path):
    pytest.importorskip("h5py")
    pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "store"))
    result = classyq("record", "last", "--steps", 20, "--minari", "mine/catch-v0")
    assert result.code == 0
    assert "minari mine/catch-v0\n" in result.out
    result = classyq("record", "minari:mine/catch-v0", "--out", "back")
    assert result.code == 0
    assert result.out.startswith("wrote  back: 20 steps (environments: 1)")
    assert "next   classyq train --env ENV --agent cql --agent.dataset back" in result.out


def test_help(classyq):
    result = classyq("record", "--help")
    assert result.code == 0
    assert "the best policy of a run plays in its training environments" in result.out
