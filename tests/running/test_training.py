"""One run: repeatable, different with another seed, refused where it cannot be, and what it says."""

import csv
import io
import json
import time
from pathlib import Path

import gymnasium
import pytest
import torch
from rich.console import Console

from agents.components import KINDS
from agents.config import ConfigError
from agents.running import checkpoint
from agents.running.evaluation import load
from agents.running.progress import LivePanel, PlainLines, Silent, reporter_for, summary_of
from agents.running.run import Run
from agents.running.runs import delete, find_runs, info, new_run_dir, resolve_run
from agents.running.setup import build, differences, resolve
from agents.running.stopwatch import Stopwatch
from agents.running.support import resolve_support
from agents.running.trainer import crossed, train
from value_heads.registry import UnknownNameError


def table_of(run_dir: Path) -> list[dict[str, str]]:
    with (run_dir / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if not k.startswith(("time/", "sys/", "charts/SPS"))} for row in rows]


def test_the_seed_decides(small, run_dir, tmp_path):
    """The same seed: the same metrics to the last digit and the same weights. Another: other ones."""
    for seed, name in ((3, "same"), (4, "other")):
        train(small(overrides={"seed": seed}), tmp_path / name)
    assert table_of(tmp_path / "same") == table_of(run_dir)
    assert table_of(tmp_path / "other") != table_of(run_dir)
    weights = [torch.cat([p.flatten() for p in load(d).network.parameters()]) for d in (run_dir, tmp_path / "same")]
    assert torch.equal(*weights)


@pytest.mark.parametrize("num_envs", [1, 2, 5])
def test_any_number_of_environments(num_envs, small, tmp_path):
    """As many steps in all, and the updates that all but the last ones earned, whatever the number."""
    summary = train(small(overrides={"env.num_envs": num_envs}), tmp_path)
    assert summary.step == 300
    assert float(table_of(tmp_path)[-1]["replay/updates"]) == (300 - num_envs - 50) // 2


def test_crossed():
    assert [step for step in range(3, 31, 3) if crossed(step - 3, step, 10)] == [12, 21, 30]
    assert not crossed(10, 12, 10)


def test_the_same_directory_with_another_configuration(small, tmp_path):
    config = small(overrides={"steps": 30, "env.support": "auto"})
    train(config, tmp_path)
    with pytest.raises(ConfigError, match=r"is a run with another steps, agent.lr; to go on with it: classyq resume"):
        train(config.with_overrides({"steps": 40, "agent.lr": 0.5}), tmp_path)
    assert train(config, tmp_path).step == 30, "`auto` is not another range than the one that was found"


def test_differences_name_keys_on_both_sides(small):
    one, other = small(), small(overrides={"head.name": "mse", "seed": 2})
    keys = differences(one, other)
    assert {"seed", "head.name", "head.num_bins"} <= set(keys)
    assert set(keys) == set(differences(other, one))
    assert differences(one, small()) == []


def test_what_a_part_refuses_is_an_error_of_the_configuration(small, tmp_path, monkeypatch):
    """Each of the kinds of error that parts raise."""

    def refuse(error):
        def init(*arguments):
            raise error

        return init

    for error in (ValueError("a"), TypeError("b"), gymnasium.error.DependencyNotInstalled("c")):
        monkeypatch.setattr(Run, "__init__", refuse(error))
        with pytest.raises(ConfigError, match=str(error)):
            build(small(), tmp_path, Silent(1))
    monkeypatch.undo()
    for key in ("device", "replay.device"):
        with pytest.raises(ConfigError, match=rf"^{key}: 'abacus' cannot be used here: Expected one of cpu"):
            build(small(overrides={key: "abacus"}), tmp_path, Silent(1))
    assert build(small(overrides={"replay.device": "same"}), tmp_path, Silent(1)).agent.replay.device.type == "cpu"


def test_weights_of_another_network(small, run_dir, tmp_path):
    with pytest.raises(ConfigError, match=r"the weights of .* do not fit the network of this run"):
        train(small(overrides={"torso.hidden": [8]}), tmp_path / "new", init_from=run_dir)
    assert not (tmp_path / "new").exists()


def test_a_warm_start(small, run_dir, tmp_path):
    """At step 0 both networks are the best policy of the source."""
    train(small(overrides={"checkpoint.keep": 9}), tmp_path, init_from=run_dir)
    learner = torch.load(checkpoint.found(tmp_path)[0], weights_only=True)["agent"]["learner"]
    source = load(run_dir).network.state_dict()
    assert learner["num_updates"] == 0
    for network in ("online", "target"):
        assert all(torch.equal(learner[network][k], source[k]) for k in source)


def test_agents_by_name():
    assert KINDS["agent"].find("dqn").__name__ == "DQN"
    assert KINDS["agent"].find("agents.dqn:DQN") is KINDS["agent"].find("dqn")
    with pytest.raises(UnknownNameError, match=r"unknown agent 'dqm'. Did you mean 'dqn'\? Choose from: cql, dqn"):
        KINDS["agent"].find("dqm")


def test_where_the_support_is_from(small, tmp_path):
    def found(env="catch", **overrides):
        overrides = {k.replace("__", "."): v for k, v in overrides.items()}
        config, source = resolve_support(small(env, {"env.support": "auto"} | overrides))
        return config.env.support, source

    assert found(env__support=[-3, 4]) == ((-3, 4), "given")
    assert found() == ((pytest.approx(-1.2), pytest.approx(1.2)), "auto: the environment")
    assert found(agent__reward_clip=2.0, agent__gamma=0.9)[0] == pytest.approx((-20, 20))
    assert found(agent__reward_clip=2.0, agent__normalize_reward=True) == ((-10, 10), "auto: rewards are normalised")
    support, source = found("CartPole-v1")
    assert source == "auto: from 2,000 steps of random play"
    assert support[0] <= 0
    assert support[1] >= 1 / (1 - 0.99), "an episode may go on for ever"
    assert support == found("CartPole-v1")[0]
    assert found("CartPole-v1", env__max_steps=3)[0] != support, "the limit of episodes holds in random play"
    with pytest.raises(ConfigError, match=r"^env: unknown environment 'nowhere-v0'"):
        found("nowhere-v0")


