"""train, resume and evaluate as one types them."""

import csv
import json
import signal
from pathlib import Path

import pytest
import torch

from agents.config import RunConfig
from agents.overrides import parse_value, split_overrides
from agents.running import checkpoint
from agents.running.evaluation import load
from agents.running.run import Run


def config_of(path) -> dict:
    return json.loads((Path(path) / "config.json").read_text())


def test_values_on_the_command_line():
    for text, value in {
        "1e-4": 1e-4,
        "3": 3,
        "1_000": 1000,
        "true": True,
        "-1,1": [-1, 1],
        "[64, 64]": [64, 64],
        "'auto'": "auto",
        "auto": "auto",
        "none": None,
        "Null": None,
        "./file.py:Class": "./file.py:Class",
        "": "",
    }.items():
        assert parse_value(text) == value
        assert type(parse_value(text)) is type(value)


def test_dotted_options_are_taken_out():
    line = "train catch --agent.lr=1e-4 --seed 3 --agent.normalize-obs --env.kwargs.x 3 --support -1,1 --head.sigma 0.5"
    overrides, rest = split_overrides(line.split()[1:])
    assert overrides == {"agent.lr": 1e-4, "agent.normalize_obs": True, "env.kwargs.x": 3, "head.sigma": 0.5}
    assert rest == ["catch", "--seed", "3", "--support", "-1,1"]
    assert split_overrides(["--env=./a.py:B", "--run-dir=a.b", "--env.support", "-2,2"]) == (
        {"env.support": [-2, 2]},
        ["--env=./a.py:B", "--run-dir=a.b"],
    )


@pytest.mark.parametrize("form", [["--agent.lr=1e-4"], ["--agent.lr", "1e-4"]])
def test_settings_reach_the_run(form, classyq, short):
    result = classyq("train", *short, *form, "--agent.normalize_obs", "--seed", "7", "--run-dir", "here")
    assert result.code == 0
    config = config_of("here")
    assert (config["agent"]["lr"], config["agent"]["normalize_obs"], config["seed"]) == (1e-4, True, 7)
    assert config["env"]["support"] == [-1.0, 1.0]
    assert config["torso"] == {"name": "mlp", "hidden": [8]}
    assert RunConfig.preset("here/config.json").plain() == config, "nothing is left to be resolved"
    assert "next   classyq evaluate here" in result.out
    assert "logging took" in result.out


def test_a_new_run_has_a_telling_path(classyq, short):
    assert classyq("train", *short, "--seed", "4").code == 0
    (config,) = Path("runs").rglob("config.json")
    assert config.parent.match("runs/catch/dqn+hl_gauss/s4-*")


def test_dry_run(classyq, tmp_path):
    """It says what would be trained, with the range of returns found, and writes nothing."""
    result = classyq("train", "--env", "chain", "--env.kwargs.length", "3", "--support", "auto", "--dry-run")
    assert result.code == 0
    assert "chain x1: obs float32[3], 2 actions" in result.out
    assert "support [-1.44, 1.44] (auto: the environment)" in result.out
    assert "50,000 steps, 1 update of 128 per 4 steps = 12,249; each step is learned from 31.4 times" in result.out
    result = classyq("train", "--dry-run", "--support", "-1,1")
    assert "CartPole-v1" in result.out, "the preset without a name"
    assert "support [-1, 1] (given)" in result.out
    options = ("--agent.normalize_reward", "false", "--agent.reward_clip", "0.5", "--device", "auto")
    result = classyq("train", "cartpole", "--dry-run", *options)
    assert "support [-50, 50] (auto: clipped reward / (1 - gamma))" in result.out
    assert "(device c" in result.out
    result = classyq("train", "cartpole", "--dry-run", "--agent.normalize_reward")
    assert "support [-10, 10] (auto: rewards are normalised)" in result.out
    result = classyq("train", "catch", "--dry-run", "--output_layer", "noisy", "--output_layer.hidden", "8")
    assert 'output_layer.name = "noisy"\n  output_layer.hidden = 8' in result.out
    assert "output_layer.sigma = 0.5" in result.out
    assert not list(tmp_path.iterdir())


