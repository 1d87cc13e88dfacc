"""What a user can mend: exit code 2 and a sentence with the nearest choice, no traceback, nothing written."""

import json
import re
from pathlib import Path

import pytest
import torch

NEEDY = f"{Path(__file__).with_name('needy_world.py')}:Needy"

REFUSED = {
    "option": (("train", "--stepz", "3"), ["No such option: --stepz", "--steps"]),
    "command": (("trian",), ["No such command 'trian'", "train"]),
    "option of a type": (("train", "--steps", "many"), ["Invalid value for '--steps'", "valid integer"]),
    "key": (
        ("train", "--agent.learning_rate", "1"),
        ["cartpole: unknown key agent.learning_rate", "Choose from: name"],
    ),
    "near key": (("train", "--agent.gama", "1"), ["unknown key agent.gama. Did you mean agent.gamma?"]),
    "table": (("train", "--agnet.lr", "1"), ["unknown key agnet. Did you mean agent?"]),
    "not a table": (("train", "--steps.x", "1"), ["steps.x: steps is not a table"]),
    "value": (("train", "--agent.lr", "-1"), ["cartpole: agent.lr: Input should be greater than 0, got -1"]),
    "type": (("train", "--agent.lr", "fast"), ["agent.lr: Input should be a valid number", "got 'fast'"]),
    "head": (
        ("train", "--head", "hl_gaus"),
        ["unknown head 'hl_gaus'. Did you mean 'hl_gauss'?", "Choose from: bce, c51"],
    ),
    "head's option": (("train", "--head.num_bin", "5"), ["unknown key head.num_bin. Did you mean head.num_bins?"]),
    "head of another": (("train", "--head", "mse", "--head.num_bins", "5"), ["unknown key head.num_bins"]),
    "torso": (("train", "--torso", "mpl"), ["unknown torso 'mpl'. Did you mean 'mlp'?"]),
    "output layer": (
        ("train", "--output_layer.name", "liner"),
        ["unknown output layer 'liner'. Did you mean 'linear'?"],
    ),
    "agent": (("train", "--agent", "dqm"), ["unknown agent 'dqm'. Did you mean 'dqn'? Choose from: cql, dqn"]),
    "agent's module": (("train", "--agent", "nowhere:A"), ["agent 'nowhere:A': module 'nowhere' cannot be imported"]),
    "agent in module": (
        ("train", "--agent", "agents.dqn:DQM"),
        ["unknown agent in agents.dqn 'DQM'. Did you mean 'DQN'?"],
    ),
    "target rule": (("train", "--target_rule.name", "double_q"), ["Did you mean", "double_q_learning"]),
    "preset": (("train", "cartpoll"), ["unknown preset 'cartpoll'. Did you mean cartpole?"]),
    "preset file": (("train", "missing.toml"), ["unknown preset 'missing.toml'", "or a .toml or .json file"]),
    "env": (("train", "--env", "CartPole-v9"), ["unknown environment 'CartPole-v9'", "did you mean 'CartPole-v1'?"]),
    "env with a range": (("train", "--env", "cathc", "--support", "-1,1"), ["did you mean 'catch'?"]),
    "env in a file": (("train", "--env", "./mine.py:Game"), ["there is no file", "mine.py"]),
    "env in a module": (("train", "--env", "nowhere:Game"), ["unknown environment 'nowhere:Game'", "No module named"]),
    "game": (("train", "--env", "ALE/Typo-v5"), ["unknown environment 'ALE/Typo-v5'", "did you mean 'ALE/"]),
    "game with a range": (("train", "--env", "ALE/pong-v5", "--support", "-1,1"), ["did you mean 'ALE/Pong-v5'?"]),
    "game without a range": (
        ("train", "catch", "--env", "ALE/Pogn-v5", "--env.support", "auto"),
        ["unknown environment 'ALE/Pogn-v5'; did you mean 'ALE/Pong-v5'?"],
    ),
    "env's space": (("train", "--env", "Pendulum-v1"), ["only Discrete action spaces are supported"]),
    "env's argument": (("train", "--env", "chain", "--env.kwargs.length", "1"), ["length is 1, wanted at least 2"]),
    "env needs a package": (("train", "--env", NEEDY), ["env: Box3D is not installed"]),
    "the same with a range": (("train", "--env", NEEDY, "--support", "-1,1"), ["error: Box3D is not installed"]),
    "bins": (("train", "catch", "--head.num_bins", "1"), ["num_bins must be at least 2", "got 1"]),
    "range": (("train", "catch", "--support", "1,-1"), ["1", "-1"]),
    "range in words": (("train", "catch", "--support", "wide"), ["env.support", "'auto'", "got 'wide'"]),
    "device": (("train", "catch", "--device", "gpu"), ["device: 'gpu' cannot be used here: Expected one of cpu, cuda"]),
    "replay's device": (("train", "catch", "--replay.device", "gpu"), ["replay.device: 'gpu' cannot be used here"]),
    "too large a replay": (("train", "catch", "--replay.capacity_steps", 10**12), ["needs", "GB", "what fits is"]),
    "frames in a file that is no directory": (
        ("train", "catch", "--replay.map_dir", "/dev/null"),
        ["replay.map_dir '/dev/null' cannot be used"],
    ),
    "frames in a file for a replay elsewhere": (
        ("train", "catch", "--replay.map_dir", "here", "--replay.device", "meta"),
        ["replay.map_dir is for a replay on the cpu, got replay.device meta"],
    ),
    "several in one place": (
        ("train", "--seeds", "2", "--run-dir", "here"),
        ["--run-dir is for one run, and --seeds 2"],
    ),
    "one seed together": (("train", "catch", "--together"), ["--together is for --seeds of at least 2"]),
    "together in turn": (
        ("train", "catch", "--together", "--seeds", "2", "--jobs", "2"),
        ["--together is for --seeds of at least 2, without --jobs and --init-from"],
    ),
    "together with what cannot be": (
        ("train", "catch", "--together", "--seeds", "2", "--replay", "prioritized"),
        ["cohort: only uniform replays can lie side by side, got PrioritizedReplay"],
    ),
    "init-from": (("train", "catch", "--init-from", "nothing"), ["there are no runs in runs/ yet"]),
    "resume": (("resume", "last"), ["there are no runs in runs/ yet: classyq train"]),
    "evaluate": (("evaluate", "last"), ["there are no runs in runs/ yet: classyq train"]),
    "seed": (("evaluate", "last", "--seed", "-1"), ["Invalid value for '--seed'"]),
    "epsilon": (("evaluate", "last", "--epsilon", "2"), ["Invalid value for '--epsilon'"]),
    "list": (("list", "hats"), ["'hats' is not one of", "heads"]),
    "gamma": (("check-env", "catch", "--gamma", "1"), ["Invalid value for --gamma: 1.0 is not in 0 <= gamma < 1"]),
    "few steps": (("check-env", "catch", "--steps", "5"), ["Invalid value for '--steps'"]),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused(what, classyq, tmp_path):
    arguments, phrases = REFUSED[what]
    result = classyq(*arguments)
    assert result.code == 2
    assert result.out == ""
    for phrase in phrases:
        assert phrase in result.err
    assert not list(tmp_path.iterdir()), "nothing was written"


def test_cuda_where_there_is_none(classyq, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is CUDA here")
    result = classyq("train", "catch", "--device", "cuda")
    assert result.code == 2
    assert "device: 'cuda' cannot be used here" in result.err
    assert not list(tmp_path.iterdir())


def test_a_run_that_is_not_there(classyq, finished):
    name = str(finished)[:-1]
    result = classyq("resume", name)
    assert result.code == 2
    assert f"no run {name!r}. Did you mean {finished}?" in result.err
    assert classyq("evaluate", "lst").err.startswith("error: no run 'lst'. Did you mean last?")


def test_a_run_without_a_checkpoint(classyq, finished):
    for file in finished.rglob("*.pt"):
        file.unlink()
    result = classyq("evaluate", finished)
    assert (result.code, result.err) == (2, f"error: {finished} has no checkpoint to load")


def test_another_configuration_in_the_same_directory(classyq, finished, short):
    result = classyq("train", *short, "--agent.lr", "0.5", "--seed", "9", "--run-dir", finished)
    assert result.code == 2
    assert f"{finished} is a run with another seed, agent.lr; to go on with it: classyq resume {finished}" in result.err


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--head", "mse", "belong to head name='hl_gauss'"),
        ("--head.sigma_ratio", "2", "sigma_ratio=2.0.*for which they mean something else"),
        ("--torso.hidden", "3", "do not fit the network of this run"),
    ],
)
def test_weights_that_do_not_fit(classyq, finished, short, tmp_path, option, value, message):
    result = classyq("train", *short, option, value, "--init-from", "last", "--run-dir", "new")
    assert result.code == 2
    assert f"the weights of {finished} " in result.err
    assert re.search(message, result.err.replace("\n", " "))
    assert not (tmp_path / "new").exists()