def test_resolve_leaves_nothing_open(small, tmp_path):
    config, _ = resolve(small(overrides={"env.support": "auto", "device": "auto"}), tmp_path)
    assert config.device == ("cuda" if torch.cuda.is_available() else "cpu")
    assert config.env.support != "auto"


class Heard(Silent):
    def __init__(self):
        super().__init__(1)
        self.lines = []

    def say(self, line):
        self.lines.append(line)


def test_targets_beyond_the_support_are_warned_of_once(small, tmp_path):
    heard = Heard()
    train(small(overrides={"env.support": [-0.1, 0.1], "log.every_steps": 10}), tmp_path, reporter=heard)
    warnings = [line for line in heard.lines if line.startswith("warning")]
    assert len(warnings) == 1
    assert "lie outside of the support [-0.1, 0.1] and are clipped; widen it with --support" in warnings[0]
    heard = Heard()
    train(small(overrides={"env.support": [-1.2, 1.2]}), tmp_path / "wide", reporter=heard)
    assert not [line for line in heard.lines if line.startswith("warning")]


def test_the_last_evaluation_and_the_score_are_on_different_episodes(small, tmp_path):
    heard = Heard()
    summary = train(small(), tmp_path, reporter=heard)
    assert heard.lines[0].startswith(f"run    {tmp_path}")
    assert sum(line.startswith("eval ") for line in heard.lines) == 3
    assert heard.lines[-1] == (
        f"done   300 steps. Best policy, 3 new episodes, greedy: {summary.best_return:.1f} ± "
        + heard.lines[-1].rsplit(" ", 1)[1]
    )
    stored = json.loads((tmp_path / "summary.json").read_text())
    assert stored == json.loads(json.dumps(summary._asdict() | {"run_dir": str(tmp_path)}))


def test_lines_where_there_is_no_terminal(capsys):
    """About ten of them, with the few numbers that a person follows."""
    lines = PlainLines(1_000)
    with lines:
        for step in range(20, 1_001, 20):
            lines.progress(step, {"charts/SPS": 123.4, "charts/episodic_return": 1.0, "other": 5.0})
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 10
    assert out[-1] == "      1,000 / 1,000 steps  SPS 123  return 1.0"
    assert isinstance(reporter_for(10), PlainLines)
    with Silent(10) as silent:
        silent.progress(10, {})
    assert capsys.readouterr().out == ""
    assert summary_of({"losses/td_loss": 0.123456, "value/frac_target_clipped": 0.021}) == "loss 0.123  clipped 2.1%"


def test_a_panel_in_a_terminal(monkeypatch):
    file = io.StringIO()
    panel = LivePanel(1_000, Console(file=file, force_terminal=True, width=120))
    with panel:
        panel.progress(250, {"charts/SPS": 99.0})
        panel.say("said [in brackets]")
    text = file.getvalue()
    assert "250/1,000 steps" in text
    assert "25%" in text
    assert "SPS 99" in text
    assert "said [in brackets]" in text
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert isinstance(reporter_for(10), LivePanel)


def test_stopwatch():
    watch = Stopwatch()
    assert watch.shares() == {}
    for part, seconds in (("a", 0.01), ("b", 0.002), ("a", 0.01)):
        with watch(part):
            time.sleep(seconds)
    assert sum(watch.shares().values()) == pytest.approx(1)
    assert watch.shares()["a"] > watch.shares()["b"]
    with pytest.raises(KeyError), watch("failed"):
        raise KeyError
    assert "failed" in watch.seconds


def test_runs_in_a_directory(small, tmp_path):
    config = small("./my games/pong.py:Pong", {"seed": 5})
    path = new_run_dir(config, tmp_path)
    assert path.parent == tmp_path / "my-games-pong.py-Pong" / "dqn+hl_gauss"
    assert path.name.startswith("s5-")
    path.mkdir(parents=True)
    assert new_run_dir(config, tmp_path) != path
    with pytest.raises(ConfigError, match=r"there are no runs in .* yet: classyq train"):
        resolve_run("last", tmp_path)
    train(small(overrides={"steps": 20}), tmp_path / "a")
    train(small(overrides={"steps": 20, "seed": 2}), tmp_path / "b" / "c")
    assert find_runs(tmp_path) == [tmp_path / "a", tmp_path / "b" / "c"]
    for name in ("last", "b/c", str(tmp_path / "b" / "c")):
        assert resolve_run(name, tmp_path) == tmp_path / "b" / "c"
    with pytest.raises(ConfigError, match=r"no run '.*/b/d'. Did you mean .*/b/c\?"):
        resolve_run(f"{tmp_path}/b/d", tmp_path)
    listed = info(tmp_path / "a")
    assert (listed.step, listed.steps) == (20, 20)
    assert listed.best_return == json.loads((tmp_path / "a/summary.json").read_text())["best_return"]
    assert listed.num_bytes == sum(p.stat().st_size for p in (tmp_path / "a").rglob("*") if p.is_file())
    (tmp_path / "a/summary.json").unlink()
    for file in checkpoint.found(tmp_path / "a"):
        file.unlink()
    assert info(tmp_path / "a")[1:4] == (0, 20, None), "killed before its first checkpoint"
    delete(tmp_path / "b" / "c")
    assert find_runs(tmp_path) == [tmp_path / "a"]
