"""Public archives to records, on small samples typed in here and, where they are, on the published files."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mirror import tar_of

from attention_distillation.data import sources
from attention_distillation.data.downloads import sha256
from attention_distillation.data.passages import Passages
from attention_distillation.data.sources import (
    counted,
    prepare_corpus,
    prepare_questions,
    read_atlas,
    read_dpr,
    read_fid_index,
    read_nq_open,
    read_triviaqa,
    seeded_index,
    select,
    split_sizes,
)
from attention_distillation.data.table import Source
from attention_distillation.files import InputError, read_json
from attention_distillation.records import Passage, read_questions
from attention_distillation.settings import WORKFLOW

DATASETS = WORKFLOW / "reference" / "datasets.csv"
RAW = Path(__file__).resolve().parents[3] / "shared" / "data" / "raw-formats"


def published(name: str) -> Path | None:
    """A published file, where this checkout has the shared data beside it."""
    return RAW / name if (RAW / name).exists() else None


# ------------------------------------------------------------------ questions

NQ = """{"question": "who wrote he ain't heavy he's my brother lyrics", "answer": ["Bobby Scott", "Bob Russell"]}
{"question": "how many seasons of the bastard executioner are there", "answer": ["one", "one season"]}
"""
TRIVIA = {
    "Data": [
        {
            "Question": "Which Lloyd Webber musical premiered in the US on 10th December 1993?",
            "QuestionId": "tc_33",
            "Answer": {"Value": "Sunset Boulevard", "Aliases": ["Sunset Blvd", "Sunset Boulevard", "Sunset Blvd"]},
            "SearchResults": [{"Description": 'brackets ]}, and "quotes"', "Rank": 0}],
        },
        {"Question": "And now?", "QuestionId": "tc_34", "Answer": {"Value": "NASA 2", "Aliases": ["The agency", " "]}},
    ],
    "Domain": "unfiltered-web",
    "Version": 1.0,
}


def test_nq_open(tmp_path):
    (tmp_path / "nq.jsonl").write_text(NQ)
    first, second = read_nq_open(tmp_path / "nq.jsonl", "nq-")
    assert (first.id, first.answers, first.target) == ("nq-0", ["Bobby Scott", "Bob Russell"], "")
    assert second.question.startswith("how many seasons")
    if path := published("NQ-open.dev.jsonl"):
        questions = read_nq_open(path, "nq-dev-")
        assert len(questions) == split_sizes(DATASETS, "nq")["test"] and questions[-1].id == "nq-dev-3609"


@pytest.mark.parametrize(
    "line", ['{"question": "q"}', '{"question": "q", "answer": []}', '{"question": 1, "answer": ["a"]}']
)
def test_faults_of_nq_open(tmp_path, line):
    (tmp_path / "nq.jsonl").write_text(NQ + line + "\n")
    with pytest.raises(InputError, match="line 3"):
        read_nq_open(tmp_path / "nq.jsonl", "")


@pytest.mark.parametrize("piece", [1, 7, 100, 1 << 20])
@pytest.mark.parametrize("order", ["published", "last"])
def test_triviaqa(tmp_path, monkeypatch, piece, order):
    content = TRIVIA if order == "published" else dict(reversed(TRIVIA.items()))
    (tmp_path / "t.json").write_text(json.dumps(content, indent=1 if piece % 2 else None))
    monkeypatch.setattr(sources._members, "__defaults__", (piece,))
    first, second = read_triviaqa(tmp_path / "t.json")
    assert (first.id, first.target) == ("tc_33", "Sunset Boulevard")
    assert first.answers == ["Sunset Blvd", "Sunset Boulevard"]
    assert second.target == "Nasa 2"  # all upper case: title-cased
    assert second.answers == ["The agency", "NASA 2"]  # Value counts, whoever forgot it; blanks do not


def test_triviaqa_as_published():
    if path := published("triviaqa_sample.json"):
        (question,) = read_triviaqa(path)
        assert question.target == "Sunset Boulevard" and "Sunset Bulevard" in question.answers


def test_sizes_are_those_of_appendix_d():
    assert split_sizes(DATASETS, "nq") == {"train": 79_168, "dev": 8_757, "test": 3_610}
    assert split_sizes(DATASETS, "triviaqa") == {"train": 78_785, "dev": 8_837, "test": 11_313}
    assert 79_168 + 8_757 == 87_925 and 78_785 + 8_837 == 87_622  # rows of the published train files


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "not JSON"),
        ('{"Version": 1}', "has no 'Data'"),
        ('{"Data": [{"Question": "q"}]}', r"Data\[0\]: needs"),
        ('{"Data": [7]}', r"Data\[0\]: needs"),
        ('{"Data": [{"Question": "q", "Answer": {"Value": "a"}}\n', "ends in the middle"),
        ('{"Data": [{"Question": "q", "Answer"', "not JSON"),
        ('{"Data": [{"Question": "q", "Answer": {"Value": "a"}};', "not JSON"),
        ("", "ends in the middle"),
    ],
)
def test_faults_of_triviaqa(tmp_path, text, message):
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_triviaqa(tmp_path / "t.json")


def test_an_empty_list_of_questions(tmp_path):
    (tmp_path / "t.json").write_text('{"Data": [], "Version": 1}')
    assert read_triviaqa(tmp_path / "t.json") == []


# ------------------------------------------------------------------ splits


@settings(max_examples=50, deadline=None)
@given(train=st.integers(0, 200), dev=st.integers(0, 200), seed=st.integers(0, 5))
def test_seeded_split_takes_every_row_once(train, dev, seed):
    sizes = {"train": train, "dev": dev, "test": 1}
    index = seeded_index(train + dev, sizes, seed)
    assert {split: len(rows) for split, rows in index.items()} == {"train": train, "dev": dev}
    assert Counter(index["train"] + index["dev"]) == Counter(range(train + dev))
    assert index == seeded_index(train + dev, sizes, seed)
    with pytest.raises(InputError, match="Appendix D"):
        seeded_index(train + dev + 1, sizes, seed)


def test_seeds_differ_and_the_projects_split_stays():
    sizes = {"train": 90, "dev": 10}
    assert seeded_index(100, sizes, 0) != seeded_index(100, sizes, 1)
    assert seeded_index(100, sizes, 0)["dev"] == [5, 33, 38, 49, 51, 53, 61, 62, 65, 97]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-2, 12), max_size=12), st.lists(st.integers(-2, 12), max_size=12))
def test_a_split_is_disjoint_and_within_the_file_or_refused(train, dev):
    index, both = {"train": train, "dev": dev}, train + dev
    if len(set(both)) == len(both) and all(0 <= row < 10 for row in both):
        assert select([str(row) for row in range(10)], index) == {
            "train": [str(row) for row in train],
            "dev": [str(row) for row in dev],
        }
    else:
        with pytest.raises(InputError, match="the split names"):
            select([str(row) for row in range(10)], index)


def test_fid_index_faults(tmp_path):
    with pytest.raises(InputError, match=r"no file 'NQ\.train\.idx\.json'"):
        read_fid_index(tmp_path, "nq")
    (tmp_path / "NQ.train.idx.json").write_text("[1, 2")
    with pytest.raises(InputError, match="line 1: not JSON"):
        read_fid_index(tmp_path, "nq")
    (tmp_path / "NQ.train.idx.json").write_text("[1, true]")
    with pytest.raises(InputError, match="no list of row numbers"):
        read_fid_index(tmp_path, "nq")


# ------------------------------------------------------------------ data sets, whole

NQ_SIZES = {"train": 3, "dev": 2, "test": 2}


@pytest.fixture
def nq(tmp_path):
    """Downloads of a small NQ-open and its FiD index; what prepare_questions is called with."""
    lines = [json.dumps({"question": f"q{row}", "answer": [f"a{row}"]}) for row in range(7)]
    (tmp_path / "train.jsonl").write_text("\n".join(lines[:5]))
    (tmp_path / "dev.jsonl").write_text("\n".join(lines[5:]))
    index = {"./NQ.train.idx.json": b"[4, 0, 2]", "./NQ.dev.idx.json": b"[3, 1]", "./NQ.test.idx.json": b"[1, 0]"}
    tar_of(tmp_path / "index.tar.gz", index)
    paths = [tmp_path / name for name in ("train.jsonl", "dev.jsonl", "index.tar.gz")]
    names = ("nq_open_train", "nq_open_dev", "fid_dataindex")
    rows = [Source(name, "file", "http://x", filename=path.name) for name, path in zip(names, paths, strict=True)]
    out = {split: tmp_path / "out" / f"questions.{split}.jsonl" for split in NQ_SIZES}

    def prepare(count=3, sizes=NQ_SIZES):
        facts = tmp_path / "out" / "facts.json"
        prepare_questions("nq", rows[:count], paths[:count], tmp_path / "lock.json", out, facts, sizes)
        found = {split: [q.question for q in read_questions(path)] for split, path in out.items()}
        return found, read_json(facts)

    prepare.paths = paths
    return prepare


def test_nq_with_fids_index(nq, tmp_path):
    found, facts = nq()
    assert found == {"train": ["q4", "q0", "q2"], "dev": ["q3", "q1"], "test": ["q5", "q6"]}
    assert facts == {"source": "nq", "split": "fid_index", "sizes": NQ_SIZES}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "facts.json",
        "questions.dev.jsonl",
        "questions.test.jsonl",
        "questions.train.jsonl",
    ]
    assert read_json(tmp_path / "lock.json")["nq_open_train"]["sha256"] == sha256(tmp_path / "train.jsonl")


def test_nq_without_it_is_split_by_seed(nq):
    found, facts = nq(2)
    assert facts == {"source": "nq", "split": "seeded", "split_seed": 0, "sizes": NQ_SIZES}
    assert sorted(found["train"] + found["dev"]) == ["q0", "q1", "q2", "q3", "q4"] and len(found["dev"]) == 2


def test_another_size_is_refused(nq):
    with pytest.raises(InputError, match=r"nq, test: 2 questions, where the paper's Appendix D has 9;"):
        nq(sizes={**NQ_SIZES, "test": 9})
    with pytest.raises(InputError, match=r"nq, train: 3 questions.* has 79,168"):
        nq(sizes=split_sizes(DATASETS, "nq"))


def test_a_download_that_changed_is_refused(nq):
    nq()
    nq.paths[1].write_text(NQ)
    with pytest.raises(InputError, match=r"dev\.jsonl: not the file that"):
        nq()


def test_triviaqa_from_its_archive(tmp_path):
    train = {"Data": [{**TRIVIA["Data"][0], "QuestionId": f"t{row}"} for row in range(4)]}
    members = {
        "triviaqa-unfiltered/unfiltered-web-train.json": json.dumps(train).encode(),
        "triviaqa-unfiltered/unfiltered-web-dev.json": json.dumps(TRIVIA).encode(),
        "triviaqa-unfiltered/unfiltered-web-test-without-answers.json": b"{}",
    }
    rows = [
        Source("triviaqa_unfiltered", "file", "http://x", filename="t.tar.gz"),
        Source("fid_dataindex", "file", "http://y", filename="i.tar.gz"),
    ]
    files = [
        tar_of(tmp_path / "t.tar.gz", members),
        tar_of(tmp_path / "i.tar.gz", {"TQA.train.idx.json": b"[3, 0, 1]", "TQA.dev.idx.json": b"[2]"}),
    ]
    out = {split: tmp_path / f"{split}.jsonl" for split in ("train", "dev", "test")}
    sizes = {"train": 3, "dev": 1, "test": 2}
    prepare_questions("triviaqa", rows, files, tmp_path / "lock.json", out, tmp_path / "facts.json", sizes)
    assert [q.id for q in read_questions(out["train"])] == ["t3", "t0", "t1"]
    assert [q.target for q in read_questions(out["test"])] == ["Sunset Boulevard", "Nasa 2"]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".unpacked")]


# ------------------------------------------------------------------ passages

DPR = (
    "id\ttext\ttitle\n"
    '1\t"Aaron Aaron ( or ; ""Ahärôn"") is a prophet, high priest"\tAaron\n'
    '2\tplain text with a " in it\t"""Weird Al"" Yankovic"\n'
)


