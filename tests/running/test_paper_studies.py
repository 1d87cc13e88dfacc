"""Does a study of the paper go on where it was stopped, and does its page say what was found?"""

import csv
import re

import numpy as np
import pytest
import torch

from agents.experiments.studies import paper
from agents.experiments.studies.known_values import KnownValues
from agents.experiments.studies.page import index
from agents.experiments.studies.paper import answer, measure_all, paper_studies, read_question
from agents.experiments.studies.plasticity import Plasticity
from agents.experiments.studies.question import Row, read_rows, write_rows
from agents.experiments.studies.small_learners import make_network
from agents.experiments.studies.training import RETURNS, Frozen, Offline, Training, with_noise
from agents.running import dataset
from agents.running.evaluation import load
from agents.running.trainer import Summary, train
from agents.tables import ConfigError
from value_heads import ValueHead
from value_heads.categorical import CategoricalHead

LIKE_ANOTHER = ("sigma_bins", "support", "mse_softmax")  # of whose kind another is measured


@pytest.mark.parametrize("name", paper_studies())
def test_every_study_works_at_a_small_size(name, tmp_path, monkeypatch):
    question = read_question(name, tiny=True)
    if name in LIKE_ANOTHER:
        monkeypatch.setattr(type(question), "measure", lambda self, cell, folder: made_up(self, cell))
    answer(name, tmp_path, tmp_path / "out", tiny=True)
    page = (tmp_path / "out" / f"{name}.md").read_text()
    assert page.startswith(f"# {question.question}\n\nMade by `classyq study {name} --tiny`")
    assert question.primary.says in page
    assert (tmp_path / "out" / f"{name}.png").stat().st_size > 5_000
    rows = read_rows(tmp_path / "out" / f"{name}.csv")
    assert {row.cell for row in rows} == {f"{a} @ {c}" for a in question.arms for c in question.row_conditions()}
    assert {row.task for row in rows} == set(question.row_tasks())
    assert {row.seed for row in rows} == set(question.all_seeds())
    assert np.isfinite([row.value for row in rows]).all()


@pytest.mark.parametrize("name", paper_studies())
def test_every_cell_has_settings(name):
    """At full size, where nothing is trained in tests."""
    question = read_question(name)
    assert question.seeds >= 5, "a study of fewer says little"
    for cell in question.cells():
        if isinstance(question, Training):
            configs = question.configs(cell)
            assert [config.seed for config in configs] == question.all_seeds()
            assert {config.head.name for config in configs} == {cell.split(" @ ")[0]}
        if isinstance(question, KnownValues):
            options = question.head_of(cell)
            network = make_network(options, (3,), 2, [4], question.support, 0)
            assert isinstance(network.head, CategoricalHead if "num_bins" in options else ValueHead)


def made_up(question, cell):
    """Rows that nobody has measured."""
    arm, condition, _ = cell.split(" @ ")
    return [
        Row(arm, condition, t, s, 0.1 * s + len(arm), 1.5) for t in question.row_tasks() for s in question.all_seeds()
    ]


@pytest.fixture
def measured(monkeypatch):
    """Cells of `plasticity` as they are measured; values depend on arm, condition and seed."""
    calls = []

    def measure(self, cell, folder):
        if len(calls) == getattr(measure, "give_up_after", 9):
            raise KeyboardInterrupt
        calls.append(cell)
        effect = {"mse": 1.0, "hl_gauss": 0.0}.get(cell, 0.5)
        noise = np.random.default_rng(len(calls))
        return [
            Row(cell, c, "synthetic", s, round(effect * (c != "b = 0") + noise.normal(0, 0.05), 5), 30.0)
            for c in self.row_conditions()
            for s in self.all_seeds()
        ]

    monkeypatch.setattr(Plasticity, "measure", measure)
    return calls, measure


def test_what_is_measured_is_not_measured_again(measured, tmp_path):
    calls, measure = measured
    measure.give_up_after = 2
    question = read_question("plasticity", tiny=True)
    with pytest.raises(KeyboardInterrupt):
        measure_all(question, tmp_path)
    assert calls == ["mse", "mse_softmax"]
    measure.give_up_after = 9
    rows = measure_all(question, tmp_path)
    assert calls == ["mse", "mse_softmax", "two_hot", "hl_gauss"]
    assert measure_all(question, tmp_path) == rows
    assert len(calls) == 4
    assert [row.arm for row in rows[:: 2 * 5]] == calls


def test_cells_of_other_settings_are_not_mixed(measured, tmp_path):
    question = read_question("plasticity", tiny=True)
    measure_all(question, tmp_path)
    reworded = question.model_copy(update={"claim": "other words", "primary": question.secondary["smoothing"]})
    measure_all(reworded, tmp_path)
    with pytest.raises(ConfigError, match="was measured with other settings: give another --root, or delete it"):
        measure_all(question.model_copy(update={"lr": 5.0}), tmp_path)


