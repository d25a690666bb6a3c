"""Records: nothing half-written is taken for whole, and whatever is malformed is told with file and line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attention_distillation import files, provenance, records
from attention_distillation.data.passages import write_passages
from attention_distillation.files import InputError
from attention_distillation.records import Passage, Question

WORKFLOW = Path(__file__).parents[1] / "workflow"


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


# ------------------------------------------------------------------ half-written files


def test_a_raising_writer_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "deep" / "log.jsonl"
    files.write_jsonl(path, [{"step": 0}])

    def rows():
        yield {"step": 1}
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        files.write_jsonl(path, rows())
    assert [row for _, row in files.read_jsonl(path)] == [{"step": 0}]
    assert names(path.parent) == ["log.jsonl"]


@pytest.mark.parametrize(
    "write",
    [
        lambda path: files.write_json(path, {"a": object()}),
        lambda path: write_passages(path, iter([Passage("a", "", "x"), "no passage"])),
        lambda path: records.write_questions(path, [Question("a", "b", ["c"]), None]),
        lambda path: records.write_dump(path, [{"instance": [1]}], {}),
    ],
    ids=["json", "passages", "questions", "dump"],
)
def test_a_failed_first_writing_leaves_no_file(tmp_path, write):
    with pytest.raises((TypeError, KeyError)):
        write(tmp_path / "out")
    assert names(tmp_path) == []


def test_a_killed_writer_leaves_the_old_file(tmp_path):
    path = tmp_path / "metrics.json"
    files.write_json(path, {"em": 1})
    program = (
        "import os, signal, sys; from attention_distillation import files\n"
        "with files.replacing(sys.argv[1]) as part:\n"
        "    part.write_text('{\"em\": '); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], env={**os.environ, "PYTHONPATH": str(WORKFLOW)}, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert files.read_json(path) == {"em": 1}


def test_two_writers_of_one_file_do_not_share_a_part(tmp_path):
    with files.replacing(tmp_path / "a") as one:
        assert str(os.getpid()) in one.name and one.parent == tmp_path and one.name.startswith(".")
        one.write_text("1")
    assert names(tmp_path) == ["a"]


def test_equal_values_give_equal_bytes(tmp_path):
    files.write_json(tmp_path / "a", {"b": 1, "a": "é"})
    files.write_json(tmp_path / "b", {"a": "é", "b": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == '{\n  "a": "é",\n  "b": 1\n}\n'.encode()


# ------------------------------------------------------------------ what is no JSON


def test_json_that_is_none(tmp_path):
    (tmp_path / "a.json").write_text('{"a": 1,\n}')
    with pytest.raises(InputError, match=r"a\.json, line 2: not JSON"):
        files.read_json(tmp_path / "a.json")


# ------------------------------------------------------------------ round trips

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
FULL = TEXTS.filter(str.strip)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.builds(Question, FULL, FULL, st.lists(FULL, min_size=1, max_size=3), TEXTS),
        min_size=1, max_size=6, unique_by=lambda q: q.id,
    )
)  # fmt: skip
def test_questions_survive_writing(questions):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "questions.train.jsonl"
        records.write_questions(path, questions)
        assert records.read_questions(path) == questions


def test_retrieved_lists_and_their_facts(tmp_path):
    path = tmp_path / "retrieved.test.parquet"
    rows, scores = np.array([[4, 0], [1, 9]]), np.array([[2.5, 1.5], [0.25, -1.0]])
    records.write_retrieved(path, rows, scores, {"recall_against_exact": 0.5})
    found = records.read_retrieved(path, 10)
    assert found.dtype == np.int64 and (found == rows).all()
    assert json.loads(pq.read_schema(path).metadata[b"facts"]) == {"recall_against_exact": 0.5}
    with pytest.raises(InputError, match="passage 9 is not in the corpus of 9; delete"):
        records.read_retrieved(path, 9)


def test_a_negative_row_is_named_not_the_largest(tmp_path):
    path = tmp_path / "r.parquet"
    records.write_retrieved(path, np.array([[4, -1]]), np.zeros((1, 2)), {})
    with pytest.raises(InputError, match="passage -1 is not"):
        records.read_retrieved(path, 10)


# ------------------------------------------------------------------ hashes, provenance


def test_digests_are_short_stable_and_blind_to_order():
    assert provenance.digest({"a": 1, "b": [2, 3]}) == provenance.digest({"b": [2, 3], "a": 1}) == "fd28b17488e0"
    assert len({provenance.digest(value) for value in ({"a": 1}, {"a": 2}, {"a": "1"}, [["a", 1]], {"a": 1.5})}) == 5


def test_provenance_says_where_a_result_came_from():
    facts = provenance.provenance({"seed": 3}, device="cpu (x86_64)", dataset="nq")
    assert facts["config_hash"] == provenance.digest({"seed": 3}) and facts["dataset"] == "nq"
    assert facts["device"] == "cpu (x86_64)" and facts["commit"]
    assert facts["python"].startswith(f"{sys.version_info[0]}.{sys.version_info[1]}.")
    assert {"torch", "transformers", "numpy", "faiss-cpu", "datasets"} <= set(facts["versions"])
    assert provenance.provenance({"seed": 3}, device="cpu (x86_64)", dataset="nq") == facts  # no time of day in it
    json.dumps(facts)


def test_a_node_without_git_knows_no_commit(monkeypatch):
    """It is asked when a run has been trained: too late to fail."""
    monkeypatch.setenv("PATH", "/nowhere")
    assert provenance._commit.__wrapped__() == "none"


def test_a_dump_keeps_its_schema_and_tells_undefined_as_null(tmp_path):
    columns = {
        "instance": np.array([3, 3], np.int32), "passage": np.array([0, 0], np.int8),
        "passage_row": np.array([7, 7]), "token": np.array([0, 1], np.int16), "token_text": ["a", "b"],
        "attention": np.array([0.5, 0.25], np.float32),
        "similarity_answer": np.array([[1.0, 0.2], [0.5, 0.1]], np.float32),
        "similarity_question": np.zeros((2, 0), np.float32), "segment": ["title", "text"],
        "answer_bearing": np.array([True, True]),
    }  # fmt: skip
    path = tmp_path / "attention.parquet"
    records.write_dump(path, (columns for _ in range(250)), {"seed": 1})
    table = pq.read_table(path)
    assert table.schema.remove_metadata() == records.dump_schema() and len(table) == 500
    assert table["similarity_question"].null_count == 500 and table["similarity_answer"].null_count == 0
    assert table["similarity_answer"][1].as_py() == pytest.approx([0.5, 0.1])
    assert json.loads(table.schema.metadata[b"provenance"]) == {"seed": 1}
    records.write_dump(path, [], {})
    assert len(pq.read_table(path)) == 0
