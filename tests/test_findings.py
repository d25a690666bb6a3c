"""Readers and rates, and what fifty steps foretell: docs/findings.md says what the committed artifacts say."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from attention_distillation.reporting import signal_tables, tables

ROOT = Path(__file__).parents[1]
CACHED = [ROOT / "results" / "cached" / part for part in ("miniature", "controls")]
TEXT = " ".join((ROOT / "docs" / "findings.md").read_text("utf-8").split())
RATES = {  # what teaches: at the low rate, at the high one
    "step1's reader": ("step2", "step2_fast"),
    "step1's reader, θ 0.01": ("step2_theta_0.01", "step2_fast_theta_0.01"),
    "the initial reader": ("frozen_checkpoint", "frozen_checkpoint_fast"),
    "trained beside it": ("off_the_shelf_slow", "off_the_shelf"),
    "trained beside it, θ 0.01": (None, "off_the_shelf_theta_0.01"),
    "T5": ("atlas_slow", "atlas"),
}


def runs(name: str) -> dict[tuple[str, str, str], Path]:
    """A file of every run that is committed, by dataset, experiment and seed."""
    return {
        (path.parts[-4], path.parts[-3], path.parts[-2]): path
        for folder in CACHED
        for path in sorted(folder.glob(f"*/*/seed*/{name}"))
    }


def hit_rates(experiment: str, dataset: str) -> list[float]:
    found = runs("metrics.json")
    return [json.loads(found[dataset, experiment, f"seed{seed}"].read_text())["hr_at_5"] for seed in range(3)]


def cell(experiment: str, dataset: str) -> str:
    """Mean over seeds 0 to 2, lowest and highest, as the page has it."""
    values = hit_rates(experiment, dataset)
    return f"{sum(values) / 3:.3f} ({min(values):.3f} to {max(values):.3f})"


@pytest.mark.parametrize("experiment", [name for pair in RATES.values() for name in pair if name] + ["step2_uniform"])
def test_the_table_of_readers_and_rates(experiment):
    assert f"{cell(experiment, 'nq')} `{experiment}`" in TEXT
    assert cell(experiment, "triviaqa") in TEXT


def test_at_the_high_rate_all_are_ruined_and_at_the_low_one_none():
    ruined = {"low": [], "high": []}
    for pair in RATES.values():
        for rate, experiment in zip(ruined, pair, strict=True):
            for dataset, start in (("nq", 0.428), ("triviaqa", 0.534)):
                ruined[rate] += [value < start - 0.1 for value in hit_rates(experiment, dataset)] if experiment else []
    assert all(ruined["high"]) and not any(ruined["low"])
    high, low = len(ruined["high"]), len(ruined["low"])
    assert f"in {high} of {high} runs; at the low rate none does, in {low} of {low}" in TEXT


def test_what_the_first_fifty_steps_foretell():
    ruined = others = told = alarms = 0
    for path in runs("log.jsonl").values():
        log = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        if log[-1]["retriever_loss"] is None:
            continue
        start, end = log[0]["hr_at_5"], log[-1]["hr_at_5"]
        seen = [row for row in log[1:] if row["step"] <= 50][-1]
        if seen is log[-1]:  # T5's 40 steps: what is seen is the end itself
            continue
        below = seen["hr_at_5"] < start
        if end < start - 0.1:
            ruined, told = ruined + 1, told + below
        else:
            others, alarms = others + 1, alarms + below
    assert told == ruined
    assert f"{ruined} of the {ruined + others} longer runs here that train a retriever" in TEXT
    assert f"of the {others} others {('none', 'one', 'two', 'three')[alarms]}" in TEXT
    words = " ".join((ROOT / "README.md").read_text("utf-8").split())
    assert f"all {ruined} that ruined their retriever were below its initial HR@5 after 50 steps" in words
    assert f"of {others} others {('none', 'one', 'two', 'three')[alarms]}" in words


def test_the_intervals_of_step2_against_step1(tmp_path):
    paths = []
    for (dataset, experiment, seed), path in runs("predictions.jsonl.gz").items():
        if experiment in ("step1", "step2"):
            paths.append(tmp_path / dataset / experiment / seed / "predictions.jsonl")
            paths[-1].parent.mkdir(parents=True)
            paths[-1].write_bytes(gzip.decompress(path.read_bytes()))
    measures = tables.score_measures(tables.read_predictions(paths), 2000)
    rows = tables.difference_rows(measures, [("step2", "step1")]).set_index(["dataset", "statistic"])
    for dataset, title in (("nq", "NQ"), ("triviaqa", "TriviaQA")):
        told = [
            f"{words} +{row['mean']:.{digits}f} ({row['ci_low']:.{digits}f} to {row['ci_high']:.{digits}f})"
            for words, name, digits in (("EM", "em", 1), ("F1", "f1", 1), ("HR@5", "hr_at_5", 3))
            for row in [rows.loc[dataset, name]]
        ]
        assert f"{title} {', '.join(told)}" in TEXT


# ------------------------------------------------------------------ the comparison of signals


@pytest.fixture(scope="module")
def signal_runs():
    return signal_tables.read_runs(sorted((ROOT / "results" / "cached" / "signals").glob("*.csv")))


def signed(mean: float, low: float, high: float) -> str:
    return f"{mean:+.3f} ({low:.3f} to {high:.3f})".replace("-", "−")


def test_the_table_of_signals(signal_runs):
    for (signal, teacher), part in signal_runs.groupby(["signal", "teacher"]):
        row = f"| `{signal}`" + ("" if teacher == "nobody" else f", {teacher.replace('_', '-')} reader")
        for rate in ("low", "high"):
            for skip in ("none", "nothing_found"):
                values = part[(part["rate"] == rate) & (part["skip"] == skip)]["after"]
                spread = f"{values.min():.3f} to {values.max():.3f}; " if len(values) > 1 else ""
                row += f" | {values.mean():.3f} ({spread}{len(values)})"
        assert row + " |" in TEXT


def test_the_gains_of_signals(signal_runs):
    gains = signal_tables.gains(signal_runs).set_index(["signal", "teacher", "rate", "skip"])
    said = {
        ("perplexity", "untouched", "high"): ("gain", "over_uniform"),
        ("perplexity", "fine_tuned", "high"): ("gain", "over_uniform"),
        ("answer_match", "nobody", "high"): ("gain",),
        ("uniform", "nobody", "high"): ("gain",),
        ("random", "nobody", "high"): ("gain",),
        ("attention", "untouched", "high"): ("gain",),
        ("attention_centred", "fine_tuned", "high"): ("gain", "over_uniform"),
        ("attention", "fine_tuned", "low"): ("gain", "over_uniform"),
    }
    for key, names in said.items():
        row = gains.loc[(*key, "nothing_found")]
        for name in names:
            assert signed(row[name], row[f"{name}_low"], row[f"{name}_high"]) in TEXT, (key, name)
    low = gains.loc[(slice(None), slice(None), "low", "nothing_found"), :]
    low = low[(low["worlds"] > 1) & (low.index.get_level_values("signal") != "uniform")]
    assert len(low) and (low["over_uniform_low"] < 0).all() and (low["over_uniform_high"] > 0).all()


def test_what_orders_the_gains(signal_runs):
    power = signal_tables.predictive_power(signal_runs).set_index(["rate", "skip", "indicator"])
    words = " ".join((ROOT / "README.md").read_text("utf-8").split())
    row = power.loc["high", "nothing_found", "mass"]
    ends = f"{row['spearman']:.3f} ({row['low']:.3f} to {row['high']:.3f}; {row['pairs']} runs"
    assert ends in TEXT and ends in words
    for indicator in ("picks", "entropy"):
        row = power.loc["high", "nothing_found", indicator]
        assert f"{row['spearman']:.3f} ({row['low']:.3f} to {row['high']:.3f})".replace("-", "−") in TEXT