def test_a_damaged_checkpoint(classyq, finished, tmp_path):
    last = next(finished.glob("checkpoints/*.pt"))
    last.write_text("no checkpoint")
    (finished / "summary.json").unlink()
    config = json.loads((finished / "config.json").read_text()) | {"steps": 100}
    (finished / "config.json").write_text(json.dumps(config))
    result = classyq("resume", "last")
    assert result.code == 2
    assert result.err.startswith(f"error: {last} is missing, damaged or not a checkpoint of classyq")
    assert result.err.endswith("; there is none before it")


def test_damaged_configurations(classyq, finished):
    (finished / "config.json").write_text("{")
    result = classyq("resume", finished)
    assert (result.code, result.err.startswith(f"error: {finished}/config.json: Expecting property")) == (2, True)
    Path("mine.toml").write_text("steps = \n")
    assert "mine.toml: Invalid value" in classyq("train", "mine.toml").err
    Path("mine.toml").write_text("[env]\nid = 'catch'\nsuport = 'auto'\n")
    assert "mine.toml: unknown key env.suport. Did you mean env.support?" in classyq("train", "mine.toml").err


def test_a_bug_is_a_traceback(classyq, monkeypatch):
    """An error that the user cannot mend is not dressed up as one."""

    def broken(*arguments):
        raise ValueError("an oversight")

    monkeypatch.setattr("agents.listing.listing", broken)
    with pytest.raises(ValueError, match="an oversight"):
        classyq("list", "heads")
