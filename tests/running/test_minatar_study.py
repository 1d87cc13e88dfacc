"""Is a cell of the MinAtar study trained once, refused where it is of other runs, and reported as it is?"""

import signal

import numpy as np
import pytest

from agents.experiments.cohort import Cohort
from agents.experiments.minatar_study import design, page, results, training
from agents.experiments.minatar_study.__main__ import main
from agents.experiments.minatar_study.cells import Result, cell_path, chosen_rate, load, save
from agents.experiments.minatar_study.design import GAMES, REPORTED, SWEEP, WIDTHS, Group, all_groups
from agents.running.setup import LOG
from agents.running.signals import EXIT_REQUEUE
from agents.tables import ConfigError

GROUP = Group(REPORTED, "asterix", "wide", "hl_gauss")
SMALL = GROUP._replace(width="small")


def made(group, out, auc=lambda seed: float(seed)):
    """Write a cell with made-up areas, after its sweep, of which the second rate is the best."""
    if group.stage == REPORTED and not cell_path(group.sweep, out).is_file():
        made(group.sweep, out)
    planned = group.runs(chosen_rate(group, out))
    tried = {rate: index for index, (rate, _) in enumerate(planned)} if group.stage == SWEEP else {}
    areas = [-abs(tried[rate] - 1.0) if tried else auc(seed) for rate, seed in planned]
    save(
        group,
        out,
        [
            Result(seed, rate, group.digest(rate), area, 2 * area, None, 36.0, "classyq 0", [0.5, area])
            for (rate, seed), area in zip(planned, areas, strict=True)
        ],
    )


def made_all(out, areas):
    """All that is compared; areas by width and head: a function of game and seed."""
    for (width, head), area in areas.items():
        for game in GAMES:
            made(Group(REPORTED, game, width, head), out, lambda seed, game=game, area=area: area(game, seed))


def corners(**areas):
    """The same area in all corners, but for those given, plus a little of each seed."""
    bases = {(width, head): areas.get(f"{width}_{head}", 10.0) for width in WIDTHS for head in design.COMPARED}
    return {corner: lambda game, seed, base=base: base + seed / 100 for corner, base in bases.items()}


def test_the_order_of_work():
    groups = all_groups()
    assert len(groups) == len(set(groups)) == 2 * len(GAMES) * len(WIDTHS) * len(design.HEADS)
    assert all(groups.index(group.sweep) <= groups.index(group) for group in groups)
    assert {group.head for group in groups[:16]} == set(design.COMPARED)
    assert {group.width for group in groups[:8]} == {"wide"}


def test_seeds_of_the_sweep_are_not_reported():
    assert not set(design.SEEDS) & set(design.SWEEP_SEEDS)
    assert len(design.SEEDS) >= 8


def test_a_cell_is_read_as_it_was_written(tmp_path):
    made(GROUP, tmp_path)
    found = load(GROUP, tmp_path)
    assert found is not None
    assert [result.seed for result in found] == list(design.SEEDS)
    assert found[3] == Result(4, 2e-3, GROUP.digest(2e-3), 4.0, 8.0, None, 36.0, "classyq 0", [0.5, 4.0])


def test_the_rate_is_that_with_the_largest_area(tmp_path):
    with pytest.raises(ConfigError, match=r"minatar-sweep-asterix-wide-hl_gauss.csv is missing, which finds the rate"):
        chosen_rate(GROUP, tmp_path)
    made(GROUP.sweep, tmp_path)
    assert chosen_rate(GROUP, tmp_path) == 2 * design.BASE_RATES["hl_gauss"]


@pytest.mark.parametrize("change", [{"agent.gamma": 0.5}, None])
def test_a_cell_of_other_runs_is_refused(change, tmp_path, monkeypatch):
    """Made with another setting, or without the last seed."""
    made(GROUP, tmp_path)
    if change:
        monkeypatch.setattr(design, "SETTINGS", design.SETTINGS | change)
    else:
        path = cell_path(GROUP, tmp_path)
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(ConfigError, match="is of other runs"):
        load(GROUP, tmp_path)


