"""Does `classyq bench` say what it measured, and refuse what it cannot measure?"""

import json

import pytest

from agents import cli_bench

QUICK = ("--seconds", "0.01", "--torso.hidden", "[8]", "--agent.learn_after_steps", "40")


def test_bench_prints_a_table_and_writes_the_same_as_json(classyq, tmp_path):
    result = classyq("bench", "catch", *QUICK, "--heads", "mse,huber", "--json", tmp_path / "speed.json")
    assert result.code == 0
    data = json.loads((tmp_path / "speed.json").read_text())
    assert data["preset"] == "catch"
    assert data["config"]["torso"]["hidden"] == [8]
    for rate in (*data["parts"], *data["beside"]):
        assert rate["name"] in result.out
    assert [rate["name"] for rate in data["beside"]] == ["update, head mse", "update, head huber"]
    assert f"end to end reaches {data['share_of_bound']:.0%} of it" in result.out
    assert list(tmp_path.iterdir()) == [tmp_path / "speed.json"], "no run is left behind"


def test_options_change_the_preset(classyq, tmp_path):
    options = ("--head", "two_hot", "--threads", "1", "--device", "cpu", "--env", "chain", "--env.support", "-1,1")
    result = classyq("bench", "catch", *QUICK, *options, "--heads", "", "--json", "s.json")
    assert result.code == 0
    data = json.loads((tmp_path / "s.json").read_text())
    assert (data["config"]["head"]["name"], data["config"]["env"]["id"]) == ("two_hot", "chain")
    assert data["beside"] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("cartpoll",), ["unknown preset 'cartpoll'. Did you mean cartpole?"]),
        (("catch", "--heads", "mse,iqm"), ["unknown head 'iqm'. Did you mean 'iqn'?"]),
        (("catch", "--agent.gama", "1"), ["unknown key agent.gama. Did you mean agent.gamma?"]),
        (("cql_catch",), ["agent 'cql' cannot be measured in parts: wanted dqn, r2d2 or pqn"]),
        (("catch", "--seconds", "0"), ["Invalid value for '--seconds'"]),
        (("catch", "--json", "nowhere/speed.json"), ["'--json'", "nowhere"]),
    ],
)
def test_what_a_user_can_mend(classyq, arguments, said):
    result = classyq("bench", *arguments)
    assert result.code == 2
    assert all(words in result.err for words in said), result.err


def test_the_heads_measured_by_default_exist():
    from value_heads import HEADS

    assert set(cli_bench.HEADS.split(",")) <= HEADS.keys()
