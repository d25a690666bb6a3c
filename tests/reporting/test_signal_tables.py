"""Gains over worlds and what predicts them, against sums by hand on runs that are made up."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from attention_distillation.files import InputError
from attention_distillation.reporting import signal_tables

AFTER = {"answer_match": 0.9, "attention": 0.3, "uniform": 0.45, "random": 0.4}
MASS = {"answer_match": 1.0, "attention": 0.3, "uniform": 0.4, "random": 0.4}


def made_up(worlds: int = 3, noise: float = 0.02) -> list[dict]:
    generator, rows = np.random.default_rng(0), []
    for world in range(worlds):
        for dataset in ("NQ", "TriviaQA"):
            for signal, after in AFTER.items():
                rows.append({
                    "world": f"w{world}", "dataset": dataset, "signal": signal, "teacher": "nobody", "rate": "high",
                    "skip": "none", "seed": 0, "config_hash": f"{world}", "before": 0.5,
                    "after": after + noise * generator.standard_normal(), "n": 100, "picks": MASS[signal],
                    "chance": 0.4, "mass": MASS[signal] + 0.001 * world, "entropy": 0.5, "noise": 0.1,
                    "nothing_found": 0.2, "questions": 50,
                })  # fmt: skip
    return rows


@pytest.fixture
def runs(tmp_path):
    rows = made_up()
    for world in range(3):
        signal_tables.write_runs(tmp_path / f"{world}.csv", [row for row in rows if row["world"] == f"w{world}"])
    return signal_tables.read_runs(sorted(tmp_path.glob("*.csv")))


def test_gains_are_paired_by_world_with_student_s_t(runs):
    table = signal_tables.gains(runs).set_index(["dataset", "signal"])
    row = table.loc["NQ", "attention"]
    own = runs[(runs["dataset"] == "NQ") & (runs["signal"] == "attention")].set_index("world")["after"]
    other = runs[(runs["dataset"] == "NQ") & (runs["signal"] == "uniform")].set_index("world")["after"]
    difference = own - other
    assert row["worlds"] == 3 and row["n"] == 300
    assert row["gain"] == pytest.approx((own - 0.5).mean())
    assert row["over_uniform"] == pytest.approx(difference.mean())
    low, high = stats.t.interval(0.95, 2, difference.mean(), stats.sem(difference))
    assert (row["over_uniform_low"], row["over_uniform_high"]) == (pytest.approx(low), pytest.approx(high))


def test_verdicts_need_whole_intervals_and_more_than_one_world(runs, tmp_path):
    verdicts = signal_tables.gains(runs).set_index(["dataset", "signal"])["verdict"]
    assert verdicts["NQ", "answer_match"] == "teaches" and verdicts["NQ", "attention"] == "harms"
    assert verdicts["NQ", "uniform"] != "teaches"
    one = signal_tables.gains(runs[runs["world"] == "w0"])
    assert set(one["verdict"]) == {"one world cannot tell"}
    wide = pd.DataFrame(made_up(noise=0.6))
    wide = wide.assign(gain=wide["after"] - wide["before"])
    assert set(signal_tables.gains(wide)["verdict"]) == {"cannot tell"}


def test_a_gain_below_a_random_target_s_is_not_teaching():
    rows = pd.DataFrame(made_up(noise=0.001))
    rows["gain"] = rows["after"] - rows["before"] + 0.3  # everything gains
    verdicts = signal_tables.gains(rows).set_index(["dataset", "signal"])["verdict"]
    assert verdicts["NQ", "attention"] == "cannot tell" and verdicts["NQ", "answer_match"] == "teaches"


def test_an_indicator_that_orders_the_gains_has_a_rank_correlation_of_one(runs):
    power = signal_tables.predictive_power(runs).set_index(["dataset", "indicator"])
    pairs = runs[runs["signal"] != "uniform"]
    assert (power["pairs"] == 9).all()
    row = power.loc["NQ", "mass"]
    own = runs[runs["signal"] == "uniform"].set_index(["dataset", "world"])["gain"]
    here = pairs[pairs["dataset"] == "NQ"]
    over = [gain - own["NQ", world] for gain, world in zip(here["gain"], here["world"], strict=True)]
    assert row["spearman"] == pytest.approx(stats.spearmanr(here["mass"], over).statistic)
    assert row["low"] <= row["spearman"] <= row["high"]
    assert row["wrong"] == 0 and row["wrong_always"] == 3  # only answer match gains more than uniform
    assert np.isnan(power.loc["NQ", "entropy"]["spearman"])  # it is the same everywhere


def test_a_threshold_is_chosen_on_the_other_dataset(runs):
    turned = runs.copy()
    nq = turned["dataset"] == "NQ"
    turned.loc[nq, "mass"] = -turned.loc[nq, "mass"]  # the rule of TriviaQA is wrong here
    power = signal_tables.predictive_power(turned).set_index(["dataset", "indicator"])
    assert power.loc["NQ", "mass"]["wrong"] > 0


def test_pages_say_worlds_runs_and_scale(runs):
    table = signal_tables.gains(runs)
    page = signal_tables.gains_page(table, runs)
    assert "Worlds: w0, w1, w2" in page and "24 runs, 100 test questions" in page and "not paper-scale" in page
    assert "Before training: w0 0.500, w1 0.500, w2 0.500." in page
    assert page.count("\n| attention |") == 2 and "nan" not in page
    power = signal_tables.predictive_power(runs)
    page = signal_tables.power_page(power, runs)
    assert "nan [" not in page and page.count("\n| NQ |") == len(signal_tables.INDICATORS)


def test_a_world_twice_or_a_column_lacking_is_refused(tmp_path):
    signal_tables.write_runs(tmp_path / "a.csv", made_up(1))
    signal_tables.write_runs(tmp_path / "b.csv", made_up(1))
    with pytest.raises(InputError, match="stands there twice"):
        signal_tables.read_runs([tmp_path / "a.csv", tmp_path / "b.csv"])
    pd.read_csv(tmp_path / "a.csv").drop(columns="mass").to_csv(tmp_path / "b.csv", index=False)
    with pytest.raises(InputError, match="column 'mass' is missing"):
        signal_tables.read_runs([tmp_path / "b.csv"])


def test_only_numbers_of_other_scales_are_said_not_to_be_paper_scale(runs):
    page = signal_tables.gains_page(signal_tables.gains(runs), runs)
    assert all(f"W{world} numbers are not paper-scale numbers." in page for world in range(3))
    own = runs.assign(world="paper")
    assert "not paper-scale" not in signal_tables.gains_page(signal_tables.gains(own), own)