def test_a_digest_is_of_what_matters_and_of_nothing_else(monkeypatch):
    digest = GROUP.digest(1e-3)
    assert GROUP.digest(1e-3) == digest
    others = [
        GROUP._replace(**{name: value}) for name, value in (("game", "breakout"), ("width", "small"), ("head", "mse"))
    ]
    assert len({digest, GROUP.digest(2e-3), *(other.digest(1e-3) for other in others)}) == 5
    assert GROUP.sweep.digest(1e-3) == digest
    monkeypatch.setattr(design, "SUPPORTS", {game: [-1.0, 1.0] for game in GAMES})
    assert GROUP.digest(1e-3) != digest


def test_first_line_and_interaction(tmp_path):
    """Equal heads; then a head that is better in the wide network alone; then one that is so in both."""
    cases = {
        "equal": (corners(), 0.5, 0.0),
        "wide": (corners(wide_hl_gauss=12.0), 1.0, 0.2),
        "both": (corners(wide_hl_gauss=12.0, small_hl_gauss=12.0), 1.0, 0.0),
        "worse": (corners(wide_hl_gauss=8.0), 0.0, -0.2),
    }
    for name, (areas, probability, difference) in cases.items():
        out = tmp_path / name
        made_all(out, areas)
        cells = results.stored(out)
        improvement, interaction = results.improvement(cells, "wide", "auc"), results.interaction(cells, "auc")
        assert improvement is not None
        assert interaction is not None
        assert float(improvement.value) == probability
        assert float(interaction.difference.value) == pytest.approx(difference, rel=0.01, abs=1e-9)
        said = "includes 0.5" if probability == 0.5 else "does not include 0.5"
        assert f"The interval of the primary measure {said}**" in page.verdict(cells)
        zero = "does not include 0." if difference else "includes 0."
        assert f"the interval {zero} Gains" in page.second_line(cells)