def test_an_environment_of_one_s_own(classyq, short, tmp_path):
    """./file.py:Class, and module:Class found in the current directory."""
    source = "from envs.toy import Catch\nclass Small(Catch):\n    rows = 5\n"
    (tmp_path / "my_small_game.py").write_text(source)
    for env in ("./my_small_game.py:Small", "my_small_game:Small"):
        result = classyq("train", *short, "--env", env, "--dry-run")
        assert f"{env} x1: obs float32[5, 5], 3 actions" in result.out


def test_resume(classyq, short, monkeypatch):
    """Stopped, resumed from an earlier checkpoint, finished; then there is nothing to do."""
    advance = Run.advance

    def stopped(run):
        advance(run)
        if run.step == 45:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "advance", stopped)
        result = classyq("train", *short, "--checkpoint.every_steps", "20", "--run-dir", "here")
    assert result.code == 85
    assert "go on  classyq resume here" in result.out
    assert [p.stem for p in checkpoint.found(Path("here"))] == ["step-000000000040", "step-000000000045"]
    assert "45 / 60" in classyq("runs", "--root", ".").out
    result = classyq("resume", "here", "--checkpoint", "here/checkpoints/step-000000000040.pt")
    assert result.code == 0
    assert "resume here at step 40" in result.out
    result = classyq("resume", "here")
    assert (result.code, result.out) == (0, "here is finished: all 60 steps are made\n")


def test_resume_of_a_run_that_was_killed_before_its_first_checkpoint(classyq, finished):
    for file in [*finished.rglob("*.pt"), finished / "summary.json"]:
        file.unlink()
    result = classyq("resume", finished)
    assert result.code == 0
    assert f"{finished} has no checkpoint yet: it begins again" in result.out
    assert "60 steps. Best policy" in result.out


def test_the_same_command_again_goes_on(classyq, finished, short):
    """What a scheduler does with exit code 85: what is left is done, here only the score."""
    before = json.loads((finished / "summary.json").read_text())
    (finished / "summary.json").unlink()
    result = classyq("train", *short, "--run-dir", finished)
    assert result.code == 0
    assert f"resume {finished} at step 60" in result.out
    assert f"{finished} is finished: all 60 steps are made" in classyq("train", *short, "--run-dir", finished).out
    assert json.loads((finished / "summary.json").read_text())["best_return"] == before["best_return"]


def test_evaluate(classyq, finished):
    result = classyq("evaluate", "last", "--episodes", "3")
    assert result.code == 0
    assert result.out.startswith(f"run    {finished}\nreturn ")
    assert "over 3 episodes, epsilon 0" in result.out
    assert "; 27 steps" in result.out
    assert classyq("evaluate", finished, "--episodes", "3").out == result.out
    by_name = str(finished.relative_to("runs"))
    assert classyq("evaluate", by_name, "--episodes", "3").out.splitlines()[1:] == result.out.splitlines()[1:]
    many = [classyq("evaluate", "last", "--episodes", 12, *more).out for more in ((), ("--epsilon", 1), ("--seed", 5))]
    assert len(set(many)) == 3


def test_evaluate_says_what_was_cut(classyq, short, monkeypatch):
    """A score of games that were cut is none to compare with those of whole games."""
    assert classyq("train", *short, "--evaluation.max_steps", "4", "--run-dir", "brief").code == 0
    cut = "       3 of 3 episodes were cut at evaluation.max_steps (4): this is no score of whole episodes\n"
    assert classyq("evaluate", "brief", "--episodes", "3").out.endswith(cut)
    monkeypatch.setattr("envs.atari_scores.human_normalized", lambda env_id, score: 0.25)
    out = classyq("evaluate", "brief", "--episodes", "3").out
    assert f"{cut}       25.0% human-normalised, with 3 games cut: 0 is random play" in out


