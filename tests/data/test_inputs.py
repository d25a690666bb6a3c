"""Users' files: each published form is read as its makers meant it, or refused with file, line, cause and remedy."""

# ruff: noqa: E501 (a case is a line)

from __future__ import annotations

import csv
import gzip
import io
import json
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attention_distillation.data import inputs
from attention_distillation.files import InputError
from attention_distillation.records import Passage, Question

CASES = Path(__file__).parents[3] / "shared" / "cases" / "formats"
TEXT = "The mayor of Town {} is called Name{}."
PASSAGES = [Passage(str(n), f"Town {n}", TEXT.format(n, n)) for n in range(3)]
UNTITLED = [Passage(p.id, "", p.text) for p in PASSAGES]
QUESTIONS = [Question(f"x-{n}", f"who is the mayor of town {n}", [f"Name{n}"]) for n in range(3)]
NAMED = [Question(f"q{n}", q.question, q.answers) for n, q in enumerate(QUESTIONS)]
TARGETED = [Question(q.id, q.question, q.answers, q.answers[0]) for q in NAMED]


def lines(rows) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def table(*rows, separator="\t") -> bytes:
    return "".join(separator.join(map(str, row)) + "\n" for row in rows).encode()


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as file:
        file.write(data)
    return sink.getvalue().to_pybytes()


def parquet(rows) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def arrow(rows, whole=False) -> bytes:
    made, sink = pa.Table.from_pylist(rows), io.BytesIO()
    with (pa.ipc.new_file if whole else pa.ipc.new_stream)(sink, made.schema) as writer:
        writer.write_table(made)
    return sink.getvalue()


def typed(**columns) -> bytes:
    made, sink = pa.table(columns), io.BytesIO()
    with pa.ipc.new_stream(sink, made.schema) as writer:
        writer.write_table(made)
    return sink.getvalue()


