"""Are the scores of random play those of whole games under the protocol named, and does the page say what they are?"""

import math

import pytest

from agents.experiments import random_scores
from agents.experiments.random_scores import CHANGES, Score, measure, play, report


def test_statistics_of_a_score():
    score = Score([1.0, 2.0, 3.0, 6.0], [10] * 4, 0)
    assert score.mean == 3.0
    assert score.std == pytest.approx(math.sqrt(14 / 3))
    assert score.error == pytest.approx(math.sqrt(14 / 3) / 2)
    assert score.gap(2.0) == pytest.approx(1 / score.error)
    alike = Score([0.0, 0.0], [10] * 2, 0)
    assert [alike.gap(published) for published in (0.0, 1.0, -1.0)] == [0.0, -math.inf, math.inf]


def test_games_are_whole_but_for_the_limit_of_frames():
    whole = play("Breakout", {}, 2, seed=0)
    assert whole == play("Breakout", {}, 2, seed=0)
    assert whole.num_cut == 0
    assert min(whole.lengths) > 100, "five balls are lost"
    assert all(value == int(value) >= 0 for value in whole.returns)
    cut = play("Breakout", {"max_frames": 83, "frame_skip": 6}, 2, seed=0)
    assert (cut.lengths, cut.num_cut) == ([14, 14], 2)


def test_the_changes_are_what_they_are_called():
    assert CHANGES["nothing"] == {}
    assert CHANGES["all"] == {
        "repeat_action_probability": 0.0,
        "frame_skip": 6,
        "noop_max": 31,  # ALE draws fewer than this
        "max_frames": 18_000,
        "full_action_space": True,
    }
    assert CHANGES["all but 18 actions"] == CHANGES["all"] | {"full_action_space": False}


@pytest.fixture
def played(monkeypatch):
    """Games that were played: Pong as published, Breakout far from it but with 18 actions."""
    calls = []

    def pretended(game, changes, num_episodes, seed):
        calls.append((game, changes, num_episodes))
        middle = {"Pong": -20.65, "Breakout": 1.7 if changes.get("full_action_space") else 0.5}[game]
        return Score([middle - 0.1, middle + 0.1] * (num_episodes // 2), [7, 9] * (num_episodes // 2), 1)

    monkeypatch.setattr(random_scores, "play", pretended)
    return calls


def test_only_what_is_far_is_played_again_and_more_often(played):
    scores, changed = measure(["Pong", "Breakout"], 30, 0, lambda line: None)
    assert list(scores) == ["Pong", "Breakout"]
    assert list(changed) == ["Breakout"]
    again = [("Breakout", change, 60) for change in CHANGES.values()]
    assert played == [("Pong", {}, 30), ("Breakout", {}, 30), *again]


def test_without_a_change_that_matters_no_cause_is_shown(played, monkeypatch):
    monkeypatch.setitem(random_scores.SCORES, "Pong", (0.0, 14.6))
    page = report(*measure(["Pong"], 30, 0, print), "the command")
    assert "away from the score with nothing changed: none, so that no cause is shown." in page


def test_the_page(played):
    page = report(*measure(["Pong", "Breakout"], 30, 0, lambda line: None), "the command")
    assert "Made by `the command`; the same seed gives the same numbers. 30 whole\n" in page
    assert "The longest game took 9 steps, 36 frames;" in page
    assert "machado: sticky 0.25, minimal actions" in page
    assert "| Pong | -20.65 | 0.02 | 0.10 | 8 | 9 | 1 | -20.7 | +2.7 |" in page
    assert "| Breakout | 0.50 | 0.02 | 0.10 | 8 | 9 | 1 | 1.7 | -64.6 |" in page
    assert "| nothing | 0.50 ± 0.01 (-92.2) |" in page
    assert "* Breakout (published 1.7): within 3 standard errors with: 18 actions, all. " in page
    assert "difference away from the score with nothing changed: 18 actions, all." in page


def test_a_page_without_gaps_and_one_without_an_explanation(played, monkeypatch):
    assert "No game is further than 3 standard errors" in report(*measure(["Pong"], 30, 0, print), "the command")
    monkeypatch.setitem(random_scores.SCORES, "Breakout", (9.0, 30.5))
    page = report(*measure(["Breakout"], 30, 0, print), "the command")
    assert "* Breakout (published 9.0): **with no change within reach**. " in page


def test_means_differ_by_the_error_of_their_difference():
    """Errors of 1 each, which is sqrt(2) in all: the limit is 4.243."""
    at = {middle: Score([middle - 1.0, middle + 1.0], [1, 1], 0) for middle in (0.0, 4.2, 4.3)}
    assert at[0.0].error == pytest.approx(1.0)
    assert not random_scores.differ(at[0.0], at[4.2])
    assert random_scores.differ(at[4.3], at[0.0])


def test_the_command_writes_the_page(played, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(random_scores, "GAMES", ("Pong",))
    random_scores.main(episodes=4, seed=2, out=tmp_path / "new")
    page = (tmp_path / "new" / "random.md").read_text(encoding="utf-8")
    assert "`python -m agents.experiments.random_scores --episodes 4 --seed 2`" in page
    assert "Pong, changed: nothing: -20.65 ± 0.06 (" in capsys.readouterr().out
