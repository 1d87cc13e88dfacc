"""Is a single Atari game the same, to the byte, as the games of a vector?"""

import re
import sys

import ale_py
import gymnasium
import numpy as np
import pytest

from envs import episode_seed, make_vector
from envs.atari import AtariVector
from envs.atari_game import AtariGame, game_vector
from envs.atari_protocol import make_protocol

SEED = 3


def both(env_id, **changes):
    protocol = make_protocol("machado", **changes)
    return AtariVector(env_id, seed=SEED, protocol=protocol), AtariGame(env_id, protocol=protocol)


def play_both(vector, game, first_action=0):
    """One episode of each, with the same actions, compared at every step; rewards, last flags, lives lost."""
    rng, rewards, num_lost = np.random.default_rng(5), [], 0
    while True:
        action = int(rng.integers(first_action, game.action_space.n))
        wanted = vector.step(np.array([action]))
        obs, reward, terminated, truncated, info = game.step(action)
        np.testing.assert_array_equal(obs, wanted.next_obs[0])
        got = reward, terminated, truncated, info["life_lost"]
        assert got == (wanted.reward[0], wanted.terminated[0], wanted.truncated[0], wanted.life_lost[0])
        rewards.append(reward)
        num_lost += info["life_lost"]
        if terminated or truncated:
            return rewards, (terminated, truncated), num_lost


@pytest.mark.parametrize("sticky", [0.0, 0.25])
@pytest.mark.parametrize(("name", "num_lost"), [("Pong", 0), ("Breakout", 4), ("SpaceInvaders", 2)])
def test_whole_games_are_the_same(name, num_lost, sticky):
    vector, game = both(f"ALE/{name}-v5", repeat_action_probability=sticky, life_loss=True)
    obs, _ = game.reset(seed=episode_seed(SEED, 0, 0))
    np.testing.assert_array_equal(obs, vector.reset()[0])
    rewards, ending, lost = play_both(vector, game)
    assert ending == (True, False)
    assert lost == num_lost
    assert len(rewards) > 100
    if name == "Pong":
        assert rewards.count(-1.0) == 21
    if name == "SpaceInvaders":
        assert max(rewards) >= 10.0
    # and the next game, after what the one before left behind
    obs, _ = game.reset(seed=episode_seed(SEED, 0, 1))
    np.testing.assert_array_equal(obs, vector.reset_done(np.array([True]))[0])
    for action in (0, 1, 2, 2):
        wanted = vector.step(np.array([action]))
        np.testing.assert_array_equal(game.step(action)[0], wanted.next_obs[0])