def test_the_page_says_what_was_found(measured, tmp_path):
    """MSE is made worse by 1 after the first phase, and HL-Gauss by nothing."""
    answer("plasticity", tmp_path, tmp_path / "out")
    page = (tmp_path / "out" / "plasticity.md").read_text()
    question = read_question("plasticity")
    assert f"**The paper** (Fig. 17 and appendix B.4): {question.claim}" in page
    result = next(line for line in page.splitlines() if line.startswith("**Result**"))
    found = re.fullmatch(
        r"\*\*Result\*\*: (\S+) \[(\S+), (\S+)\]: \*\*agrees\*\*. An effect of (\S+) could have been detected.", result
    )
    assert found is not None
    value, low, high, least = map(float, found.groups())
    error = 0.05 * (2 * (1 + 1 / 4) / 30) ** 0.5  # two heads, a phase and the mean of four, 30 seeds
    assert abs(value - 1) < 4 * error
    assert low < value < high
    assert high - low == pytest.approx(3.92 * error, rel=0.4)  # of a deviation that is estimated
    assert least == pytest.approx(2.8 * error, rel=0.4)
    assert "| slower: " in page
    steady = next(line for line in page.splitlines() if line.startswith("| steady"))
    assert "| within ±0.1 | " in steady
    assert steady.endswith("| agrees |")
    assert "seeds 1 to 30" in page
    assert "300.0 CPU-minutes" in page  # 4 arms, 5 phases, 30 seeds, half a minute
    table = (tmp_path / "out" / "README.md").read_text()
    row = next(line for line in table.splitlines() if "[plasticity](plasticity.md)" in line)
    assert "| Fig. 17 and appendix B.4 | 30 | +" in row
    assert row.endswith("| agrees |")
    assert "## plasticity: agrees" in table
    assert table.count("](") == 1  # no study without numbers
    assert index(tmp_path / "out") == table


def test_the_index_of_results_is_that_of_their_numbers():
    """Whoever changes a claim or a number without the other is told."""
    folder = paper.STUDIES.parents[1] / "docs" / "results" / "studies"
    assert (folder / "README.md").read_text(encoding="utf-8") == index(folder)
    for name in paper_studies():
        if (folder / f"{name}.csv").exists():
            assert write_rows(read_rows(folder / f"{name}.csv")) == (folder / f"{name}.csv").read_text(encoding="utf-8")


def test_noise_is_added_to_rewards_and_to_nothing_else(recorded, tmp_path):
    made = with_noise(recorded, tmp_path / "noisy", (0.5, 1.5))
    before, after = (dataset.find(path).arrays() for path in (recorded, made))
    noise = after["reward"] - before["reward"]
    assert noise.min() >= 0.5 - 1e-6
    assert noise.max() <= 1.5 + 1e-6
    assert abs(noise.mean() - 1) < 5 / (12 * noise.size) ** 0.5
    assert len(np.unique(noise.round(6))) > 0.9 * noise.size
    for name in before.keys() - {"reward"}:
        np.testing.assert_array_equal(before[name], after[name])
    stamp = (made / "dataset.json").stat().st_mtime_ns
    assert with_noise(recorded, made, (0.5, 1.5)) == made
    assert (made / "dataset.json").stat().st_mtime_ns == stamp


def test_the_value_of_a_run_is_the_mean_of_what_it_logged_late(tmp_path):
    question = read_question("sarsa", tiny=True)
    assert isinstance(question, Offline)
    summaries = []
    for seed in (1, 2):
        folder = tmp_path / f"s{seed}"
        folder.mkdir()
        with (folder / "metrics.csv").open("w") as file:
            writer = csv.writer(file)
            writer.writerows([["step", RETURNS], [50, 9.0], [60, 10.0 * seed], [80, ""], [100, 20.0]])
        summaries.append(Summary(folder, 100, True, 0, None, None, 2.0, 1.5, 0.0))
    rows = question.rows("mse @ SARSA @ breakout", summaries, RETURNS)
    assert [row.value for row in rows] == [15.0, 20.0]
    assert rows[0] == Row("mse", "SARSA", "breakout", 1, 15.0, 1.5)
    stopped = summaries[0]._replace(finished=False, exit_code=75)
    with pytest.raises(SystemExit, match="75"):
        question.rows("mse @ SARSA @ breakout", [summaries[1], stopped], RETURNS)


def test_a_probe_learns_one_layer_on_features_that_stay(small, tmp_path):
    train(small(overrides={"output_layer.hidden": 12, "head.name": "c51"}), tmp_path / "first")
    torso = f"{Frozen.__module__}:{Frozen.__name__}"
    run = {"torso": torso, "torso.run": str(tmp_path / "first"), "head": "mse", "output_layer.hidden": 0}
    train(small().with_overrides(run), tmp_path / "probe")
    first, second = load(tmp_path / "first").network, load(tmp_path / "probe").network
    assert [name for name, _ in second.named_parameters()] == ["head.output.last.weight", "head.output.last.bias"]
    obs = torch.rand(6, 10, 5)
    hidden = torch.relu(first.head.output.hidden(first.torso(obs)))  # pyright: ignore
    torch.testing.assert_close(second.features(obs), hidden)
    assert not second.features(obs).requires_grad
