"""The page of readings: written from any dump, its chance spread that of theory, its published numbers the paper's."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import synthetic

from attention_distillation.analysis import token_analysis as ta

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def units(request):
    sys.path.insert(0, str(ROOT / "benchmarks"))
    request.addfinalizer(lambda: sys.path.remove(str(ROOT / "benchmarks")))
    return importlib.import_module("units")


def run(script: str, *arguments) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / script), *map(str, arguments)]
    done = subprocess.run(command, text=True, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout


def dump(targets: int, instances: int = 60):
    """Answers of several tokens, similarities without ties, attention that has nothing to do with them."""
    frame = synthetic.dump_table(np.random.default_rng(0), synthetic.EFFECTS["perplexity"], instances, tokens=100)
    frame = frame.to_pandas()
    cosines = np.random.default_rng(1).random((2, len(frame), targets), dtype=np.float32)
    return frame.assign(similarity_answer=list(cosines[0]), similarity_question=list(cosines[1]))


@pytest.mark.parametrize(("unit", "near"), [("passage", 10), ("question", 50)])
def test_spread_by_chance_is_one_over_root_n_minus_one(units, unit, near):
    found = units.chance(dump(1), ta.Reading(unit), ta, draws=10)
    for cell, n in {("answer", 90): near, ("question", 95): near / 2}.items():
        assert found[cell] == (n, pytest.approx((n - 1) ** -0.5, rel=0.08))


def test_pools_of_independent_target_tokens_count_as_one_large_set(units):
    n, spread = units.chance(dump(4), ta.Reading("passage", "each"), ta, draws=10)["answer", 90]
    assert n == 40 and spread == pytest.approx(39**-0.5, rel=0.1)


def test_pools_of_equal_target_tokens_are_no_larger_than_one(units):
    frame = dump(1)
    frame["similarity_answer"] = [np.repeat(row, 4) for row in frame["similarity_answer"]]
    n, spread = units.chance(frame, ta.Reading("passage", "each"), ta, draws=10)["answer", 90]
    assert n == 40 and spread == pytest.approx(9**-0.5, rel=0.1)


def test_attention_is_shuffled_within_a_unit_and_nowhere_else(units):
    frame = dump(1, instances=3)
    for unit, keys in (("passage", ["instance", "passage"]), ("question", ["instance"])):
        shuffled = units.shuffled(frame, unit, np.random.default_rng(0))
        assert (shuffled["attention"] != frame["attention"]).mean() > 0.9
        for name, part in frame.groupby(keys):
            own = shuffled.set_index(keys).loc[name]
            assert sorted(own["attention"]) == sorted(part["attention"])


def test_impossible_rows_are_those_that_no_shares_can_give(units):
    def rows(mean, std):
        common = {"experiment": "step1", "dataset": "nq", "statistic": "attention", "target": "answer"}
        return pd.DataFrame([{**common, "percentile": "90", "mean": mean, "std": std}])

    near = {("answer", 90): 10}
    for mean, std, impossible in ((0.05, 0.04, 0), (0.05, 0.051, 1), (0.11, 0.0, 1), (0.09, 0.02, 0), (0.09, 0.04, 1)):
        assert units.impossible(rows(mean, std), near, 1.0) == impossible
    assert units.impossible(rows(0.11, 0.01), near, 5.0) == 0
    assert len(units.published_rows().query("statistic == 'attention'")) == 44
    assert units.impossible(units.published_rows(), dict.fromkeys(units.CELLS, 1e9), 1.0) == 43  # all but the slip


def test_the_page_has_every_reading_and_the_published_numbers(tmp_path):
    table = synthetic.dump_table(np.random.default_rng(0), synthetic.EFFECTS["step1"], 6)
    pq.write_table(table, tmp_path / "toy.parquet")
    run("units.py", f"toy={tmp_path / 'toy.parquet'}", f"again={tmp_path / 'toy.parquet'}", "--out",
        tmp_path / "units.md", "--draws", 1)  # fmt: skip
    page = (tmp_path / "units.md").read_text("utf-8")
    for unit in ta.READINGS["unit"]:
        for how in ta.READINGS["similarity"]:
            assert page.count(f"| {unit}, {how} |") >= 4
    for number in ("0.142", "0.297", "0.033 ± 0.016", "0.196 ± 0.349"):
        assert number in page


def test_a_dump_of_any_reader_on_any_text(tmp_path):
    passages = [{"title": f"town {n}", "text": f"ada was born in town {n} long ago"} for n in range(9)]
    asked = [{"question": f"who was born in town {n}", "answers": ["ada"]} for n in range(3)]
    for name, rows in (("passages", passages), ("asked", asked)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    run("units_dump.py", "--reader", ROOT / "workflow/pretrained/miniature/reader", "--questions", 2, "--passages",
        tmp_path / "passages.jsonl", "--asked", tmp_path / "asked.jsonl", "--out", tmp_path / "d.parquet")  # fmt: skip
    frame, _ = ta.read_dump(tmp_path / "d.parquet")
    assert frame.groupby("instance")["passage"].nunique().tolist() == [5, 5]
    rows = pq.read_table(tmp_path / "d.parquet")["passage_row"].to_numpy()
    assert rows[0] == 0 and 1 in rows  # the town that is asked for comes first
