"""Does the page of MinAtar's speed say what was measured? The package is not needed."""

import math

from benchmarks.minatar import BEHIND, PACKAGE, page, steps_per_cpu_second, table, vector
from envs import make_vector

RATES = {
    "asterix": {PACKAGE: [100.0, 300.0, 200.0], BEHIND: [50.0] * 3, "N = 64": [400.0, 600.0, 600.0]},
    "freeway": {PACKAGE: [10.0] * 3, BEHIND: [5.0] * 3, "N = 64": [270.0, 260.0, 280.0]},
}


def test_a_table_by_hand():
    """Ratios are those within a turn: 4, 2, 3, though the medians' is 600 / 200 too; sqrt(3 * 27) = 9."""
    *_, asterix, freeway, nothing, mean = table(RATES).splitlines()
    assert asterix == "| asterix | 200 | 50 | 600 | 3.0 (2.0 to 4.0) |"
    assert freeway == "| freeway | 10 | 5 | 270 | 27.0 (26.0 to 28.0) |"
    assert (nothing, mean) == ("", "Geometric mean of the ratios: 9.0.")


def test_a_page_has_a_table_for_each_way_with_memory():
    text = page({"as it comes": RATES, "kept": RATES}, "a machine")
    assert text.count("| asterix |") == text.count("Geometric mean") == 2
    assert "medians of 3 turns" in text
    assert text.endswith("\n\na machine\n")


def test_steps_are_counted_in_all_environments(monkeypatch):
    """A clock of one second an `advance`: 64 steps in 4 environments, over 3 seconds."""
    seconds, asked = [0.0], []

    def advance(num_steps):
        asked.append(num_steps)
        seconds[0] += 1

    monkeypatch.setattr("time.process_time", lambda: seconds[0])
    assert math.isclose(steps_per_cpu_second(advance, 4, 2.5), 64 * 4)
    assert asked == [64] * 3


def test_ours_is_advanced(monkeypatch):
    counted = []
    venv = make_vector("minatar/breakout", num_envs=3)
    step = venv.step
    monkeypatch.setattr(venv, "step", lambda action: counted.append(len(action)) or step(action))
    monkeypatch.setattr("benchmarks.minatar.make_vector", lambda *_, **__: venv)
    vector("minatar/breakout", 3)(200)  # past the end of episodes, which step would refuse
    assert counted == [3] * 200
