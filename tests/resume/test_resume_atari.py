"""Atari runs with sticky actions that are interrupted three times at random, frames in memory or in a file.

    pytest -m slow tests/resume/test_resume_atari.py

makes every game with either. An interrupted run is equal, to the last bit, to one that never was, and where the frames
lie changes nothing.
"""

import random

import pytest

GAMES = {  # at random, a game of Pong takes 800 decisions and one of Breakout 130 to 230: some are cut, others end
    "ALE/Pong-v5": {"env.max_steps": 70},
    "ALE/Breakout-v5": {"env.max_steps": 170},
}


def config_for(tiny, game, steps, map_dir, **special):
    return tiny(
        game,
        {
            "steps": steps,
            "env.num_envs": 4,
            "env.protocol": "machado",
            "agent.reward_clip": 1.0,
            "exploration.epsilon_end": 0.5,
            "replay.capacity_steps": steps // 2,  # wraps
            "replay.map_dir": None if map_dir is None else str(map_dir),
            "evaluation.every_steps": steps,
            "evaluation.max_steps": 20,
            "evaluation.final_episodes": 1,
            **GAMES[game],
            **special,
        },
    )


def moments(game, steps):
    """Three, drawn at random once and for all."""
    return sorted(random.Random(game).sample(range(steps), 3))


def without_config(state):
    """What a run with another `replay.map_dir` must share."""
    policies = [state["policy"], *([state["best"]["policy"]] if state["best"] else [])]
    for policy in policies:
        del policy["config"]
    return state


@pytest.fixture
def assert_map_changes_nothing(state_of, unequal, table_of):
    def compare(left, right):
        states = [without_config(state_of(course.run)) for course in (left, right)]
        assert unequal(*states) == []
        assert table_of(left.run.run_dir) == table_of(right.run.run_dir)

    return compare


def check_what_is_claimed(course):
    """Sticky actions, shared frames, a ring that went around."""
    run = course.run
    assert run.venv.protocol.repeat_action_probability == 0.25
    assert run.agent.replay.layout() == 4
    assert run.agent.replay.rows > run.agent.replay.num_rows


def test_interrupted_with_frames_in_a_file(tiny, train_in_pieces, assert_map_changes_nothing, tmp_path):
    game, steps, special = "ALE/Breakout-v5", 200, {"env.max_steps": 30}
    straight = train_in_pieces(config_for(tiny, game, steps, None, **special), tmp_path / "straight")
    config = config_for(tiny, game, steps, tmp_path / "map", **special)
    pieces = train_in_pieces(config, tmp_path / "pieces", moments(game, steps))
    check_what_is_claimed(straight)
    assert_map_changes_nothing(straight, pieces)


@pytest.mark.slow
@pytest.mark.parametrize("game", GAMES)
def test_interrupted_three_times(
    game, tiny, train_in_pieces, assert_same_run, assert_same_course, assert_map_changes_nothing, tmp_path
):
    steps, courses = 3_200, []
    for name, map_dir in (("memory", None), ("file", tmp_path / "map")):
        config = config_for(tiny, game, steps, map_dir)
        straight = train_in_pieces(config, tmp_path / name / "straight")
        pieces = train_in_pieces(config, tmp_path / name / "pieces", moments(game, steps))
        check_what_is_claimed(straight)
        replay = straight.run.agent.replay
        assert (replay.episode_end & ~replay.terminal).any(), "some episodes are cut"
        assert (replay.episode_end & replay.terminal).any() == ("Breakout" in game), "some end by themselves"
        assert_same_run(straight, pieces)
        assert_same_course(tmp_path / name / "straight", tmp_path / name / "pieces")
        courses.append(straight)
    assert_map_changes_nothing(*courses)
