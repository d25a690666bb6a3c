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
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attention_distillation import files, provenance, records
from attention_distillation.data import inputs
from attention_distillation.data.passages import write_passages
from attention_distillation.files import InputError
from attention_distillation.records import Passage, Question

WORKFLOW = Path(__file__).parents[1] / "workflow"
GOOD = [{"id": "a", "title": "One", "text": "first text"}, {"id": "b", "title": "", "text": "second text"}]
ASKED = [{"id": "q0", "question": "who ?", "answers": ["me"]}, {"question": "when ?", "answers": ["now", "then"]}]


def jsonl(path: Path, *rows) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), "utf-8")
    return path


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


# ------------------------------------------------------------------ what is read


@pytest.mark.parametrize("suffix", [".jsonl", ".tsv", ".parquet"])
def test_passages_of_every_format(tmp_path, suffix):
    path = tmp_path / f"passages{suffix}"
    frame = pd.DataFrame(GOOD)
    if suffix == ".jsonl":
        jsonl(path, *GOOD, "", "   ")
    elif suffix == ".tsv":
        frame.to_csv(path, sep="\t", index=False)
    else:
        frame.to_parquet(path)
    assert list(inputs.read_passages(path)) == [Passage(**row) for row in GOOD]


@pytest.mark.parametrize("suffix", [".jsonl", ".tsv", ".parquet"])
def test_questions_of_every_format(tmp_path, suffix):
    path = tmp_path / f"questions{suffix}"
    if suffix == ".jsonl":
        jsonl(path, *ASKED)
    elif suffix == ".tsv":
        path.write_text('id\tquestion\tanswers\nq0\twho ?\t["me"]\nx-1\twhen ?\t["now", "then"]\n')
    else:
        pd.DataFrame(ASKED).to_parquet(path)
    found = inputs.read_questions(path, "x-")
    assert found == [Question("q0", "who ?", ["me"]), Question("x-1", "when ?", ["now", "then"])]


def test_a_number_as_id_and_no_title(tmp_path):
    path = jsonl(tmp_path / "p.jsonl", {"id": 7, "text": "x"})
    assert list(inputs.read_passages(path)) == [Passage("7", "", "x")]


def test_questions_without_ids_are_numbered(tmp_path):
    path = jsonl(tmp_path / "q.jsonl", *({"id": None, "question": "who ?", "answers": ["me"]} for _ in range(2)))
    assert [question.id for question in inputs.read_questions(path, "own-test-")] == ["own-test-0", "own-test-1"]


# ------------------------------------------------------------------ what is refused

SECOND = {
    "bad JSON": ('{"id": "b", "text": ', "line 2: not JSON"),
    "no object": ('["b", "text"]', "line 2: a list, where an object is needed"),
    "text missing": ({"id": "b", "txt": "x"}, "line 2: field 'text' is missing; it has id, txt"),
    "id missing": ({"text": "x"}, "line 2: field 'id' is missing"),
    "text empty": ({"id": "b", "text": " \n"}, "line 2: field 'text' is empty"),
    "text null": ({"id": "b", "text": None}, "line 2: field 'text' is missing"),
    "text a number": ({"id": "b", "text": 5}, "line 2: field 'text' is a int"),
    "title a list": ({"id": "b", "title": [], "text": "x"}, "line 2: field 'title' is a list"),
    "id true": ({"id": True, "text": "x"}, "line 2: field 'id' is a bool"),
    "id twice": ({"id": "a", "text": "x"}, "line 2: id 'a' came before (PATH, line 1)"),
    "half a character": ('{"id": "b", "text": "\\ud83d"}', "line 2: field 'text' holds half a character"),
}