@pytest.mark.parametrize("name", ["p.tsv", "p.tsv.gz"])
def test_dpr(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(gzip.compress(DPR.encode()) if name.endswith("gz") else DPR.encode())
    assert list(read_dpr(path)) == [
        Passage("1", "Aaron", 'Aaron Aaron ( or ; "Ahärôn") is a prophet, high priest'),
        Passage("2", '"Weird Al" Yankovic', 'plain text with a " in it'),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: the columns are not id, text, title"),
        ("id\ttitle\ttext\n", "line 1: the columns"),
        (DPR + "3\ttext\n", "line 4: 2 columns"),
        (DPR + '3\t"never closed' + "\n4\tx\ty" * 200_000, "is a quote left open"),
    ],
)
def test_faults_of_dpr(tmp_path, text, message):
    (tmp_path / "p.tsv").write_text(text)
    with pytest.raises(InputError, match=message):
        list(read_dpr(tmp_path / "p.tsv"))


def test_a_cut_off_gzip_is_named(tmp_path):
    rows = "".join(f"{row}\ttext {row * row}\ttitle\n" for row in range(5000))
    whole = gzip.compress((DPR + rows).encode())
    (tmp_path / "p.tsv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"p\.tsv\.gz: broken"):
        list(read_dpr(tmp_path / "p.tsv.gz"))


def test_atlas(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"id": "3793043", "title": "Bermuda Triangle", "section": "Compass variations", "text": " Compass problems"}\n'
        '{"id": 7, "title": "Bermuda", "section": "", "text": "An island"}\n'
        '{"id": 8, "title": "No", "text": "section"}\n'
    )
    assert list(read_atlas(path, "box/")) == [
        Passage("box/3793043", "Bermuda Triangle: Compass variations", "Compass problems"),
        Passage("box/7", "Bermuda", "An island"),
        Passage("box/8", "No", "section"),
    ]
    path.write_text('{"id": 1, "title": "t"}\n')
    with pytest.raises(InputError, match="line 1: needs 'id', 'title' and 'text'"):
        list(read_atlas(path))


