"""Metrics of one run: TensorBoard events, and the same numbers as metrics.csv (a row a logged step, a column a tag)."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.tensorboard.summary import hparams
from torch.utils.tensorboard.writer import SummaryWriter

from agents.presets import flatten
from value_heads import Atoms


class MetricsWriter:
    """Writes scalars and histograms; what a killed run wrote beyond its last checkpoint is taken back on resume.

    Args:
        resume_step: the step of the checkpoint that the run goes on from; None for a new run.
    """

    def __init__(self, run_dir: Path, resume_step: int | None = None):
        self.csv_path = run_dir / "metrics.csv"
        self.rows = read_csv(self.csv_path, resume_step) if resume_step is not None else []
        self.columns = list(dict.fromkeys(key for row in self.rows for key in row)) or ["step"]
        self.rewrite()
        purge = 0 if resume_step is None else resume_step + 1  # killed before a checkpoint, it began again
        self.board = SummaryWriter(str(run_dir), purge_step=purge, flush_secs=30)

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """One row of scalars by tag."""
        row: dict[str, Any] = {"step": step, **scalars}
        self.rows.append(row)
        for tag, value in scalars.items():
            self.board.add_scalar(tag, value, step)
        if row.keys() - set(self.columns):
            self.columns += [key for key in row if key not in self.columns]
            self.rewrite()
        else:
            with self.csv_path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self.columns).writerow(row)

    def rewrite(self) -> None:
        """Write all rows again, after columns came or rows went."""
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns)
        writer.writeheader()
        writer.writerows(self.rows)
        write_whole(self.csv_path, text.getvalue())

    def write_histogram(self, tag: str, step: int, atoms: Atoms) -> None:
        """The mean of a batch of return distributions, atoms [B, K], on the axis of returns."""
        edges, mass = batch_histogram(atoms)
        centers = (edges[:-1] + edges[1:]) / 2
        self.board.add_histogram_raw(
            tag,
            min=float(edges[0]),
            max=float(edges[-1]),
            num=1,
            sum=float(mass @ centers),
            sum_squares=float(mass @ centers**2),
            bucket_limits=edges[1:].tolist(),
            bucket_counts=mass.tolist(),
            global_step=step,
        )

    def write_hparams(self, config: Mapping[str, Any], metric: str) -> None:
        """Configuration for TensorBoard's hparams page, in the run's own file."""
        flat = {k: v if isinstance(v, bool | int | float | str) else str(v) for k, v in flatten(config).items()}
        writer = self.board._get_file_writer()
        for summary in hparams(flat, {metric: 0.0}):
            writer.add_summary(summary)

    def close(self) -> None:
        self.board.close()


def write_whole(path: Path, text: str) -> None:
    """Write so that `path` holds either what it held or all of `text`."""
    partial = path.with_suffix(".partial")
    partial.write_text(text, newline="", encoding="utf-8")
    partial.replace(path)


def batch_histogram(atoms: Atoms) -> tuple[np.ndarray, np.ndarray]:
    """(edges [m+1], mass [m]) of atoms [B, K] averaged over the batch; mass sums to 1.

    Where all rows have the same increasing values (a bin head) each gets the bin around it; otherwise 51 even bins.
    """
    values, probs = atoms.values.double().cpu().numpy(), atoms.probs.double().cpu().numpy()
    if values.shape[1] > 1 and (values == values[0]).all() and (np.diff(values[0]) > 0).all():
        middle = (values[0][1:] + values[0][:-1]) / 2
        edges = np.concatenate([[2 * values[0][0] - middle[0]], middle, [2 * values[0][-1] - middle[-1]]])
        return edges, probs.mean(0)
    mass, edges = np.histogram(values, bins=51, weights=probs)
    return edges, mass / len(values)


def read_csv(path: Path, until_step: int) -> list[dict[str, Any]]:
    """The rows of metrics.csv up to a step, without what is empty in them."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = [{k: v for k, v in row.items() if v not in ("", None)} for row in csv.DictReader(file)]
    return [row for row in rows if row.get("step", "").isdigit() and int(row["step"]) <= until_step]