def put(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def passages(path, reading=None) -> list[Passage]:
    return list(inputs.read_passages(path, reading))


def questions(path, reading=None) -> list[Question]:
    return inputs.read_questions(path, "x-", reading)


# ------------------------------------------------------------------ passages that are read

ROWS = [vars(passage) for passage in PASSAGES]
PLAIN = lines(ROWS)
TSV = table(("id", "title", "text"), *((p.id, p.title, p.text) for p in PASSAGES))
COLLECTION = table(*((p.id, p.text) for p in PASSAGES))
SAID = [Passage(p.id, p.title, f'He said "hello" in {p.text}') for p in PASSAGES]
DPR = table(("id", "text", "title"), *((p.id, '"' + p.text.replace('"', '""') + '"', p.title) for p in SAID))

READ = {
    "jsonl": ("p.jsonl", PLAIN, PASSAGES),
    "Windows line ends": ("p.jsonl", PLAIN.replace(b"\n", b"\r\n"), PASSAGES),
    "blank lines": ("p.jsonl", b"\n" + PLAIN.replace(b"\n", b"\n  \n"), PASSAGES),
    "a mark of UTF-8": ("p.jsonl", b"\xef\xbb\xbf" + PLAIN, PASSAGES),
    "no last line end": ("p.jsonl", PLAIN[:-1], PASSAGES),
    "gzip": ("p.jsonl.gz", gzip.compress(PLAIN), PASSAGES),
    "gzip in parts": ("p.jsonl.gz", gzip.compress(PLAIN[:100]) + gzip.compress(PLAIN[100:]), PASSAGES),
    "zstd": ("p.jsonl.zst", zstd(PLAIN), PASSAGES),
    "zstd in parts": ("p.jsonl.zst", zstd(PLAIN[:100]) + zstd(PLAIN[100:]), PASSAGES),
    "tsv": ("p.tsv", TSV, PASSAGES),
    "tsv, Windows line ends": ("p.tsv", TSV.replace(b"\n", b"\r\n"), PASSAGES),
    "tsv, a mark of UTF-8": ("p.tsv", b"\xef\xbb\xbf" + TSV, PASSAGES),
    "tsv, packed": ("P.TSV.GZ", gzip.compress(TSV), PASSAGES),
    "csv": ("p.csv", TSV.replace(b"\t", b","), PASSAGES),
    "csv, quoted": (
        "p.csv",
        b'id,title,text\r\n1,"a, b","one ""two""\nthree"\r\n',
        [Passage("1", "a, b", 'one "two"\nthree')],
    ),
    "json list": ("p.json", json.dumps(ROWS).encode(), PASSAGES),
    "json list, indented": ("p.json", json.dumps(ROWS, indent=2).encode(), PASSAGES),
    "json list, a mark of UTF-8, packed": ("p.json.zst", zstd(b"\xef\xbb\xbf" + json.dumps(ROWS).encode()), PASSAGES),
    "json lines under .json": ("p.json", PLAIN, PASSAGES),
    "one row under .json": ("p.json", PLAIN.splitlines()[0], PASSAGES[:1]),
    "parquet": ("p.parquet", parquet(ROWS), PASSAGES),
    "parquet, packed": ("p.parquet.gz", gzip.compress(parquet(ROWS)), PASSAGES),
    "arrow stream": ("data-00000-of-00001.arrow", arrow(ROWS), PASSAGES),
    "arrow file": ("p.arrow", arrow(ROWS, whole=True), PASSAGES),
    "arrow, packed": ("p.arrow.zst", zstd(arrow(ROWS)), PASSAGES),
    "BEIR": ("c.jsonl", lines({"_id": p.id, "title": p.title, "text": p.text, "metadata": {}} for p in PASSAGES), PASSAGES),
    "Tevatron": ("c.jsonl", lines({"docid": p.id, "title": p.title, "text": p.text} for p in PASSAGES), PASSAGES),
    "FlashRAG": ("c.jsonl", lines({"id": p.id, "contents": f'"{p.title}"\n{p.text}'} for p in PASSAGES), PASSAGES),
    "pyserini, titled": ("c.jsonl", lines({"id": p.id, "contents": f"{p.title}\n{p.text}"} for p in PASSAGES), PASSAGES),
    "pyserini": ("c.jsonl", lines({"id": p.id, "contents": p.text} for p in PASSAGES), UNTITLED),
    "contents beside a title": (
        "c.jsonl",
        lines({"id": p.id, "title": p.title, "contents": f"{p.title}\n{p.text}"} for p in PASSAGES),
        PASSAGES,
    ),
    "contents beside another title": (
        "c.jsonl",
        lines({"id": p.id, "title": p.title, "contents": f"one\n{p.text}"} for p in PASSAGES),
        [Passage(p.id, p.title, f"one\n{p.text}") for p in PASSAGES],
    ),
    "Atlas": (
        "c.jsonl",
        lines({**row, "section": "History"} for row in ROWS),
        [Passage(p.id, f"{p.title}: History", p.text) for p in PASSAGES],
    ),
    "Atlas without a section": ("c.jsonl", lines({**row, "section": ""} for row in ROWS), PASSAGES),
    "DPR": ("psgs_w100.tsv", DPR, SAID),
    "DPR, a cell in quotes": ("p.tsv", table(("id", "text", "title"), (1, '"x"', '"y z"')), [Passage("1", "y z", "x")]),
    "MS MARCO": ("collection.tsv", COLLECTION, UNTITLED),
    "tsv, quotes are text": (
        "p.tsv",
        table(("id", "text"), (1, '"Heroes" is a song'), (2, '"Open'), (3, '"A" or "B"'), (4, '"Heroes"'), (5, '"""')),
        [Passage(str(n), "", t) for n, t in enumerate(['"Heroes" is a song', '"Open', '"A" or "B"', '"Heroes"', '"""'], 1)],
    ),
    "tsv of a writer that quotes all": ("p.tsv", b'"id"\t"text"\n"1"\t"x ""y"""\n', [Passage("1", "", 'x "y"')]),
    "title null": ("p.jsonl", lines({**row, "title": None} for row in ROWS), UNTITLED),
    "parquet, title null": ("p.parquet", parquet([{**row, "title": None} for row in ROWS]), UNTITLED),
    "no title": ("p.jsonl", lines({"id": p.id, "text": p.text} for p in PASSAGES), UNTITLED),
    "a title here and there": ("p.jsonl", lines([{"id": "0", "text": PASSAGES[0].text}, ROWS[1]]), [UNTITLED[0], PASSAGES[1]]),
    "whole numbers as ids": ("p.jsonl", lines({**row, "id": int(row["id"])} for row in ROWS), PASSAGES),
    "text or contents": ("p.jsonl", lines({**row, "contents": "longer"} for row in ROWS), PASSAGES),
    "line separators in text": ("p.tsv", "id\ttext\n1\tone\u2028two\x85three\x0bfour\x0c\n".encode(), [Passage("1", "", "one\u2028two\x85three\x0bfour\x0c")]),
    "a nought in text": ("p.jsonl", lines([{"id": "1", "text": "a\0b"}]), [Passage("1", "", "a\0b")]),
    "a million letters": ("p.tsv", table(("id", "text"), (1, "word " * 200_000)), [Passage("1", "", "word " * 200_000)]),
    "control tokens": ("p.jsonl", lines([{"id": "1", "text": "one </s> two [SEP]"}]), [Passage("1", "", "one </s> two [SEP]")]),
    "an unnamed column": ("p.csv", b",id,text\n0,a,x\n", [Passage("a", "", "x")]),
    "strings of other Arrow types": (
        "p.arrow",
        typed(id=pa.array(["0"]).dictionary_encode(), title=pa.array([""], pa.large_string()), text=pa.array(["x"], pa.string_view())),
        [Passage("0", "", "x")],
    ),
    "embeddings beside": ("p.parquet", parquet([{**row, "emb": [0.5] * 4} for row in ROWS]), PASSAGES),
}  # fmt: skip


@pytest.mark.parametrize("case", READ)
def test_passages_are_read(tmp_path, case):
    name, data, expected = READ[case]
    assert passages(put(tmp_path, name, data)) == expected


# ------------------------------------------------------------------ passages that are refused


def changed(**fields) -> bytes:
    """Three rows, the second of them changed."""
    return lines([ROWS[0], {**ROWS[1], **fields}, ROWS[2]])


def second(line: bytes) -> bytes:
    return PLAIN.splitlines()[0] + b"\n" + line + b"\n"


REFUSED = {
    "no JSON": ("p.jsonl", second(b'{"id": "b", "text": '), "line 2: not JSON .*one object a line"),
    "no object": ("p.jsonl", second(b'["b"]'), "line 2: a list, where an object is needed"),
    "a field twice": ("p.jsonl", second(b'{"id": "b", "text": "x", "text": "y"}'), "line 2: field 'text' stands there twice"),
    "a list as .jsonl": ("p.jsonl", json.dumps(ROWS, indent=1).encode(), "line 1: not JSON .*a list of objects is named .json"),
    "text missing": ("p.jsonl", second(b'{"id": "b", "txt": "x"}'), "line 2: field 'text' is missing; it has id, txt .*contents"),
    "id missing": ("p.jsonl", second(b'{"text": "x"}'), "line 2: field 'id' is missing; it has text .*_id, docid"),
    "KILT's knowledge source": ("k.json", lines([{"wikipedia_id": 0, "text": ["a"]}]), "line 1: field 'id' is missing; it has wikipedia_id, text"),
    "upper case": ("p.tsv", b"ID\tText\n1\tx\n", "line 2: field 'id' is missing; it has ID, Text"),
    "blanks in the header": ("p.tsv", b"id \ttext\n1\tx\n", "line 2: field 'id' is missing; it has 'id ', text"),
    "text empty": ("p.jsonl", changed(text=" \n"), "line 2: field 'text' is empty"),
    "text of no width": ("p.jsonl", changed(text="\u200b\ufeff\u2060"), "line 2: field 'text' is empty"),
    "text of fillers": ("p.jsonl", changed(text="\u3164\u2800\u00ad"), "line 2: field 'text' is empty"),
    "text null": ("p.jsonl", changed(text=None), "line 2: field 'text' is null"),
    "text a number": ("p.jsonl", changed(text=5), "line 2: field 'text' is a number, .*in quotes"),
    "text not a number": ("p.jsonl", b'{"id": "1", "text": NaN}\n', "line 1: field 'text' is NaN"),
    "title a list": ("p.jsonl", changed(title=[]), "line 2: field 'title' is a list"),
    "title a number": ("p.jsonl", changed(title=1984), "line 2: field 'title' is a number"),
    "section a number": ("p.jsonl", changed(section=3), "line 2: field 'section' is a number"),
    "id true": ("p.jsonl", changed(id=True), r"line 2: field 'id' is a truth value \(True\)"),
    "id a fraction": ("p.jsonl", changed(id=1.0), r"line 2: field 'id' is a number \(1.0\)"),
    "id an object": ("p.jsonl", changed(id={"a": 1}), "line 2: field 'id' is an object"),
    "id empty": ("p.jsonl", changed(id=""), "line 2: field 'id' is empty"),
    "id null": ("p.jsonl", changed(id=None), "line 2: field 'id' is null"),
    "id twice": ("p.jsonl", changed(id="0"), r"line 2: id '0' came before \(.*p\.jsonl, line 1\)"),
    "id twice, once a number": ("p.jsonl", changed(id=0), "line 2: id '0' came before"),
    "half a letter": ("p.jsonl", second(b'{"id": "b", "text": "\\ud83d"}'), "line 2: field 'text' holds half a character"),
    "half a letter in a list": ("p.json", b'[{"id": "b", "text": "\\ud83d"}]', "line 1: field 'text' holds half a character"),
    "deep": ("p.jsonl", b"[" * 100_000 + b"\n", "line 1: "),
    "contents of a title alone": ("p.jsonl", lines([{"id": "1", "contents": "Title\n"}]), "line 1, after its first line: field 'contents' is empty"),
    "too few columns": ("p.tsv", TSV + b"9\ttwo\n", "line 5: 2 tab-separated columns, where the header has 3"),
    "too many columns": ("p.tsv", TSV + b"9\ta\tb\tc\n", "line 5: 4 tab-separated columns"),
    "a line break in a tsv's quotes": ("p.tsv", b'id\ttitle\ttext\n1\ta\t"one\ntwo"\n', "line 3: 1 tab-separated columns"),
    "two columns of one name": ("p.tsv", b"id\ttext\ttext\n1\ta\tb\n", "line 1: two columns are called 'text'"),
    "two columns of one name, csv": ("p.csv", b"id,text,id\n1,a,b\n", "line 1: two columns are called 'id'"),
    "a carriage return": ("p.tsv", b"id\ttext\n0\tone\rtwo\n", "line 2: a carriage return"),
    "a Macintosh's line ends": ("p.tsv", b"id\ttext\r0\tone\r", "line 1: a carriage return"),
    "no header": ("p.tsv", table((0, "Town", "a town"), (1, "Town", "a town")), "line 1: no header line; .*id, title, text"),
    "commas in a tsv": ("p.tsv", b"id,title,text\n1,a,b\n", "line 1: one column, .*commas: name it .csv"),
    "semicolons in a tsv": ("p.tsv", b"id;title;text\n1;a;b\n", "line 1: one column, .*';'"),
    "semicolons in a csv": ("p.csv", b"id;title;text\n1;a;b\n", "line 1: one column, .*';'"),
    "tabs in a csv": ("p.csv", TSV, "line 1: one column, .*tabs: name it .tsv"),
    "a quote left open in a csv": ("p.csv", b'id,text\n1,a\n2,"b\n3,c\n', "line 3: not CSV"),
    "a letter after a quote in a csv": ("p.csv", b'id,text\n1,"a" b\n', "line 2: not CSV"),
    "too few columns, csv": ("p.csv", b"id,text\n1,a\n2\n", "line 3: 1 comma-separated columns"),
    "Latin-1": ("p.jsonl", second('{"id": "b", "text": "Zürich"}'.encode("latin-1")), "line 2: not UTF-8 .*byte 0xfc.*save it as UTF-8"),
    "Latin-1, tsv": ("p.tsv", TSV + "9\ta\tZürich\n".encode("latin-1"), "line 5: not UTF-8"),
    "Latin-1, json": ("p.json", '[{"id": "b", "text": "Zürich"}]'.encode("latin-1"), "not UTF-8 .*byte 0xfc"),
    "UTF-16": ("p.jsonl", PLAIN.decode().encode("utf-16"), "UTF-16, not UTF-8; .*iconv"),
    "UTF-16 without a mark": ("p.tsv", TSV.decode().encode("utf-16-be"), "UTF-16 or binary, not UTF-8"),
    "empty": ("p.jsonl", b"", "holds no passage"),
    "a header alone": ("p.tsv", b"id\ttitle\ttext\n", "holds no passage"),
    "an empty list": ("p.json", b"[]", "holds no passage"),
    "empty, packed": ("p.jsonl.gz", gzip.compress(b""), "holds no passage"),
    "empty, not packed": ("p.jsonl.gz", b"", "holds no passage"),
    "cut gzip": ("p.jsonl.gz", gzip.compress(PLAIN * 50)[:-20], "broken or cut short"),
    "cut zstd": ("p.jsonl.zst", zstd(PLAIN * 50)[:-5], "broken or cut short"),
    "no gzip": ("p.jsonl.gz", PLAIN, "not packed by gzip, as its name says"),
    "zstd as gzip": ("p.jsonl.gz", zstd(PLAIN), "not packed by gzip"),
    "gzip by another name": ("p.jsonl", gzip.compress(PLAIN), r"packed by gzip; name it p\.jsonl\.gz"),
    "Git LFS": ("p.jsonl", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "a pointer of Git LFS"),
    "Git LFS, parquet": ("p.parquet", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS"),
    "parquet by another name": ("p.jsonl", parquet(ROWS), "a .parquet file, which its name does not say; name it .parquet"),
    "cut parquet": ("p.parquet", parquet(ROWS)[:-50], "broken or cut short"),
    "no parquet": ("p.parquet", PLAIN, "broken or cut short"),
    "cut arrow": ("p.arrow", arrow(ROWS * 100)[:-900], "broken or cut short"),
    "parquet, bytes": ("p.parquet", parquet([{"id": "0", "text": b"x"}]), "row 1: field 'text' is bytes"),
    "parquet, fractions": ("p.parquet", parquet([{**row, "id": 0.5} for row in ROWS]), "row 1: field 'id' is a number"),
    "parquet, no text": ("p.parquet", parquet([{"id": "0", "body": "x"}]), "row 1: field 'text' is missing; it has id, body"),
    "parquet, no field at all": ("p.parquet", parquet([{"a": 1}]), "row 1: field 'id' is missing; it has a "),
    "arrow, no field at all": ("p.arrow", arrow([{"a": 1}]), "row 1: field 'id' is missing; it has a "),
    "parquet, text null": ("p.parquet", parquet([ROWS[0], {**ROWS[1], "text": None}]), "row 2: field 'text' is null"),
    "another suffix": ("p.txt", PLAIN, r"not one of the forms that are read \(.jsonl"),
    "a zip": ("p.zip", b"PK\3\4", "not one of the forms"),
    "a zip by another name": ("p.jsonl", b"PK\3\4" + b"x" * 60, "a .zip file, .*unpack it"),
    "a list cut short": ("p.json", json.dumps(ROWS).encode()[:-20], "line 1: not JSON"),
    "a list with more behind it": ("p.json", json.dumps(ROWS).encode() + b"{}", "line 1: more after the list's end"),
    "a comma missing in a list": ("p.json", json.dumps(ROWS, indent=1).encode().replace(b"},", b"}"), "line 7: not JSON .*, or ] is missing"),
    "a list of lists": ("p.json", b'[\n["a"]]', "line 2: a list, where an object"),
    "a number": ("p.json", b"5", "line 1: a number, where an object"),
    "a field twice in a list": ("p.json", b'[{"id": "b", "text": "x", "text": "y"}]', "line 1: not JSON .field 'text' stands there twice"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_passages_are_refused(tmp_path, case):
    name, data, said = REFUSED[case]
    refused(put(tmp_path, name, data), passages, said)


def refused(path: Path, read, said: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        read(path)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


# ------------------------------------------------------------------ questions that are read


def asked(**made) -> bytes:
    """Rows of three questions; each field is made of the question."""
    return lines({name: make(q) for name, make in made.items()} for q in NAMED)


def number(question: Question) -> str:
    return question.question.rsplit(" ", 1)[1]


SQUAD = {
    "version": "v2.0",
    "data": [
        {"title": "T", "paragraphs": [{"context": "c", "qas": [
            {"id": q.id, "question": q.question, "is_impossible": False, "answers": [{"text": a, "answer_start": 0} for a in q.answers]}
        ]}]}
        for q in NAMED
    ],
}  # fmt: skip
TRIVIA = {
    "Data": [
        {"Answer": {"Aliases": q.answers, "NormalizedAliases": ["n"], "Value": q.answers[0]}, "Question": q.question, "QuestionId": q.id}
        for q in NAMED
    ],
    "Domain": "web",
}  # fmt: skip
NQ = [{"question": q.question, "answer": q.answers} for q in QUESTIONS]
POPQA = table(
    ("id", "subj", "question", "possible_answers"),
    *((q.id, "s", q.question, f'"[""{q.answers[0]}""]"') for q in NAMED),
)
QA = table(*((q.question, q.answers) for q in QUESTIONS))
KILT = [
    {"id": q.id, "input": q.question, "output": [{"provenance": []}, {"answer": q.answers[0], "provenance": []}]} for q in NAMED
]  # fmt: skip

ASKED = {
    "jsonl": ("q.jsonl", asked(id=lambda q: q.id, question=lambda q: q.question, answers=lambda q: q.answers), NAMED),
    "without ids": ("q.jsonl", asked(question=lambda q: q.question, answers=lambda q: q.answers), QUESTIONS),
    "ids null": ("q.jsonl", asked(id=lambda q: None, question=lambda q: q.question, answers=lambda q: q.answers), QUESTIONS),
    "whole numbers as ids": (
        "q.jsonl",
        asked(id=lambda q: int(number(q)), question=lambda q: q.question, answers=lambda q: q.answers),
        [Question(number(q), q.question, q.answers) for q in NAMED],
    ),
    "tsv": ("q.tsv", table(("question", "answers"), *((q.question, json.dumps(q.answers)) for q in QUESTIONS)), QUESTIONS),
    "tsv, a mark of UTF-8": (
        "q.tsv",
        b"\xef\xbb\xbf" + table(("id", "question", "answers"), *((q.id, q.question, json.dumps(q.answers)) for q in NAMED)),
        NAMED,
    ),
    "csv": ("q.csv", b'question,answers\nwho,"[""me"", ""you, too""]"\n', [Question("x-0", "who", ["me", "you, too"])]),
    "json": ("q.json", json.dumps([vars(q) for q in NAMED]).encode(), NAMED),
    "parquet": ("q.parquet", parquet([{"question": q.question, "answers": q.answers} for q in QUESTIONS]), QUESTIONS),
    "NQ-open": ("nq.jsonl", lines(NQ), QUESTIONS),
    "NQ-open, Hugging Face": ("nq.parquet", parquet(NQ), QUESTIONS),
    "NQ-open, saved": ("nq.arrow", arrow(NQ), QUESTIONS),
    "FlashRAG": ("q.jsonl", asked(id=lambda q: q.id, question=lambda q: q.question, golden_answers=lambda q: q.answers), NAMED),
    "Tevatron": ("q.jsonl", asked(query_id=lambda q: q.id, query=lambda q: q.question, answers=lambda q: q.answers), NAMED),
    "PopQA": ("popqa.tsv", POPQA, NAMED),
    "PopQA, Hugging Face": (
        "popqa.parquet",
        parquet([{"id": q.id, "question": q.question, "possible_answers": json.dumps(q.answers)} for q in NAMED]),
        NAMED,
    ),
    "KILT": ("kilt.jsonl", lines(KILT), NAMED),
    "KILT, parquet": ("kilt.parquet", parquet(KILT), NAMED),
    "SQuAD": ("squad.json", json.dumps(SQUAD).encode(), NAMED),
    "SQuAD, indented": ("squad.json", json.dumps(SQUAD, indent=2).encode(), NAMED),
    "SQuAD, Hugging Face": (
        "squad.parquet",
        parquet([{"id": q.id, "question": q.question, "answers": {"text": q.answers, "answer_start": [0]}} for q in NAMED]),
        NAMED,
    ),
    "TriviaQA": ("qa.json", json.dumps(TRIVIA, indent=4).encode(), TARGETED),
    "TriviaQA, packed": ("qa.json.gz", gzip.compress(json.dumps(TRIVIA).encode()), TARGETED),
    "lists in objects, one after the other": (
        "q.json",
        "".join(json.dumps({"data": [vars(q)], "version": 1}) + "\n" for q in NAMED).encode(),
        NAMED,
    ),
    "TriviaQA in capitals": (
        "qa.json",
        json.dumps({"Data": [{"Question": "who", "Answer": {"Value": "BACH", "Aliases": ["Bach", ""]}}]}).encode(),
        [Question("x-0", "who", ["Bach", "BACH"], "Bach")],
    ),
    "TriviaQA, Hugging Face": (
        "q.jsonl",
        asked(question_id=lambda q: q.id, question=lambda q: q.question, answer=lambda q: {"aliases": q.answers, "value": q.answers[0]}),
        TARGETED,
    ),
    "DPR's json": (
        "nq-dev.json",
        json.dumps([{"dataset": "d", "question": q.question, "answers": q.answers, "positive_ctxs": []} for q in QUESTIONS], indent=4).encode(),
        QUESTIONS,
    ),
    "DPR's qa.csv": ("nq-test.qa.csv", QA, QUESTIONS),
    "DPR's qa.csv as tsv": ("q.tsv", QA, QUESTIONS),
    "DPR's qa.csv, quotes": (
        "q.csv",
        b'who sang "x"\t"[\'a\', ""b\'s""]"\nwho\t["c"]\n',
        [Question("x-0", 'who sang "x"', ["a", "b's"]), Question("x-1", "who", ["c"])],
    ),
    "FiD": (
        "q.json",
        json.dumps([{**vars(q), "ctxs": [{"id": "1", "title": "T", "text": "t"}]} for q in TARGETED]).encode(),
        TARGETED,
    ),
    "a target empty": ("q.jsonl", asked(id=lambda q: q.id, question=lambda q: q.question, answers=lambda q: q.answers, target=lambda q: ""), NAMED),
    "letters apart from their marks": ("q.jsonl", lines([{"question": "ü", "answers": ["u\u0308"]}]), [Question("x-0", "ü", ["u\u0308"])]),
}  # fmt: skip


@pytest.mark.parametrize("case", ASKED)
def test_questions_are_read(tmp_path, case):
    name, data, expected = ASKED[case]
    assert questions(put(tmp_path, name, data)) == expected


# ------------------------------------------------------------------ questions that are refused


def other(**fields) -> bytes:
    """Two questions, the second of them changed."""
    row = {"id": "b", "question": "who", "answers": ["me"]}
    made = {**row, **fields}
    return lines([{**row, "id": "a"}, {name: value for name, value in made.items() if value is not ...}])


NOT_ASKED = {
    "no answers": ("q.jsonl", other(answers=...), "line 2: field 'answers' is missing; it has id, question .*golden_answers"),
    "answers null": ("q.jsonl", other(answers=None), "line 2: field 'answers' is null"),
    "a string": ("q.jsonl", other(answers="me"), r"line 2: field 'answers' is a string, where a list .*as JSON does: \["),
    "a list as Python writes it": ("q.jsonl", other(answers="['me']"), "line 2: field 'answers' is a string, .*as JSON does"),
    "strokes": ("q.tsv", b"question\tanswers\nwho\tme|you\n", "line 2: field 'answers' is a string, .*as JSON does"),
    "a number in a string": ("q.jsonl", other(answers="1969"), "line 2: field 'answers' is a string"),
    "an empty list": ("q.jsonl", other(answers=[]), "line 2: field 'answers' is an empty list"),
    "an empty answer": ("q.jsonl", other(answers=["me", " "]), "line 2: field 'answers' is empty"),
    "a number": ("q.jsonl", other(answers=["me", 1969]), "line 2: field 'answers' is a number, .*in quotes"),
    "a truth value": ("q.jsonl", other(answers=[True]), "line 2: field 'answers' is a truth value"),
    "numbers, parquet": ("q.parquet", parquet([{"question": "who", "answers": [1969]}]), "row 1: field 'answers' is a number"),
    "lists in the list": ("q.jsonl", other(answers=[["me"]]), "line 2: field 'answers' is a list, where a string"),
    "an object": ("q.jsonl", other(answers={"spans": ["me"]}), r"line 2: field 'answers' is an object \(spans\)"),
    "HotpotQA": ("q.json", b'[{"_id": "h0", "answer": "me", "question": "who"}]', "line 1: field 'answer' is a string"),
    "SQuAD without an answer": ("q.json", json.dumps({"data": [{"paragraphs": [{"qas": [{"question": "who", "answers": []}]}]}]}).encode(), "line 1: field 'answers' is an empty list"),
    "KILT without an answer": ("q.jsonl", lines([{"id": "1", "input": "who", "output": [{"provenance": []}]}]), "line 1: field 'answers' is missing; it has id, input, output"),
    "KILT's test": ("q.jsonl", lines([{"id": "1", "input": "who"}]), "line 1: field 'answers' is missing; it has id, input"),
    "BEIR": ("q.jsonl", lines([{"_id": "1", "text": "who", "metadata": {}}]), "line 1: field 'question' is missing; it has _id, text, metadata"),
    "ASQA": ("q.json", json.dumps({"train": {"0": {"qa_pairs": []}}, "dev": {}}).encode(), "line 1: field 'question' is missing; it has train, dev"),
    "MS MARCO": ("queries.tsv", table((0, "who"), (1, "when")), "line 1: MS MARCO's queries .* have no answers"),
    "no header": ("q.tsv", table((0, "who", '["me"]'), (1, "who", '["me"]')), "line 1: no header line; .*question, answers"),
    "question empty": ("q.jsonl", other(question=""), "line 2: field 'question' is empty"),
    "question missing": ("q.jsonl", other(question=...), "line 2: field 'question' is missing; it has id, answers"),
    "target a number": ("q.jsonl", other(target=3), "line 2: field 'target' is a number"),
    "target a truth value": ("q.jsonl", other(target=False), "line 2: field 'target' is a truth value"),
    "target a list": ("q.jsonl", other(target=["me"]), "line 2: field 'target' is a list"),
    "id twice": ("q.jsonl", other(id="a"), r"line 2: id 'a' came before \(.*q\.jsonl, line 1\)"),
    "id true": ("q.jsonl", other(id=True), "line 2: field 'id' is a truth value"),
    "id a fraction": ("q.jsonl", other(id=1.5), "line 2: field 'id' is a number"),
    "id empty": ("q.jsonl", other(id=""), "line 2: field 'id' is empty"),
    "id a list": ("q.jsonl", other(id=["a"]), "line 2: field 'id' is a list"),
    "half a letter": ("q.jsonl", lines([]) + b'{"question": "who", "answers": ["\\udc00"]}\n', "line 1: field 'answers' holds half"),
    "a quote left open in a tsv": ("q.tsv", b'question\tanswers\n"heroes who sang it\t["Bowie"]\n', "line 2: a quote is opened and not closed"),
    "empty": ("q.jsonl", b"", "holds no question"),
}  # fmt: skip


@pytest.mark.parametrize("case", NOT_ASKED)
def test_questions_are_refused(tmp_path, case):
    name, data, said = NOT_ASKED[case]
    refused(put(tmp_path, name, data), questions, said)


@pytest.mark.parametrize("suffix", [".jsonl", ".tsv", ".parquet", "", ".json.gz"])
def test_a_file_that_is_not_there(tmp_path, suffix):
    for read in (passages, questions):
        refused(tmp_path / f"none{suffix}", read, "no such file; check the path in the config")


# ------------------------------------------------------------------ folders


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path):
    for number, row in enumerate(ROWS):
        put(tmp_path, f"deep/part-{2 - number}.JSONL", lines([row]))
    put(tmp_path, ".hidden.jsonl", b"no")
    put(tmp_path, "_SUCCESS", b"")
    put(tmp_path, "README.md", b"# no")
    reading = inputs.Reading(str(tmp_path))
    assert passages(tmp_path, reading) == PASSAGES[::-1]
    assert any("left out" in line and "README.md" in line for line in reading.lines("passages"))


def test_a_folder_of_packed_files(tmp_path):
    put(tmp_path, "a.tsv.gz", gzip.compress(TSV))
    put(tmp_path, "b.tsv.gz", gzip.compress(b"id\ttitle\ttext\n9\tx\ty\n"))
    assert passages(tmp_path) == [*PASSAGES, Passage("9", "x", "y")]


def test_what_is_no_one_collection(tmp_path):
    put(tmp_path, "a/p.jsonl", PLAIN)
    put(tmp_path, "a/q.jsonl.gz", gzip.compress(PLAIN))
    refused(tmp_path / "a", passages, r"files of several forms \(.jsonl, .jsonl.gz\)")
    put(tmp_path, "b/train-0.jsonl", PLAIN)
    put(tmp_path, "b/test-0.jsonl", PLAIN)
    refused(tmp_path / "b", passages, r"files of several splits \(test, train\)")
    put(tmp_path, "c/notes.txt", b"")
    refused(tmp_path / "c", passages, "a folder without a file of the forms")
    put(tmp_path, "d/corpus.jsonl", lines([{"_id": "1", "title": "t", "text": "x"}]))
    put(tmp_path, "d/queries.jsonl", lines([{"_id": "2", "text": "who"}]))
    with pytest.raises(InputError, match=r"queries\.jsonl: its first row has .*not one collection"):
        passages(tmp_path / "d")


def test_an_id_that_two_files_have(tmp_path):
    put(tmp_path, "a.jsonl", lines([{"id": 1, "text": "x"}]))
    put(tmp_path, "b.jsonl", lines([{"id": "1", "text": "y"}]))
    with pytest.raises(InputError, match=r"b\.jsonl, line 1: id '1' came before \(.*a\.jsonl, line 1\)"):
        passages(tmp_path)


def test_datasets_saved_to_disk(tmp_path):
    from datasets import Dataset, DatasetDict

    saved = Dataset.from_list(ROWS)
    saved.save_to_disk(tmp_path / "one", num_shards=2)
    assert passages(tmp_path / "one") == PASSAGES
    saved.select([2, 0]).save_to_disk(tmp_path / "chosen")
    assert passages(tmp_path / "chosen") == [PASSAGES[2], PASSAGES[0]]
    DatasetDict(train=saved, test=saved).save_to_disk(tmp_path / "two")
    refused(tmp_path / "two", passages, r"saved with the splits train, test; name one: .*two/train")
    assert passages(tmp_path / "two" / "train") == PASSAGES
    DatasetDict(train=saved).save_to_disk(tmp_path / "single")
    assert passages(tmp_path / "single") == PASSAGES
    Dataset.from_list(NQ).save_to_disk(tmp_path / "nq")
    assert questions(tmp_path / "nq") == QUESTIONS
    refused(tmp_path, passages, "there is a saved dataset in ")
    next((tmp_path / "one").glob("data-*.arrow")).unlink()
    with pytest.raises(InputError, match="missing, though .*state.json names it"):
        passages(tmp_path / "one")


# ------------------------------------------------------------------ the word of what was taken for what


def test_the_log_says_what_was_taken_for_what(tmp_path):
    path = put(tmp_path, "c.jsonl", lines({"docid": p.id, "contents": f"{p.title}\n{p.text}"} for p in PASSAGES))
    reading = inputs.Reading(str(path))
    passages(path, reading)
    assert reading.lines("passages") == [
        f"{path}: 3 passages; id from 'docid', text from 'contents'",
        f"{path}: title from the first line of 'contents' (3)",
    ]
    assert reading.facts()["taken"] == {"id from 'docid'": 3, "text from 'contents'": 3} and reading.count == 3


def test_the_log_names_what_is_not_read(tmp_path):
    path = put(tmp_path, "p.jsonl", lines({"id": p.id, "Title": p.title, "text": p.text, "url": ""} for p in PASSAGES))
    reading = inputs.Reading(str(path))
    assert passages(path, reading) == UNTITLED
    assert reading.lines("passages")[1] == f"{path}: not read: Title, url"


def test_the_log_counts_names_that_only_some_rows_have(tmp_path):
    path = put(tmp_path, "q.jsonl", other(target="me"))
    reading = inputs.Reading(str(path))
    questions(path, reading)
    assert reading.lines("questions")[0].endswith("answers from 'answers', target from 'target' (1)")


# ------------------------------------------------------------------ properties

WRITTEN = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
SEEN = WRITTEN.filter(inputs.SEEN.search)
ONE_LINE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\t\n\r"), max_size=30)


def written(form: str, rows: list[dict]) -> bytes:
    """Rows as a writer of ``form`` writes them; lists go into tables as JSON."""
    flat = [{k: json.dumps(v) if isinstance(v, list) else v for k, v in row.items()} for row in rows]
    if form == ".csv":
        sink = io.StringIO(newline="")
        writer = csv.DictWriter(sink, list(flat[0]))
        writer.writeheader()
        writer.writerows(flat)
        return sink.getvalue().encode()
    return {
        ".jsonl": lambda: lines(rows),
        ".json": lambda: json.dumps(rows, indent=1).encode(),
        ".parquet": lambda: parquet(rows),
        ".arrow": lambda: arrow(rows),
        ".tsv": lambda: table(list(flat[0]), *(row.values() for row in flat)),
    }[form]()


PACKS = {"": bytes, ".gz": gzip.compress, ".zst": zstd}


@pytest.mark.parametrize("form", [".jsonl", ".json", ".csv", ".parquet", ".arrow"])
@settings(deadline=None, max_examples=40)
@given(
    rows=st.lists(st.builds(Passage, SEEN, WRITTEN, SEEN), min_size=1, max_size=6, unique_by=lambda p: p.id),
    pack=st.sampled_from(sorted(PACKS)),
)
def test_whatever_passages_are_written_are_read(form, rows, pack):
    if form == ".csv":  # '\r' alone is a line end to csv's reader; a lone '\0' it refuses
        rows = [Passage(*(value.replace("\r", "\n").replace("\0", "0") for value in vars(p).values())) for p in rows]
        if not all(inputs.SEEN.search(p.id) and inputs.SEEN.search(p.text) for p in rows) or len(
            {p.id for p in rows}
        ) < len(rows):
            return
    with tempfile.TemporaryDirectory() as folder:
        path = put(Path(folder), f"p{form}{pack}", PACKS[pack](written(form, [vars(row) for row in rows])))
        assert passages(path) == rows


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.tuples(ONE_LINE.filter(inputs.SEEN.search), ONE_LINE), min_size=1, max_size=6, unique_by=lambda p: p[0])
)
def test_whatever_a_tsv_holds_is_read_line_by_line(rows):
    """Quotes and all: cells that no writer of CSV could have meant are text to the letter."""
    rows = [(f"i{n}{identifier}", title) for n, (identifier, title) in enumerate(rows)]
    with tempfile.TemporaryDirectory() as folder:
        path = put(Path(folder), "p.tsv", table(("id", "title", "text"), *((i, t, f"x{t}") for i, t in rows)))
        read = passages(path)
        assert [(p.id, p.text) for p in read] == [(i, f"x{t}") for i, t in rows]
        assert all(p.title == t or t[0] == t[-1] == '"' for p, (_, t) in zip(read, rows, strict=True))


@pytest.mark.parametrize("form", [".jsonl", ".json", ".csv", ".tsv", ".parquet", ".arrow"])
@settings(deadline=None, max_examples=30)
@given(
    rows=st.lists(
        st.builds(Question, SEEN, SEEN, st.lists(SEEN, min_size=1, max_size=3), WRITTEN),
        min_size=1, max_size=5, unique_by=lambda q: q.id,
    )
)  # fmt: skip
def test_whatever_questions_are_written_are_read(form, rows):
    if form in (".csv", ".tsv"):  # what a line cannot hold, and what csv's reader does not take
        clean = str.maketrans({"\r": "_", "\n": "_", "\t": "_", "\0": "_", '"': "_"})
        rows = [
            Question(f"{n}", q.question.translate(clean), q.answers, q.target.translate(clean))
            for n, q in enumerate(rows)
        ]
    with tempfile.TemporaryDirectory() as folder:
        assert questions(put(Path(folder), f"q{form}", written(form, [vars(row) for row in rows]))) == rows


# ------------------------------------------------------------------ memory


def test_memory_holds_eight_bytes_an_id(tmp_path):
    import tracemalloc

    count = 60_000
    path = put(
        tmp_path, "p.jsonl", b"".join(b'{"id": "a long identifier %d", "text": "x"}\n' % n for n in range(count))
    )
    next(inputs.read_passages(path))
    tracemalloc.start()
    assert sum(1 for _ in inputs.read_passages(path)) == count
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * count + 4e6  # the strings alone would take 80 bytes each


# ------------------------------------------------------------------ files that were tried on this project

OUTCOMES = {
    "read": "c_1mb_line c_1mb_line_tsv c_atlas c_beir c_bom_jsonl c_bom_tsv_id_first c_crlf_jsonl c_crlf_tsv c_csv c_dpr "
    "c_dpr_gz c_dup_text c_empty_title c_few c_flashrag c_hf_arrow_file c_hf_disk c_hf_parquet c_json_array "
    "c_json_array_pretty c_jsonl_gz c_long c_msmarco c_msmarco_header_quotes c_no_title c_nul c_numeric_ids "
    "c_parquet_null_title c_pyserini_dir c_special_tokens c_tevatron c_text_html c_title_null c_tsv_quote_pair "
    "c_tsv_quote_three c_u2028 c_u2028_tsv c_upper_suffix q_atlas q_bom_jsonl q_bom_tsv_id_first "
    "q_bom_tsv_question_first q_dpr_json q_dpr_qa_as_tsv q_dpr_qa_csv q_fid_json q_fid_jsonl q_flashrag q_hf_nq_open "
    "q_hf_renamed q_nfd q_nq_open q_popqa q_popqa_renamed q_same_train_test q_squad2 q_squad_jsonl q_target_other "
    "q_triviaqa q_zh",
    "refused": "c_comma_in_tsv c_dup_id_int_str c_empty c_float_ids c_header_only c_kilt c_latin1 c_lone_cr_tsv "
    "c_nan_text c_parquet_binary c_parquet_cut c_parquet_float_id c_parquet_lfs c_semicolon c_title_number c_title_only "
    "c_upper_fields c_utf16_jsonl c_utf16_tsv c_utf16le_nobom c_zero_width q_answers_tuple_str q_asqa q_beir "
    "q_bool_answer q_empty_answer q_hotpot q_id_bool q_id_empty q_id_float q_int_parquet q_json_string_number "
    "q_msmarco q_nested_answers q_no_answers_list q_number_answer q_string_answer q_target_false q_target_list "
    "q_tsv_pipe q_tsv_quotes",
}


@pytest.mark.skipif(not CASES.is_dir(), reason="these files are not part of the project; its own rows are above")
def test_every_file_that_was_tried_has_its_outcome():
    seen = {}
    for folder in sorted(CASES.glob("[cq]_*")):
        [path, *_] = [entry for entry in sorted(folder.iterdir()) if folder.name != "q_zh" or entry.name == "q.jsonl"]
        try:
            (passages if folder.name[0] == "c" else questions)(path)
            seen[folder.name] = "read"
        except InputError as error:
            assert "\n" not in str(error)
            seen[folder.name] = "refused"
    wanted = {name: outcome for outcome, names in OUTCOMES.items() for name in names.split()}
    assert seen == wanted