# from frame 132 on there is something that moves; a game may end within any of the four frames of a step
@pytest.mark.parametrize(
    "changes", [*({"max_frames": last} for last in range(201, 205)), {"max_frames": 9, "frame_skip": 1}]
)
def test_a_game_that_is_cut_is_the_same(changes):
    vector, game = both("ALE/SpaceInvaders-v5", **changes)
    game.reset(seed=episode_seed(SEED, 0, 0))
    vector.reset()
    rewards, ending, _ = play_both(vector, game)
    assert ending == (False, True)
    assert len(rewards) == -(-changes["max_frames"] // changes.get("frame_skip", 4))


@pytest.mark.parametrize(
    "changes",
    [
        {"full_action_space": True},
        {"frame_skip": 2, "frame_stack": 3, "size": 42},
        {"frame_skip": 1, "frame_stack": 1},
        {"frame_skip": 5},
    ],
)
def test_other_protocols_are_the_same(changes):
    vector, game = both("ALE/Breakout-v5", max_frames=160, **changes)
    obs, _ = game.reset(seed=episode_seed(SEED, 0, 0))
    np.testing.assert_array_equal(obs, vector.reset()[0])
    play_both(vector, game, first_action=1)


@pytest.mark.skipif(sys.platform != "linux", reason="ALE draws no-ops with the standard library of C++")
def test_no_ops_are_the_same():
    protocol = make_protocol("dqn2015")
    wanted = AtariVector("ALE/SpaceInvaders-v5", num_envs=4, seed=SEED, protocol=protocol).reset()
    game = AtariGame("ALE/SpaceInvaders-v5", protocol=protocol)
    for index in range(4):
        obs, _ = game.reset(seed=episode_seed(SEED, index, 0))
        np.testing.assert_array_equal(obs, wanted[index])


def test_no_ops_are_fewer_than_their_maximum():
    game = AtariGame("ALE/Pong-v5", protocol=make_protocol("machado", noop_max=3))
    assert {game.reset(seed=seed)[1]["episode_frame_number"] for seed in range(6)} == {0, 1, 2}
    assert {game.reset()[1]["episode_frame_number"] for _ in range(6)} == {0, 1, 2}


def test_frames_of_no_ops_do_not_count():
    game = AtariGame("ALE/Pong-v5", protocol=make_protocol("machado", noop_max=30, max_frames=8))
    assert game.reset(seed=6)[1]["episode_frame_number"] > 8
    assert not game.step(0)[3]
    assert game.step(0)[3]


def trace(game, num_steps=25):
    return [game.step(step % 4)[0].tobytes() for step in range(num_steps)]


def test_a_reset_without_a_seed_goes_on():
    one, two = AtariGame("ALE/Breakout-v5"), AtariGame("ALE/Breakout-v5")
    first, second = [], []
    for game, traces in ((one, first), (two, second)):
        game.reset(seed=7)
        traces.append(trace(game))
        game.reset()
        traces.append(trace(game))
    assert first == second
    assert first[0] != first[1]


def test_games_without_any_seed_differ():
    traces = []
    for _ in range(2):
        game = AtariGame("ALE/Breakout-v5")
        game.reset()
        traces.append(trace(game))
    assert traces[0] != traces[1]


def test_seeds_of_any_size_are_taken():
    game = AtariGame("ALE/Breakout-v5")
    first = []
    for seed in (2**31 - 2, 2**40):
        game.reset(seed=seed)
        first.append(trace(game))
        game.reset(seed=seed)
        assert trace(game) == first[-1]
    assert first[0] != first[1]


def test_observations():
    game = AtariGame("ALE/Pong-v5")
    assert game.observation_space == gymnasium.spaces.Box(0, 255, (4, 84, 84), np.uint8)
    obs, info = game.reset(seed=1)
    assert game.observation_space.contains(obs)
    assert not obs[:3].any()
    assert obs[3].any()
    assert info == {"lives": 0, "life_lost": False, "frame_number": 0, "episode_frame_number": 0}
    kept = obs.copy()
    next_obs, *_, info = game.step(2)
    np.testing.assert_array_equal(obs, kept)
    np.testing.assert_array_equal(next_obs[:3], obs[1:])
    assert info["episode_frame_number"] == 4
    kept = next_obs.copy()
    game.step(2)
    np.testing.assert_array_equal(next_obs, kept)


def test_lives_are_told_but_not_lost_without_the_protocol():
    game = AtariGame("ALE/Breakout-v5")
    _, info = game.reset(seed=1)
    lives, lost = [info["lives"]], False
    while not lost and lives[-1] == 5:
        *_, info = game.step(1)
        lives.append(info["lives"])
        lost = info["life_lost"]
    assert lives[-1] == 4
    assert not lost


def test_pictures():
    before = dict(AtariGame.metadata)
    game = AtariGame("ALE/Breakout-v5", render_mode="rgb_array")
    game.reset(seed=1)
    picture = game.render()
    assert picture is not None
    assert (picture.shape, picture.dtype) == ((210, 160, 3), np.uint8)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 5
    game.step(1)
    assert not np.array_equal(game.render(), picture)
    assert game.metadata["render_fps"] == 15
    assert AtariGame.metadata == before
    assert AtariGame("ALE/Breakout-v5").render() is None


def test_modes_stay_with_their_game():
    def fresh(mode):
        game = AtariGame("ALE/SpaceInvaders-v5", protocol=make_protocol("machado", mode=mode))
        game.reset(seed=4)
        return game

    alone = {mode: trace(fresh(mode)) for mode in (0, 9, None)}
    assert alone[0] != alone[9]
    assert alone[0] == alone[None]
    one, two = fresh(0), fresh(9)
    together = [(one.step(step % 4)[0].tobytes(), two.step(step % 4)[0].tobytes()) for step in range(25)]
    assert together == list(zip(alone[0], alone[9], strict=True))


def test_a_mode_is_that_of_ale():
    ale = ale_py.ALEInterface()
    ale.setFloat("repeat_action_probability", 0.0)
    ale.loadROM(str(ale_py.roms.get_rom_path("pong")))
    ale.setMode(1)
    ale.setDifficulty(1)
    ale.reset_game()
    changes = {"repeat_action_probability": 0.0, "mode": 1, "difficulty": 1}
    game = AtariGame("ALE/Pong-v5", protocol=make_protocol("machado", **changes), render_mode="rgb_array")
    for seed in (1, 2):  # the second loads the game again
        game.reset(seed=seed)
    for _ in range(60):
        game.step(3)
        for _ in range(4):
            ale.act(ale.getMinimalActionSet()[3])
    np.testing.assert_array_equal(game.render(), ale.getScreenRGB())
    plain = AtariGame("ALE/Pong-v5", protocol=make_protocol("machado", repeat_action_probability=0.0))
    plain.reset(seed=1)
    for _ in range(59):
        plain.step(3)
    assert not np.array_equal(plain.step(3)[0], game.step(3)[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mode": 5}, "mode is 5, this game has 0, 1"),
        ({"difficulty": 7}, "difficulty is 7, this game has 0, 1, 2, 3"),
        ({"size": 161}, "cannot shrink 210 x 160 to 161 x 161"),
    ],
)
def test_protocols_that_a_game_cannot_have_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        AtariGame("ALE/Pong-v5", protocol=make_protocol("machado", **changes))


def test_other_render_modes_are_refused():
    with pytest.raises(ValueError, match="render_mode is 'human', wanted 'rgb_array' or None"):
        AtariGame("ALE/Pong-v5", render_mode="human")


@pytest.mark.parametrize(
    ("action", "error", "message"),
    [
        (1.0, TypeError, "the action is 1.0, wanted one integer"),
        (True, TypeError, "the action is True, wanted one integer"),
        ([1], TypeError, r"the action is [1], wanted one integer"),
        (None, TypeError, "the action is None, wanted one integer"),
        (-1, ValueError, "action -1 is out of range, wanted 0 .. 5"),
        (6, ValueError, "action 6 is out of range, wanted 0 .. 5"),
    ],
)
def test_actions_are_checked(action, error, message):
    game = AtariGame("ALE/Pong-v5")
    game.reset(seed=1)
    with pytest.raises(error, match=re.escape(message)):
        game.step(action)
    game.step(np.int64(5))


def test_a_step_needs_a_game():
    game = AtariGame("ALE/Pong-v5", protocol=make_protocol("machado", max_frames=4))
    for _ in range(2):
        with pytest.raises(RuntimeError, match="no game is going on: call reset before step"):
            game.step(0)
        game.reset(seed=1)
        assert game.step(0)[3]


def test_a_closed_game_is_over():
    game = AtariGame("ALE/Pong-v5", render_mode="rgb_array")
    game.reset(seed=1)
    game.close()
    game.close()
    for method, arguments in ((game.reset, ()), (game.step, (0,)), (game.render, ())):
        with pytest.raises(RuntimeError, match="this environment is closed"):
            method(*arguments)


def test_action_meanings():
    assert AtariGame("ALE/Breakout-v5").get_action_meanings() == ["NOOP", "FIRE", "RIGHT", "LEFT"]
    full = AtariGame("ALE/Breakout-v5", protocol=make_protocol("machado", full_action_space=True))
    assert len(full.get_action_meanings()) == full.action_space.n == 18
    pong = make_vector("ALE/Pong-v5", render_mode="rgb_array")
    assert pong.action_names == ["NOOP", "FIRE", "RIGHT", "LEFT", "RIGHTFIRE", "LEFTFIRE"]
    pong.close()


def test_games_in_a_vector_are_the_native_vector():
    protocol = make_protocol("machado", life_loss=True)
    options = {"num_envs": 2, "seed": SEED, "max_steps": 35, "protocol": protocol}
    native, single = AtariVector("ALE/Breakout-v5", **options), game_vector("ALE/Breakout-v5", **options)
    for name in ("num_envs", "num_actions", "observation_space", "frame_stack", "frames_per_step"):
        assert getattr(single, name) == getattr(native, name)
    np.testing.assert_array_equal(single.reset(), native.reset())
    for index in range(50):
        action = np.array([index % 3, 1])
        one, two = single.step(action), native.step(action)
        for got, wanted in zip(one, two, strict=True):
            np.testing.assert_array_equal(got, wanted)
            assert got.dtype == wanted.dtype
        np.testing.assert_array_equal(single.reset_done(one.done), native.reset_done(two.done))
