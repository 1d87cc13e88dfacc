"""Does a comparison refuse what differs in more than the head, and is a result read back as it was?"""

import pytest

from agents.config import ConfigError
from agents.experiments.records import Record, check_alike, labelled, per_head_settings


@pytest.fixture
def records(make_record):
    """Two heads with two seeds each in two environments."""
    return [make_record(h, e, s) for h in ("mse", "c51") for e in ("catch", "chain") for s in (1, 2)]


def with_config(record, **changes):
    return record._replace(config=record.config | {k.replace("__", "."): v for k, v in changes.items()})


def test_runs_that_differ_in_their_heads_alone_pass(records):
    check_alike([with_config(r, head__num_bins=51) if r.head == "c51" else r for r in records])


CHANGES = {
    "a setting of one run": (
        lambda r: with_config(r, agent__lr=0.5),
        "agent.lr: 0.001 (runs/catch/mse/s1), 0.5 (runs/chain/c51/s2)",
    ),
    "a setting that others do not have": (lambda r: with_config(r, replay__alpha=0.5), "replay.alpha: null (runs/"),
    "an option of one seed's head": (
        lambda r: with_config(r, head__num_bins=7),
        "head.num_bins: null (runs/chain/c51/s1), 7",
    ),
    "a version": (
        lambda r: r._replace(notes=r.notes | {"versions": {"torch": "2.10", "numpy": "2.3.0"}}),
        'versions.torch: "2.9.1" (runs/',
    ),
    "Python": (lambda r: r._replace(notes=r.notes | {"python": "3.12.0"}), 'python: "3.11.9"'),
    "the protocol": (lambda r: r._replace(notes=r.notes | {"protocol": "sticky 0"}), "protocol: null"),
    "the budget": (lambda r: r._replace(summary=r.summary | {"step": 150}), "steps made: 200"),
    "the steps of evaluations": (lambda r: r._replace(steps=[50, 200]), "evaluations at steps: [100, 200]"),
    "the range of returns": (lambda r: with_config(r, env__support=[-2.0, 2.0]), "env.support: [-1.0, 1.0]"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_one_run_that_differs_is_refused(name, records):
    """The last run is changed; the message says in what, and between which runs."""
    change, message = CHANGES[name]
    with pytest.raises(ConfigError, match="these runs differ in more than their heads") as error:
        check_alike([*records[:-1], change(records[-1])])
    assert message.replace("runs/catch/mse/s1", "runs/chain/mse/s1") in str(error.value)
    assert "declared with --per-head KEY,KEY" in str(error.value)


def test_versions_are_the_same_in_all_environments(records):
    """Settings may be others in another environment, as presets are; the software may not."""
    notes = records[0].notes | {"versions": {"torch": "2.10", "numpy": "2.3.0"}}
    check_alike([with_config(r, agent__n_step=3) if r.env == "chain" else r for r in records])
    with pytest.raises(ConfigError, match=r"versions\.torch"):
        check_alike([r._replace(notes=notes) if r.env == "chain" else r for r in records])


def test_declared_keys_may_differ_between_heads_and_not_between_seeds(records):
    tuned = [with_config(r, agent__lr=0.5) if r.head == "c51" else r for r in records]
    check_alike(tuned, ["agent.lr"])
    with pytest.raises(ConfigError, match=r"agent\.lr: 0\.5 .*s1.*, 0\.7 .*s2"):
        check_alike([*tuned[:-1], with_config(tuned[-1], agent__lr=0.7)], ["agent.lr"])
    rows = per_head_settings(tuned, ["agent.lr"])
    assert rows == [{"setting": "agent.lr", "mse": "0.001", "c51": "0.5"}]
    by_env = [with_config(r, agent__lr=0.1) if r.env == "chain" else r for r in tuned]
    assert per_head_settings(by_env, ["agent.lr"])[0]["c51"] == "0.5 (catch), 0.1 (chain)"


def test_a_range_found_by_random_play_may_differ_between_seeds(records):
    """Its probe has the seed of the run, so it is the same for all heads with that seed."""
    found = [with_config(r, env__support=[-1.0, 1.0 + r.seed]) for r in records]
    with pytest.raises(ConfigError, match=r"env\.support"):
        check_alike(found)
    check_alike([r._replace(notes=r.notes | {"support": "auto: from 2,000 steps of random play"}) for r in found])


def test_many_differences_are_cut(make_record):
    others = [with_config(make_record(seed=2), **{f"agent__key{i}": i for i in range(12)}), make_record(seed=1)]
    with pytest.raises(ConfigError, match=r"and 4 more\n"):
        check_alike(others)
    long = [make_record(), make_record(seed=2)._replace(steps=list(range(100, 9_000, 10)))]
    with pytest.raises(ConfigError, match=r"\[100, 110, 120.* \.\.\. .*8990\]"):
        check_alike(long)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda records: [], "there are no runs to compare"),
        (lambda records: records[:-1], "c51 has not as many seeds in every environment: 2 on catch, 1 on chain"),
        (lambda records: [*records, records[-1]], "two runs of c51 on chain with seed 2: a seed counts once"),
    ],
)
def test_incomplete_comparisons_are_refused(change, message, records):
    with pytest.raises(ConfigError, match=message):
        check_alike(change(records))


def test_heads_of_one_name_are_told_apart(make_record):
    """By the options in which they differ, and by no others."""
    runs = [make_record("mse")]
    runs += [make_record("hl_gauss", **{"head.num_bins": n, "head.sigma": 0.75}) for n in (51, 101, 51)]
    assert [r.head for r in labelled(runs)] == [
        "mse",
        "hl_gauss num_bins=51",
        "hl_gauss num_bins=101",
        "hl_gauss num_bins=51",
    ]


def test_a_result_is_read_back(make_record, tmp_path):
    record = make_record(returns=[0.1, -2.5, 1 / 3])
    record.save(tmp_path / "results" / "catch+mse+s1.csv")
    assert Record.load(tmp_path / "results" / "catch+mse+s1.csv") == record
    lines = (tmp_path / "results" / "catch+mse+s1.csv").read_text().splitlines()
    assert lines[:2] == ["env,head,seed,step,return", "catch,mse,1,100,0.1"]


def test_the_record_of_a_run(run_dir, tmp_path):
    """What the files of a run say; it is trained once for all tests of this folder."""
    record = Record.of(run_dir, "label")
    assert (record.head, record.env, record.seed, record.steps) == ("label", "catch", 3, [100, 200, 300])
    assert record.updates == 0.5 * (300 - 50 - 1) // 1
    assert record.score("last") == record.returns[-1]
    assert record.score("auc") == pytest.approx((record.returns[0] / 2 + record.returns[1] + record.returns[2] / 2) / 2)
    assert record.score("final") == record.summary["best_return"]
    check_alike([record])
    with pytest.raises(ConfigError, match=r"is not finished; to go on with it: classyq resume"):
        Record.of(tmp_path)
