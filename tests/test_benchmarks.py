"""Every benchmark at a size at which it takes seconds: it runs, compares what it says, and keeps a record."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
TOY = {
    "attention_recorder.py": "--width 64 --layers 1 --questions 1 --answer 4 --rounds 1",
    "embedding.py": "--width 32 --layers 1 --passages 40 --batch 8 --rounds 1",
    "occlusion.py": "--width 64 --layers 1 --passages 2 --length 6 --rounds 1",
    "tables.py": "--rounds 1 --targets claims",
    "corpus_scale.py": "--sizes 300 600 --width 32 --questions 4",
}


def run(script: str, arguments: str, *, fails: bool = False) -> str:
    done = subprocess.run(
        [sys.executable, str(FOLDER / script), *arguments.split()], text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert (done.returncode != 0) == fails, done.stdout
    return done.stdout


ELSEWHERE = {"gpu.py", "true_shapes.py", "shapes.py", "eager_signal.py"}  # in test files of their own


def test_every_benchmark_is_tried():
    assert {path.name for path in FOLDER.glob("*.py")} == {*TOY, "common.py", *ELSEWHERE}


@pytest.mark.parametrize("script", TOY)
def test_a_benchmark_tells_ratios_and_keeps_them(script, tmp_path):
    record = tmp_path / "kept.md"
    said = run(script, f"{TOY[script]} --record {record}")
    kept = record.read_text("utf-8")
    assert re.search(r"\d times |x \d", said) and "thread(s)" in said
    assert kept.startswith("\n## ") and kept.count("|") > 8 and f"`python benchmarks/{script}" in kept
    assert str(tmp_path) not in kept
    run(script, f"{TOY[script]} --record {record}") if script == "occlusion.py" else None
    assert record.read_text("utf-8").count("\n## ") == (2 if script == "occlusion.py" else 1)  # appended, not replaced


def test_corpus_scale_fails_where_memory_grows(tmp_path, monkeypatch):
    """Judged on figures that are given to it: nothing grows, then one stage does."""
    monkeypatch.syspath_prepend(str(FOLDER))
    import common
    import corpus_scale

<<<<<<< HEAD
    monkeypatch.setattr(common, "tell", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["corpus_scale.py"])
    told = {"seconds": 1.0, "wall": 1.0, "peak": 100.0, "anonymous": 60.0, "file": 40.0, "seconds_to_open": 0.1}
    large = {**told, "seconds": 10.0}
    stages = {stage: large for stage in corpus_scale.STAGES} | {"read": told}
    options = type("Options", (), {"sizes": [100, 1000], "questions": 5, "threads": 1, "record": None})
    corpus_scale._tell({100: dict.fromkeys(corpus_scale.STAGES, told), 1000: stages}, options)
    for fault in ({"peak": 130.0}, {"seconds": 14.0}):
        grown = stages | {"embed": {**large, **fault}}
        with pytest.raises(SystemExit, match="grows with the corpus: embed"):
            corpus_scale._tell({100: dict.fromkeys(corpus_scale.STAGES, told), 1000: grown}, options)
=======

# ------------------------------------------------------------------ the GPU's sections, on a CPU


def test_correctness_agrees_and_would_tell_a_difference(tmp_path, monkeypatch):
    told, page = section("correctness", tmp_path)
    assert told["whole"] and told["rows"] and all(row["agrees"] for row in told["rows"]), page
    assert {row["what"] for row in told["rows"]} >= {"recorded attention", "signal", "reader's gradient"}
    forward = DecoderOnlyReader.forward

    def wrong(self, encoded, **how):
        output = forward(self, encoded, **how)
        if not how.get("record") or self.model.dtype != torch.bfloat16:
            return output
        return gpu.shapes.replace(output, token_attention=output.token_attention * 1.2)

    monkeypatch.setattr(DecoderOnlyReader, "forward", wrong)
    rows = list(gpu.correctness(gpu.Bench(True, 60, tmp_path)))
    assert not all(row["agrees"] for row in rows if row["what"] == "recorded attention")


def test_speed_then_profile_of_the_slowest(tmp_path):
    told, page = section("speed", tmp_path)
    assert [row["experiment"] for row in told["rows"]] == list(gpu.EXPERIMENTS) and "| step1 |" in page
    assert all(row["steps a second"] > 0 for row in told["rows"]) and told["facts"]["toy"] is True
    slowest = min(told["rows"], key=lambda row: row["steps a second"])["experiment"]
    rows = section("profile", tmp_path)[0]["rows"]
    assert {row["experiment"] for row in rows} == {slowest} and rows[0]["milliseconds a step"] > 0


def test_embedding_and_search(tmp_path):
    rates = section("embedding", tmp_path)[0]["rows"]
    assert [row["what"] for row in rates] == ["tokenising", "embedding"]
    assert all(row["passages a second"] > 0 for row in rates)
    rows = section("search", tmp_path)[0]["rows"]
    searches = [row for row in rows if row["what"].startswith("search")]
    assert len(searches) == 3 and all(row["each found itself"] and row["times the floor"] > 0 for row in searches)


def test_the_miniature_s_experiments(tmp_path):
    rows = section("miniature", tmp_path)[0]["rows"]
    assert [row["experiment"] for row in rows] == list(gpu.settings.MAIN)
    assert all(0 <= row["em"] <= row["f1"] <= 100 and 0 <= row["hr_at_5"] <= 1 for row in rows)


def test_nothing_is_begun_when_time_is_up(tmp_path, capsys):
    gpu.main(["--toy", "--minutes", "0", "--folder", str(tmp_path)])
    assert "time is up before section correctness" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_without_a_gpu_only_toys(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu.runtime, "device", lambda: "cpu")
    with pytest.raises(SystemExit):
        gpu.main(["--folder", str(tmp_path)])
    assert "there is no GPU here" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        gpu.main(["--toy", "--sections", "sped"])
    assert "no section sped" in capsys.readouterr().err
>>>>>>> gpu