def test_interaction_beside_a_naive_sum(tmp_path):
    rng = np.random.default_rng(0)
    noise = {
        (width, head, game, seed): rng.gamma(3.0)
        for width in WIDTHS
        for head in design.COMPARED
        for game in GAMES
        for seed in design.SEEDS
    }
    areas = {
        (width, head): lambda game, seed, at=(width, head): float(f"{noise[(*at, game, seed)]:.6g}")
        for width in WIDTHS
        for head in design.COMPARED
    }
    made_all(tmp_path, areas)

    def middle(width, head):
        unit = {game: np.mean([areas["small", "mse"](game, seed) for seed in design.SEEDS]) for game in GAMES}
        together = sorted(areas[width, head](game, seed) / unit[game] for game in GAMES for seed in design.SEEDS)
        return np.mean(together[len(together) // 4 : -(len(together) // 4)])

    gains = {width: middle(width, "hl_gauss") - middle(width, "mse") for width in WIDTHS}
    found = results.interaction(results.stored(tmp_path), "auc")
    assert found is not None
    assert {width: float(gain.value) for width, gain in found.gains.items()} == pytest.approx(gains)
    assert float(found.difference.value) == pytest.approx(gains["wide"] - gains["small"])
    assert results.includes(found.difference, float(gains["wide"] - gains["small"]))


def test_a_page_of_what_is_there(tmp_path):
    page.write_page(tmp_path, "do it")
    text = (tmp_path / "minatar.md").read_text()
    assert "**No answer yet**" in text
    assert "**0 of 32 cells are there; the same command goes on" in text
    made(GROUP, tmp_path)
    page.write_page(tmp_path, "do it")
    text = (tmp_path / "minatar.md").read_text()
    assert "needs minatar-reported-asterix-wide-mse, minatar-reported-breakout-wide-hl_gauss" in text
    assert "**2 of 32 cells are there" in text
    assert "| asterix | wide | hl_gauss | 0.002 | 8 | 4.50 [" in text
    assert "| asterix | wide | hl_gauss | 0.001 | -1.00 | **0.00** | -1.00 | 0.002 | no |" in text
    assert "0.11 CPU-hours in all (11 runs" in text
    assert (tmp_path / "minatar.png").is_file()


@pytest.fixture
def short(monkeypatch):
    """Runs of a second."""
    few = {"steps": 800, "log.every_steps": 200, "env.num_envs": 4, "agent.learn_after_steps": 200}
    few |= {"evaluation.final_episodes": 2, "evaluation.num_episodes": 1, "evaluation.max_steps": 50}
    monkeypatch.setattr(design, "SETTINGS", design.SETTINGS | few)
    monkeypatch.setattr(design, "SEEDS", range(1, 3))
    monkeypatch.setattr(design, "FACTORS", (1, 2))


@pytest.mark.usefixtures("short")
def test_a_group_is_trained_and_its_cell_says_what_came_out(tmp_path):
    for group in (SMALL.sweep, SMALL):
        assert training.train_group(group, tmp_path, tmp_path) == 0
    found = load(SMALL, tmp_path)
    assert found is not None
    assert [(result.seed, len(result.curve)) for result in found] == [(1, 4), (2, 4)]
    assert found[0].curve != found[1].curve
    for result in found:
        low, *middle, high = result.curve
        assert result.auc == pytest.approx((low / 2 + sum(middle) + high / 2) / 3, rel=1e-3)
        assert result.clipped == 0.0
        assert result.lr == chosen_rate(SMALL, tmp_path)
    folders = sorted(path.name for path in training.group_dir(SMALL, tmp_path).iterdir())
    assert folders == [f"lr{found[0].lr:g}-s{seed}" for seed in (1, 2)]


@pytest.mark.usefixtures("short")
def test_a_group_that_was_stopped_goes_on(tmp_path, monkeypatch):
    straight, pieces = tmp_path / "straight", tmp_path / "pieces"
    assert training.train_group(SMALL.sweep, straight, straight) == 0
    advance = Cohort.advance

    def stopped(self):
        advance(self)
        if self.step >= 500:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Cohort, "advance", stopped)
        assert training.train_group(SMALL.sweep, pieces, pieces) == 85
    assert load(SMALL.sweep, pieces) is None
    assert training.train_group(SMALL.sweep, pieces, pieces) == 0
    found, wanted = load(SMALL.sweep, pieces), load(SMALL.sweep, straight)
    assert found is not None
    assert wanted is not None
    assert [r._replace(cpu_seconds=0) for r in found] == [r._replace(cpu_seconds=0) for r in wanted]


def test_processes(tmp_path):
    """One that fails says so in the log; none is begun for a cell that is there, or after a request to stop."""
    made(GROUP, tmp_path)
    assert training.in_process(GROUP, tmp_path, tmp_path, lambda: False) == 0
    assert training.in_process(GROUP, tmp_path, tmp_path, lambda: True) == EXIT_REQUEUE
    assert (training.group_dir(GROUP, tmp_path) / LOG).read_text() == ""
    other = Group(REPORTED, "breakout", "wide", "mse")
    assert training.in_process(other, tmp_path, tmp_path, lambda: False) == 1
    assert "which finds the rate" in (training.group_dir(other, tmp_path) / LOG).read_text()


def test_the_command(tmp_path):
    with pytest.raises(ConfigError, match="Did you mean minatar-sweep-asterix-wide-mse"):
        main(only="minatar-sweep-asterix-wide-msee")
    main(jobs=1, root=tmp_path, out=tmp_path / "out", cpu_hours=0.0)
    assert "--jobs 1" in (tmp_path / "out" / "minatar.md").read_text()


def test_what_is_missing_is_trained_in_order_within_the_budget(tmp_path, monkeypatch):
    """What is there stays; reported runs need their sweep; a cell costs a hundredth of an hour for each run."""
    made(GROUP.sweep, tmp_path)
    begun, told = [], []

    def train(group, root, out, give_up):
        begun.append(group)
        if group == Group(SWEEP, "asterix", "wide", "mse"):
            return 1
        made(group, out)
        return 0

    monkeypatch.setattr(training, "in_process", train)
    training.train_missing(all_groups(), 1, tmp_path, tmp_path, 0.15, lambda: told.append(1))
    wide = [group for group in all_groups() if group.width == "wide" and group.head in design.COMPARED]
    wanted = [group for group in wide if group != GROUP.sweep and group != Group(REPORTED, "asterix", "wide", "mse")]
    assert begun == wanted[: len(begun)]
    assert len(told) == len(begun)
    assert 0.15 <= training.cpu_hours_spent(tmp_path) < 0.15 + 0.08
    training.train_missing(all_groups(), 1, tmp_path, tmp_path, 0.0, lambda: told.append(1))
    assert len(told) == len(begun)
