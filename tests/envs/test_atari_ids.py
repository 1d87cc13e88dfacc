"""Do Atari ids lead to the right game, under the right protocol, with the right score?"""

from pathlib import Path

import ale_py
import pytest

from envs import GymnasiumVector, UnknownEnvironment, is_atari, make_env, make_vector
from envs.ale import rom_name
from envs.atari import AtariVector
from envs.atari_game import AtariGame
from envs.atari_protocol import PROTOCOLS, make_protocol
from envs.atari_scores import SCORES, human_normalized
from envs.check import check_env


@pytest.mark.parametrize("game", SCORES)
def test_every_game_has_a_rom(game):
    path = ale_py.roms.get_rom_path(rom_name(f"ALE/{game}-v5"))
    assert path is not None
    assert Path(path).is_file()


def test_there_are_57_games():
    assert len(SCORES) == 57
    assert all(random < human for random, human in SCORES.values())


@pytest.mark.parametrize(
    ("env_id", "rom"),
    [
        ("ALE/SpaceInvaders-v5", "space_invaders"),
        ("ALE/UpNDown-v5", "up_n_down"),
        ("ALE/Qbert-v5", "qbert"),
        ("ALE/YarsRevenge-v5", "yars_revenge"),
    ],
)
def test_names_of_roms(env_id, rom):
    assert rom_name(env_id) == rom


@pytest.mark.parametrize(
    ("env_id", "score", "wanted"),
    [
        ("ALE/Pong-v5", -20.7, 0.0),
        ("ALE/Pong-v5", 14.6, 1.0),
        ("ALE/Pong-v5", 21.0, 41.7 / 35.3),
        ("Breakout", 401.2, 399.5 / 28.8),
        ("SpaceInvaders", 1976.0, 1828.0 / 1520.7),
        ("ALE/Skiing-v5", -29975.0, -12876.9 / 12761.2),
        ("DoubleDunk", -18.1, 0.5 / 2.2),
    ],
)
def test_human_normalized(env_id, score, wanted):
    assert human_normalized(env_id, score) == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("env_id", ["ALE/AirRaid-v5", "CartPole-v1", "catch", "MinAtar/Breakout-v1"])
def test_other_environments_have_no_human_score(env_id):
    assert human_normalized(env_id, 1.0) is None


def test_protocols():
    machado, dqn2015 = PROTOCOLS["machado"], PROTOCOLS["dqn2015"]
    assert (machado.repeat_action_probability, machado.noop_max, machado.life_loss) == (0.25, 0, False)
    assert (dqn2015.repeat_action_probability, dqn2015.noop_max, dqn2015.life_loss) == (0.0, 30, True)
    for protocol in PROTOCOLS.values():
        assert not protocol.full_action_space
        assert protocol.max_frames == 108_000
        assert (protocol.frame_skip, protocol.frame_stack, protocol.size) == (4, 4, 84)
        assert protocol.name in protocol.describe()
    assert make_protocol("dqn2015", noop_max=7).noop_max == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"protocol": "machedo"}, "unknown protocol 'machedo', wanted one of machado, dqn2015; did you mean 'machado'"),
        ({"kwargs": {"stiky": 0.1}}, "unknown option 'stiky' of an Atari game"),
        ({"kwargs": {"repeat_action_probability": 1.0}}, "repeat_action_probability is 1.0, wanted 0 <= p < 1"),
        ({"kwargs": {"max_frames": 0}}, "max_frames is 0, wanted at least 1"),
        ({"kwargs": {"frame_skip": 0}}, "frame_skip is 0, wanted at least 1"),
        ({"kwargs": {"noop_max": -1}}, "noop_max is -1, wanted at least 0"),
    ],
)
@pytest.mark.parametrize("make", [make_env, make_vector])
def test_wrong_choices_are_refused(make, arguments, message):
    with pytest.raises(ValueError, match=message):
        make("ALE/Pong-v5", **arguments)


@pytest.mark.parametrize("make", [make_env, make_vector])
@pytest.mark.parametrize("typo", ["ALE/Pongg-v5", "ALE/pong-v5", "ALE/PONG-v5", "ALE/Pong"])
def test_unknown_games_are_refused(make, typo):
    with pytest.raises(UnknownEnvironment, match=rf"^unknown environment '{typo}'; did you mean 'ALE/Pong-v5'\?$"):
        make(typo)


@pytest.mark.parametrize("make", [make_env, make_vector])
def test_only_atari_games_have_protocols(make):
    assert not is_atari("catch")
    with pytest.raises(ValueError, match="'catch' is no Atari game"):
        make("catch", protocol="machado")


def test_single_games():
    env = make_env(
        "ALE/Breakout-v5", protocol="dqn2015", render_mode="rgb_array", kwargs={"size": 42, "num_threads": 2}
    )
    assert isinstance(env, AtariGame)
    assert env.protocol == make_protocol("dqn2015", size=42)
    env.reset(seed=0)
    assert env.render().shape == (210, 160, 3)


def test_vectors():
    vector = make_vector("ALE/Breakout-v5", num_envs=2, protocol="dqn2015", frame_stack=3, kwargs={"noop_max": 2})
    assert isinstance(vector, AtariVector)
    assert vector.protocol == make_protocol("dqn2015", frame_stack=3, noop_max=2)
    assert (vector.frame_stack, vector.frames_per_step, vector.num_actions) == (3, 4, 4)
    assert vector.observation_space.shape == (3, 84, 84)
    assert vector.render() is None


@pytest.mark.parametrize(
    "arguments", [{"kwargs": {"mode": 4}}, {"kwargs": {"difficulty": 1}}, {"render_mode": "rgb_array"}]
)
def test_what_the_native_vector_cannot_do_is_done_by_single_games(arguments):
    vector = make_vector("ALE/Breakout-v5", num_envs=2, **arguments)
    assert isinstance(vector, GymnasiumVector)
    assert (vector.frame_stack, vector.frames_per_step) == (4, 4)
    obs = vector.reset()
    assert obs.shape == (2, 4, 84, 84)
    assert not obs[:, :3].any()
    picture = vector.render(1)
    assert (picture is not None) == ("render_mode" in arguments)
    vector.close()


def test_a_mode_needs_single_games():
    with pytest.raises(ValueError, match="modes and difficulties need single games"):
        AtariVector("ALE/Breakout-v5", protocol=make_protocol("machado", mode=4))


def test_a_game_keeps_the_rules():
    findings = check_env("ALE/Breakout-v5", steps=200)
    assert [finding.text for finding in findings if finding.level != "ok"] == []
    assert any("seeds reproduce" in finding.text for finding in findings)