def test_counted():
    passages = [Passage(str(row), "", "text") for row in range(3)]
    assert list(counted(passages, 3, "x")) == list(counted(passages, None, "x")) == passages
    with pytest.raises(InputError, match="x: 3 passages, where there should be 1,000"):
        list(counted(passages, 1000, "x"))
    with pytest.raises(InputError, match="x: 0 passages"):
        list(counted([], None, "x"))


def test_corpora_whole(tmp_path):
    (tmp_path / "p.tsv.gz").write_bytes(gzip.compress(DPR.encode()))
    row = Source("psgs_w100", "file", "http://x", filename="p.tsv.gz", passages=21_015_324)
    lock, out = tmp_path / "lock.json", tmp_path / "passages.arrow"
    with pytest.raises(InputError, match=r"2 passages, where there should be 21,015,324"):
        prepare_corpus([row], [tmp_path / "p.tsv.gz"], lock, out)
    assert not out.exists()
    assert prepare_corpus([replace(row, passages=2)], [tmp_path / "p.tsv.gz"], lock, out) == 2
    assert Passages(out)[1]["title"] == '"Weird Al" Yankovic'

    texts = [Source(name, "file", "http://x", filename=f"{name}.jsonl") for name in ("text", "infobox")]
    for number, part in enumerate(texts):
        (tmp_path / part.filename).write_text(f'{{"id": "1", "title": "t{number}", "section": "", "text": "x"}}\n')
    files = [tmp_path / part.filename for part in texts]
    assert prepare_corpus(texts, files, lock, tmp_path / "atlas.arrow") == 2
    assert Passages(tmp_path / "atlas.arrow")[[0, 1]]["id"] == ["1", "infobox/1"]


def test_memory_does_not_grow_with_the_corpus(tmp_path):
    peaks = []
    for rows in (20_000, 80_000):
        path = tmp_path / f"{rows}.tsv"
        path.write_text("id\ttext\ttitle\n" + "".join(f"{row}\t{'word ' * 20}{row}\ttitle\n" for row in range(rows)))
        prepared = Source("big", "file", "http://x", filename=path.name)
        tracemalloc.start()
        count = prepare_corpus([prepared], [path], tmp_path / f"{rows}.lock", tmp_path / f"{rows}.arrow")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert count == rows
    assert peaks[1] < 1.2 * peaks[0]
