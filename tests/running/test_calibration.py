"""The command that judges classification losses: does it say what is so, and write it down?"""

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from agents.experiments import calibration, reward_process
from agents.experiments.loss_cost import relative_costs
from value_heads import LOSSES


def test_the_three_returns_and_their_medians():
    y = calibration.returns()
    np.testing.assert_allclose(y.mean(1), [0.7, 0.5, -0.6], atol=0.03)  # 50 midpoints of an exponential cut its tail
    np.testing.assert_allclose(y.median(1).values - y.mean(1), [0, -0.46, -1.4], atol=0.05)


def test_bias_tells_mean_from_median():
    unbiased, biased = (
        calibration.population_bias(calibration.criterion_of({"loss": name}), "hl_gauss", 300, lr=0.3)
        for name in ("cross_entropy", "wasserstein")
    )
    assert max(map(abs, unbiased)) < 0.01
    assert biased[1] < -0.3
    assert biased[2] < -1


def test_what_is_linear_is_known():
    bins = torch.rand(3, 4, 7, dtype=torch.float64).softmax(-1)
    known = {name: calibration.linear(LOSSES[name](), bins, 7) for name in ("brier", "wasserstein", "elastic_cos")}
    assert known == {"brier": True, "wasserstein": False, "elastic_cos": False}


def test_values_of_the_process_solve_its_equation():
    """V = r + gamma P V, in float64; and samples of r + gamma V(s') average to it."""
    process = reward_process.Process.random(3)
    p, r, v = (x.double().numpy() for x in (process.transitions, process.rewards, process.values))
    np.testing.assert_allclose(np.linalg.solve(np.eye(len(v)) - 0.9 * p, r), v, atol=1e-4)
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-6)
    generator = torch.Generator().manual_seed(0)
    errors = []
    for _ in range(1000):
        batch = process.sample(generator)
        state, following = (torch.cdist(x, process.features).argmin(1) for x in (batch.obs, batch.next_obs))
        errors.append(batch.reward + batch.discount * process.values[following] - process.values[state])
    assert torch.cat(errors).mean().item() == pytest.approx(0, abs=0.05)  # deviation below 3, 32,000 samples


def test_a_sound_loss_learns_the_process():
    got = reward_process.evaluate("hl_gauss", {}, seeds=range(2), rates=(1e-3, 3e-3), updates=400)
    assert got.rmse.shape == got.bias.shape == (2, 2)
    assert (got.rmse[:, 1] < 1.5).all()  # 2.7 at the start; 400 updates are few
    again = reward_process.evaluate("hl_gauss", {}, seeds=range(2), rates=(1e-3, 3e-3), updates=400)
    np.testing.assert_array_equal(got.rmse, again.rmse)


def test_costs_are_relative_to_the_first():
    cases = {name: {"loss": name} for name in ("cross_entropy", "soft_top_k")}
    costs = relative_costs(cases, 51, rounds=3)
    assert costs["cross_entropy"] == 1
    assert costs["soft_top_k"] > 1


def test_the_page(tmp_path, monkeypatch):
    """All of it, with two losses, one of which is said to be off."""
    few = {name: LOSSES[name] for name in ("cross_entropy", "brier")}
    monkeypatch.setattr(calibration, "LOSSES", few)
    cases = {"cross_entropy": {"loss": "cross_entropy"}, "brier": {"loss": "brier"}}
    for name, value in {"CASES": cases, "STEPS": (20, 40), "BINS": (7,), "RATES": (1e-3,)}.items():
        monkeypatch.setattr(calibration, name, value)
    monkeypatch.setattr(calibration, "SWEPT", range(1))
    monkeypatch.setattr(calibration, "REPORTED", range(1, 3))
    app = calibration.typer.Typer()
    app.command()(calibration.main)
    result = CliRunner().invoke(app, ["--updates", "200", "--rounds", "1", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    page = (tmp_path / "losses.md").read_text()
    assert "**not so: cross_entropy, brier**" in page  # 40 steps are too few
    assert "| mse (a regression head) | 0.001 |" in page
    assert "| cross_entropy | 1.00 |" in page
