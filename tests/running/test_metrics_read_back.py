"""What TensorBoard and metrics.csv show of a run, read back from disk."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from agents.presets import flatten
from agents.running.metrics import MetricsWriter, batch_histogram
from agents.running.run import Run
from agents.running.trainer import train
from value_heads import Atoms

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

ALWAYS = {"charts/SPS", "charts/epsilon", "replay/size", "replay/updates", "time/act", "time/env", "time/add"} | {
    "time/log",
    "sys/rss_gb",
}
SOMETIMES = {
    *("charts/episodic_return", "charts/episodic_length", "value/bias"),
    *("losses/td_loss", "losses/td_error_abs", "losses/q_values", "losses/grad_norm"),
    *("value/entropy", "value/frac_target_clipped", "value/cross_entropy", "value/kl"),
    *("time/sample", "time/learn", "time/eval", "time/checkpoint"),
    *("eval/episodic_return", "eval/episodic_length"),
}


def board_of(run_dir: Path):
    """Everything in the event files of a directory, as TensorBoard reads it."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(run_dir), size_guidance=dict.fromkeys(("scalars", "histograms", "tensors"), 0))
    return board.Reload()


def table_of(run_dir: Path) -> list[dict[str, str]]:
    with (run_dir / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_tags(run_dir):
    board, table = board_of(run_dir), table_of(run_dir)
    assert set(board.Tags()["scalars"]) >= ALWAYS | SOMETIMES
    assert set(table[0]) == set(board.Tags()["scalars"]) | {"step"}
    for tag in ALWAYS - {"time/log"}:
        assert len(board.Scalars(tag)) == len(table), tag


def test_the_x_axis_is_environment_steps(run_dir):
    board = board_of(run_dir)
    assert [e.step for e in board.Scalars("charts/SPS")] == list(range(20, 301, 20))
    assert [e.step for e in board.Scalars("eval/episodic_return")] == [100, 200, 300]
    assert [e.step for e in board.Histograms("value/predicted_dist")] == [100, 200, 300]
    assert [e.value for e in board.Scalars("replay/size")] == [s - 1 for s in range(20, 301, 20)]
    updates = {e.step: e.value for e in board.Scalars("replay/updates")}
    assert updates[40] == 0
    assert updates[300] == 124  # (299 - 50) / 2: made while the last step was


def test_steps_count_all_environments(small, tmp_path):
    train(small(overrides={"env.num_envs": 4, "steps": 90}), tmp_path)
    assert [e.step for e in board_of(tmp_path).Scalars("charts/SPS")] == [20, 40, 60, 80, 92]


def test_the_csv_file_has_the_same_numbers(run_dir):
    board, table = board_of(run_dir), table_of(run_dir)
    for tag in board.Tags()["scalars"]:
        shown = {e.step: e.value for e in board.Scalars(tag)}
        written = {int(row["step"]): float(row[tag]) for row in table if row[tag]}
        assert shown.keys() == written.keys()
        assert all(math.isclose(shown[s], written[s], rel_tol=1e-6, abs_tol=1e-30) for s in shown), tag  # float32
        assert all(math.isfinite(v) for v in written.values()), tag


def test_what_the_numbers_mean(run_dir):
    """Catch: 9 steps an episode, returns of -1 and 1, 5 columns."""
    board = board_of(run_dir)
    assert {e.value for e in board.Scalars("charts/episodic_length")} == {9.0}
    assert all(-1 <= e.value <= 1 for e in board.Scalars("charts/episodic_return"))
    assert [e.value for e in board.Scalars("charts/epsilon")] == pytest.approx(
        [1 - 0.95 * s / 10_000 for s in range(20, 301, 20)]
    )
    assert {e.value for e in board.Scalars("value/frac_target_clipped")} == {0.0}
    entropy = [e.value for e in board.Scalars("value/entropy")]
    assert all(0 < value < math.log(51) for value in entropy)
    shares = table_of(run_dir)[-1]
    assert sum(float(v) for k, v in shares.items() if k.startswith("time/")) == pytest.approx(1)
    assert all(0.05 < e.value < 64 for e in board.Scalars("sys/rss_gb"))


@pytest.mark.parametrize("tag", ["value/predicted_dist", "value/target_dist"])
def test_histograms_are_the_bins_of_the_support(tag, run_dir):
    """51 bins on [-1, 1]: TensorBoard draws a bar between two limits, and the bars have mass 1."""
    for event in board_of(run_dir).Histograms(tag):
        histogram = event.histogram_value
        np.testing.assert_allclose(histogram.bucket_limit, np.linspace(-1, 1, 52)[1:], atol=1e-6)
        assert sum(histogram.bucket) == pytest.approx(1, abs=1e-5)  # probabilities are float32
        assert min(histogram.bucket) >= 0
        assert (histogram.min, histogram.max) == pytest.approx((-1, 1), abs=1e-6)
        centers = np.linspace(-1, 1, 52)[1:] - 1 / 51
        assert histogram.sum == pytest.approx(np.array(histogram.bucket) @ centers, abs=1e-6)


def test_one_event_file_with_hparams_and_no_stray_folders(run_dir):
    names = sorted(p.name for p in run_dir.iterdir())
    events = [name for name in names if name.startswith("events.out.tfevents")]
    assert len(events) == 1
    rest = ["best.pt", "checkpoints", "config.json", "metrics.csv", "replay", "run.json", "summary.json"]
    assert sorted({*names} - {*events}) == rest
    tags = board_of(run_dir).summary_metadata
    assert {"_hparams_/experiment", "_hparams_/session_start_info"} <= tags.keys()
    content = tags["_hparams_/session_start_info"].plugin_data.content
    for text in (b"agent.lr", b"head.name", b"hl_gauss", b"env.id", b"catch"):
        assert text in content


def test_after_a_kill_no_step_is_there_twice(small, tmp_path, monkeypatch):
    """Killed at 70 before any checkpoint, at 230 after one at 150: three event files, one course."""
    advance = Run.advance
    for stop in (70, 230):

        def killed(run, stop=stop):
            if run.step == stop:
                raise MemoryError
            advance(run)

        with monkeypatch.context() as patch:
            patch.setattr(Run, "advance", killed)
            patch.setattr(MetricsWriter, "close", lambda self: None)
            with pytest.raises(MemoryError):
                train(small(), tmp_path)
    train(small(), tmp_path)
    steps = list(range(20, 301, 20))
    assert [int(row["step"]) for row in table_of(tmp_path)] == steps
    board = board_of(tmp_path)
    assert len(list(tmp_path.glob("events*"))) == 3
    for tag in ("charts/SPS", "replay/size"):
        assert [e.step for e in board.Scalars(tag)] == steps
    assert [e.step for e in board.Histograms("value/target_dist")] == [100, 200, 300]


def test_rows_and_columns_of_the_csv_file(tmp_path):
    """A column that comes later is empty before; a row cut short by a kill goes on resume; None stays away."""
    writer = MetricsWriter(tmp_path)
    writer.write(10, {"a": 1.5})
    writer.write(20, {"a": 2.5, "b": 3.0})
    writer.write(30, {"b": 4.0})
    writer.close()
    text = "step,a,b\n10,1.5,\n20,2.5,3.0\n30,,4.0\n"
    assert (tmp_path / "metrics.csv").read_text() == text
    (tmp_path / "metrics.csv").write_text(text + "40,7.")
    again = MetricsWriter(tmp_path, resume_step=20)
    again.write(30, {"a": 0.1, "c": 5.0})
    again.close()
    assert (tmp_path / "metrics.csv").read_text() == "step,a,b,c\n10,1.5,,\n20,2.5,3.0,\n30,0.1,,5.0\n"
    MetricsWriter(tmp_path).close()
    assert (tmp_path / "metrics.csv").read_text() == "step\n", "a new run begins with nothing"
    (tmp_path / "metrics.csv").unlink()
    MetricsWriter(tmp_path, resume_step=20).close()


def test_histogram_of_uneven_values():
    """Bins of unequal width end in the middle between values; atoms that differ over the batch get even bins."""
    values = torch.tensor([[0.0, 1.0, 3.0]]).expand(2, 3)
    edges, mass = batch_histogram(Atoms(values, torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]])))
    np.testing.assert_allclose(edges, [-0.5, 0.5, 2.0, 4.0])
    np.testing.assert_allclose(mass, [0.5, 0.25, 0.25])
    edges, mass = batch_histogram(Atoms(torch.tensor([[0.0, 1.0], [5.0, 10.2]]), torch.full((2, 2), 0.5)))
    assert len(mass) == 51
    assert (edges[0], edges[-1]) == pytest.approx((0.0, 10.2))
    assert mass.sum() == pytest.approx(1)
    assert [mass[at].sum() for at in (slice(1), slice(4, 7), slice(23, 27), slice(50, 51))] == [0.25] * 4
    edges, mass = batch_histogram(Atoms(torch.full((3, 1), 2.0), torch.ones(3, 1)))
    assert mass.sum() == pytest.approx(1), "a scalar head whose targets are all alike"


def test_flatten():
    assert flatten({"a": 1, "b": {"c": {"d": 2}, "e": []}}) == {"a": 1, "b.c.d": 2, "b.e": []}
