"""Every benchmark at a size at which it takes seconds: it runs, compares what it says, and keeps a record."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import models
import pytest
import tiny

FOLDER = Path(__file__).parents[1] / "benchmarks"
TOY = {
    "attention_recorder.py": "--width 64 --layers 1 --questions 1 --answer 4 --rounds 1",
    "embedding.py": "--width 32 --layers 1 --passages 40 --batch 8 --rounds 1",
    "occlusion.py": "--width 64 --layers 1 --passages 2 --length 6 --rounds 1",
    "tables.py": "--rounds 1 --targets claims",
    "corpus_scale.py": "--sizes 300 600 --width 32 --questions 4 --reads 4",
}


def run(script: str, arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(FOLDER / script), *arguments.split()], text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    judged = script == "corpus_scale.py" and "grows with the corpus" in done.stdout  # at this size that means nothing
    assert done.returncode == 0 or judged, done.stdout
    return done.stdout


ELSEWHERE = {
    "real_models.py",
    "gpu.py",
    "true_shapes.py",
    "eager_signal.py",
    "units.py",
    "units_dump.py",
}  # in tests of their own


def test_every_benchmark_is_tried():
    scripts = {path.name for path in FOLDER.glob("*.py") if "__main__" in path.read_text("utf-8")}
    assert scripts == {*TOY, *ELSEWHERE}


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


def test_real_models_tells_what_is_recorded_and_what_is_retrieved(tmp_path):
    models.reader("llama_grouped").save(tmp_path / "reader")
    tiny.bert().save(tmp_path / "retriever")
    rows = [
        {"id": str(row), "title": title, "text": text} for row, (title, text) in enumerate(sum(models.PASSAGES, []))
    ]
    asked = [{"question": models.QUESTIONS[0], "answers": ["acorn autumn"]}]
    for name, lines in (("passages", rows), ("test", asked)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    record = tmp_path / "kept.md"
    places = f"--reader {tmp_path / 'reader'} --retriever {tmp_path / 'retriever'} --k 3 --record {record}"
    run("real_models.py", f"{tmp_path} {places}")
    values = dict(re.findall(r"\| (HR@\d+|a_t|answer's loss)[^|]*\| +([\d.e+-]+)", record.read_text("utf-8")))
    assert 0 < float(values["a_t"]) < 1e-5 and float(values["answer's loss"]) < 1e-5
    assert float(values["HR@20"]) == 1  # the only answer is in one of all six passages, and all are found


def test_corpus_scale_fails_where_memory_grows(tmp_path, monkeypatch):
    """Judged on figures that are given to it: nothing grows, then one stage does."""
    monkeypatch.syspath_prepend(str(FOLDER))
    import common
    import corpus_scale

    monkeypatch.setattr(common, "tell", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["corpus_scale.py"])
    told = {"seconds": 1.0, "wall": 1.0, "peak": 100.0, "anonymous": 60.0, "file": 40.0, "seconds_to_open": 0.1}
    large = {**told, "seconds": 10.0}
    stages = {stage: large for stage in corpus_scale.STAGES} | {"read": told}
    options = type("Options", (), {"sizes": [100, 1000], "reads": 5, "threads": 1, "record": None})
    corpus_scale._tell({100: dict.fromkeys(corpus_scale.STAGES, told), 1000: stages}, options)
    for fault in ({"peak": 130.0}, {"seconds": 14.0}):
        grown = stages | {"embed": {**large, **fault}}
        with pytest.raises(SystemExit, match="grows with the corpus: embed"):
            corpus_scale._tell({100: dict.fromkeys(corpus_scale.STAGES, told), 1000: grown}, options)
