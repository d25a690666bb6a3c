"""Passages and questions as users give them: read, checked, and refused with file, line and remedy."""

from __future__ import annotations

import contextlib
import csv
import json
from collections.abc import Iterator
from pathlib import Path

from ..files import InputError, read_jsonl
from ..records import Passage, Question

# ------------------------------------------------------------------ passages


def _text(row: dict, key: str, where: str, *, empty: bool = False) -> str:
    value = row.get(key)
    if value is None:
        raise InputError(f"{where}: field '{key}' is missing; it has {', '.join(map(str, row)) or 'no field'}.")
    if isinstance(value, int) and not isinstance(value, bool) and key == "id":
        value = str(value)
    if not isinstance(value, str):
        raise InputError(f"{where}: field '{key}' is a {type(value).__name__}, where a string is needed.")
    if not empty and not value.strip():
        raise InputError(f"{where}: field '{key}' is empty; fill it in or drop the row.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InputError(f"{where}: field '{key}' holds half a character (a lone \\u escape); mend it.") from None
    return value


def _rows(path: Path) -> Iterator[tuple[str, dict]]:
    """Rows of a JSONL, TSV or Parquet file with the place that each came from."""
    readers = {".tsv": _tsv_rows, ".parquet": _parquet_rows}
    if path.suffix in readers:
        if not path.exists():
            raise InputError(f"{path}: no such file; check the path in the config.")
        yield from readers[path.suffix](path)
    else:
        for number, row in read_jsonl(path):
            yield f"{path}, line {number}", row


def _tsv_rows(path: Path) -> Iterator[tuple[str, dict]]:
    csv.field_size_limit(2**24)
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t", restkey="")
        try:
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                if "" in row or None in row.values():
                    raise InputError(f"{where}: not {len(reader.fieldnames or [])} tab-separated columns.")
                yield where, row
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8.") from None
        except csv.Error as error:
            raise InputError(f"{path}, line {reader.line_num}: {error}; look for an unclosed quote.") from None


def _parquet_rows(path: Path) -> Iterator[tuple[str, dict]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(batch_size=1000):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}, row {number}", row
    except pa.ArrowInvalid as error:
        raise InputError(f"{path}: not Parquet ({str(error).splitlines()[0]}); write it anew.") from None


def read_passages(path: str | Path) -> Iterator[Passage]:
    """Passages of a user's ``.jsonl``, ``.tsv`` (with a header line) or ``.parquet`` file: id, title, text.

    Raises:
        InputError: names file and line of a malformed row, a missing field or an id that came before.
    """
    seen: dict[str, str] = {}
    for where, row in _rows(Path(path)):
        passage = Passage(
            _text(row, "id", where), _text({"title": "", **row}, "title", where, empty=True), _text(row, "text", where)
        )
        if passage.id in seen:
            raise InputError(f"{where}: id '{passage.id}' came before ({seen[passage.id]}); ids must be unique.")
        seen[passage.id] = where
        yield passage
    if not seen:
        raise InputError(f"{path}: holds no passage.")


# ------------------------------------------------------------------ questions


def read_questions(path: str | Path, prefix: str = "") -> list[Question]:
    """Questions of a ``.jsonl``, ``.tsv`` or ``.parquet`` file; ``answers`` is a list of strings, none of them empty.

    A TSV file writes the list as JSON: ``["Paris", "Paris, France"]``. A question without an id gets ``prefix`` and
    its number.

    Raises:
        InputError: names file and line of whatever is wrong.
    """
    questions, seen = [], {}
    for where, row in _rows(Path(path)):
        answers = row.get("answers")
        if isinstance(answers, str):
            with contextlib.suppress(json.JSONDecodeError):
                answers = json.loads(answers)
        if not isinstance(answers, list) or not answers:
            raise InputError(f"{where}: 'answers' must be a list of one or more strings.")
        for answer in answers:
            _text({"answers": answer}, "answers", where)
        identifier = f"{prefix}{len(questions)}" if row.get("id") is None else str(row["id"])
        if identifier in seen:  # equal ids would count as one question in every interval
            raise InputError(f"{where}: id '{identifier}' came before ({seen[identifier]}); ids must be unique.")
        seen[identifier] = where
        target = _text({"target": row.get("target") or ""}, "target", where, empty=True)
        questions.append(Question(identifier, _text(row, "question", where), answers, target))
    if not questions:
        raise InputError(f"{path}: holds no question.")
    return questions