@pytest.mark.parametrize("case", SECOND)
def test_malformed_passages(tmp_path, case):
    row, said = SECOND[case]
    path = jsonl(tmp_path / "p.jsonl", GOOD[0], row)
    with pytest.raises(InputError) as error:
        list(inputs.read_passages(path))
    assert str(error.value).startswith(f"{path}, ") and said.replace("PATH", str(path)) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"question": "who ?"}, "line 2: 'answers' must be a list"),
        ({"question": "who ?", "answers": "me"}, "line 2: 'answers' must be a list"),
        ({"question": "who ?", "answers": []}, "line 2: 'answers' must be a list of one or more"),
        ({"question": "who ?", "answers": ["me", " "]}, "line 2: field 'answers' is empty"),
        ({"question": "who ?", "answers": ["me", 3]}, "line 2: field 'answers' is a int"),
        ({"question": "", "answers": ["me"]}, "line 2: field 'question' is empty"),
        ({"answers": ["me"]}, "line 2: field 'question' is missing"),
        ({"question": "who ?", "answers": ["me"], "target": 3}, "line 2: field 'target' is a int"),
        ({"id": "q0", "question": "who ?", "answers": ["me"]}, "line 2: id 'q0' came before"),
        ('{"question": "who ?", "answers": ["\\udc00"]}', "line 2: field 'answers' holds half a character"),
    ],
)
def test_malformed_questions(tmp_path, row, said):
    path = jsonl(tmp_path / "q.jsonl", ASKED[0], row)
    with pytest.raises(InputError) as error:
        inputs.read_questions(path)
    assert str(error.value).startswith(f"{path}, ") and said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("line", ["b\tonly two", "b\ttitle\ttext\tone more"])
def test_a_wrong_number_of_columns(tmp_path, line):
    path = tmp_path / "p.tsv"
    path.write_text(f"id\ttitle\ttext\na\tOne\tx\n{line}\n")
    with pytest.raises(InputError, match=r"p\.tsv, line 3: not 3 tab-separated columns"):
        list(inputs.read_passages(path))


def test_a_header_that_lacks_a_column(tmp_path):
    path = tmp_path / "p.tsv"
    path.write_text("id\tbody\na\tx\n")
    with pytest.raises(InputError, match=r"p\.tsv, line 2: field 'text' is missing; it has"):
        list(inputs.read_passages(path))


@pytest.mark.parametrize("suffix", [".jsonl", ".tsv"])
def test_what_is_not_utf8_is_told(tmp_path, suffix):
    path = tmp_path / f"p{suffix}"
    path.write_bytes(b'id\ttitle\ttext\na\t\t"x"\n\xff\t\tb\n')
    if suffix == ".jsonl":
        path.write_bytes(b'{"id": "a", "text": "x"}\n{"id": "b", "text": "\xff"}\n')
    with pytest.raises(InputError, match=rf"p\{suffix}: not UTF-8 .*save it as UTF-8"):
        list(inputs.read_passages(path))


@pytest.mark.parametrize("suffix", [".jsonl", ".tsv", ".parquet"])
def test_missing_and_empty_files(tmp_path, suffix):
    path = tmp_path / f"none{suffix}"
    for read in (lambda: list(inputs.read_passages(path)), lambda: inputs.read_questions(path)):
        with pytest.raises(InputError, match=rf"none\{suffix}: no such file"):
            read()
    path.write_text("")
    for read in (lambda: list(inputs.read_passages(path)), lambda: inputs.read_questions(path)):
        with pytest.raises(InputError, match=rf"none\{suffix}: (holds no|not Parquet)"):
            read()


def test_a_row_of_a_parquet_file_is_named(tmp_path):
    pd.DataFrame([GOOD[0], {"id": "b", "title": "", "text": None}]).to_parquet(tmp_path / "p.parquet")
    with pytest.raises(InputError, match=r"p\.parquet, row 2: field 'text' is missing"):
        list(inputs.read_passages(tmp_path / "p.parquet"))


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
        assert inputs.read_questions(path) == questions


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
        "attention": np.array([0.5, 0.25], np.float32), "similarity_answer": np.array([1.0, 0.5], np.float32),
        "similarity_question": np.array([np.nan, np.nan], np.float32), "segment": ["title", "text"],
        "answer_bearing": np.array([True, True]),
    }  # fmt: skip
    path = tmp_path / "attention.parquet"
    records.write_dump(path, (columns for _ in range(250)), {"seed": 1})
    table = pq.read_table(path)
    assert table.schema.remove_metadata() == records.dump_schema() and len(table) == 500
    assert table["similarity_question"].null_count == 500 and table["similarity_answer"].null_count == 0
    assert json.loads(table.schema.metadata[b"provenance"]) == {"seed": 1}
    records.write_dump(path, [], {})
    assert len(pq.read_table(path)) == 0