def test_nothing_is_said_of_cuts_where_there_are_none(classyq, finished, monkeypatch):
    monkeypatch.setattr("envs.atari_scores.human_normalized", lambda env_id, score: 0.25)
    out = classyq("evaluate", "last", "--episodes", "3").out
    assert "cut" not in out
    assert "       25.0% human-normalised: 0 is random play" in out


def test_init_from(classyq, finished, short, monkeypatch):
    """At step 0 the new run has the weights of the source, in both networks, and it has them when killed at once."""

    def killed(run):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Run, "advance", killed)
        classyq("train", *short, "--seed", "8", "--init-from", "last", "--run-dir", "new")
    source = load(finished).network.state_dict()
    (first,) = checkpoint.found(Path("new"))
    learner = torch.load(first, weights_only=True)["agent"]["learner"]
    for network in ("online", "target"):
        assert learner[network].keys() == source.keys()
        assert all(torch.equal(learner[network][k], source[k]) for k in source)
    result = classyq("resume", "new")
    assert result.code == 0
    assert "resume new at step 0" in result.out
    straight = classyq("train", *short, "--seed", "8", "--init-from", finished, "--run-dir", "straight")
    assert straight.code == 0
    ends = [torch.load(checkpoint.found(Path(d))[-1], weights_only=True)["agent"] for d in ("new", "straight")]
    online = [end["learner"]["online"] for end in ends]
    assert all(torch.equal(online[0][k], online[1][k]) for k in online[0])
    assert not all(torch.equal(online[0][k], source[k]) for k in source), "it has learned since"


def test_several_seeds(classyq, finished, short, monkeypatch):
    """Two processes; every run starts with the weights of the run named, `last` though one of them is the last."""
    Path("runs").rename("elsewhere")
    finished = Path("elsewhere") / finished.relative_to("runs")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    result = classyq(
        *("train", *short, "--seeds", "2", "--jobs", "2", "--seed", "5", "--init-from", "last", "--root", "elsewhere"),
        *("--exploration.epsilon_start", "0.5", "--evaluation.every_steps", "20", "--checkpoint.keep", "9"),
    )
    assert result.code == 0, result
    assert "1 of 2" in result.out
    assert "2 of 2" in result.out
    new = sorted(p.parent for p in Path("elsewhere").rglob("log.txt"))
    assert [config_of(p)["seed"] for p in new] == [5, 6]
    source = load(finished).network.state_dict()
    for path in new:
        assert json.loads((path / "summary.json").read_text())["finished"]
        assert "done   60 steps" in (path / "log.txt").read_text()
        first = torch.load(path / "checkpoints/step-000000000000.pt", weights_only=True)["agent"]["learner"]["online"]
        assert all(torch.equal(first[k], source[k]) for k in source)
    with (new[0] / "metrics.csv").open() as one, (new[1] / "metrics.csv").open() as two:
        losses = [[row["losses/td_loss"] for row in csv.DictReader(file)] for file in (one, two)]
    assert losses[0] != losses[1]


def test_several_seeds_together(classyq, short, tmp_path):
    """One process; what it leaves can be played and compared."""
    result = classyq("train", *short, "--seeds", "2", "--together", "--seed", "5", "--support", "auto")
    assert result.code == 0, result
    assert "cohort 2 of these, trained as one" in result.out
    assert "s5: done   60 steps" in result.out
    assert "s6: done   60 steps" in result.out
    assert "best of 2 seeds: mean" in result.out
    runs = sorted(path.parent for path in tmp_path.rglob("config.json"))
    assert [config_of(path)["seed"] for path in runs] == [5, 6]
    assert all(json.loads((path / "summary.json").read_text())["finished"] for path in runs)
    assert classyq("evaluate", runs[1], "--episodes", "1").code == 0
    assert "checked  2 runs differ in head.* and the seed" in classyq("compare", *runs).out
