"""Does a preset's [by_head.NAME] apply to that head alone, and give way to what is asked for?"""

import pytest

from agents.config import RunConfig
from agents.tables import ConfigError

PRESET = """
[env]
id = "catch"
[head]
name = "hl_gauss"
[agent]
lr = 1e-3
[by_head.mse]
"agent.lr" = 1e-4
"""


@pytest.fixture
def preset(tmp_path):
    path = tmp_path / "preset.toml"
    path.write_text(PRESET)
    return str(path)


def test_only_the_head_that_is_named(preset):
    assert RunConfig.preset(preset).agent.lr == 1e-3
    assert RunConfig.preset(preset, {"head": "two_hot"}).agent.lr == 1e-3
    assert RunConfig.preset(preset, {"head": "mse"}).agent.lr == 1e-4
    assert RunConfig.preset(preset, {"head.name": "mse"}).agent.lr == 1e-4


def test_what_is_asked_for_comes_last(preset):
    assert RunConfig.preset(preset, {"head": "mse", "agent.lr": 7e-4}).agent.lr == 7e-4


def test_options_of_the_head_itself(tmp_path):
    """They belong to the new head, and would be lost if they were put in before the old one had left."""
    path = tmp_path / "preset.toml"
    path.write_text(PRESET + '[by_head.two_hot]\n"head.num_bins" = 7\n"head.transform" = "symlog"\n')
    head = RunConfig.preset(str(path), {"head": "two_hot"}).head
    assert (head.num_bins, head.transform) == (7, "symlog")
    assert RunConfig.preset(str(path), {"head": "two_hot", "head.num_bins": 9}).head.num_bins == 9
    assert RunConfig.preset(str(path)).head.num_bins == 51


def test_it_is_checked(tmp_path):
    path = tmp_path / "preset.toml"
    path.write_text("by_head = 3\n" + PRESET.partition("[by_head")[0])
    with pytest.raises(ConfigError, match="by_head: wanted a table"):
        RunConfig.preset(str(path))
    path.write_text(PRESET.replace("agent.lr", "agent.lrr"))
    with pytest.raises(ConfigError, match=r"unknown key agent.lrr. Did you mean agent.lr\?"):
        RunConfig.preset(str(path), {"head": "mse"})


def test_the_learning_rates_of_the_paper():
    """Farebrother et al. 2024, tables B.1 and B.2."""
    rates = {head: RunConfig.preset("atari", {"head": head}).agent for head in ("mse", "hl_gauss", "two_hot", "c51")}
    assert (rates["mse"].lr, rates["mse"].adam_eps) == (6.25e-5, 1.5e-4)
    assert all((rates[h].lr, rates[h].adam_eps) == (2.5e-4, 3.125e-4) for h in ("hl_gauss", "two_hot", "c51"))


def test_a_protocol_is_for_atari_alone():
    assert RunConfig.preset("cartpole").env.protocol is None
    assert RunConfig.parse({"env": {"id": "ALE/Pong-v5"}}).env.protocol == "machado"
    with pytest.raises(ConfigError, match="protocol is for Atari games"):
        RunConfig.preset("cartpole", {"env.protocol": "machado"})
    with pytest.raises(ConfigError, match=r"unknown protocol.*machado, dqn2015"):
        RunConfig.preset("pong", {"env.protocol": "nature"})


def test_another_game_keeps_the_options_of_the_first_and_another_world_does_not():
    breakout = RunConfig.preset("pong", {"env.id": "ALE/Breakout-v5"}).env
    assert (breakout.support, breakout.num_envs) == ((-10.0, 10.0), 4)
    assert RunConfig.preset("pong", {"env.id": "catch"}).env.support == "auto"
