"""What a passage, a question and a retrieved list are; reading and writing them; saying which line is wrong.

Every file that one stage hands to another is read and written here, the corpus in :mod:`passages`:

=======================  =======================================================================
``questions.S.jsonl``    one object a line: ``id, question, answers`` and, to train on, ``target``
``retrieved.S.parquet``  row = question: ``passages`` (k row numbers), ``scores`` (k float32), best first
``attention.parquet``    the dump: a row a passage token of an instance
``*.jsonl``              logs and predictions, one object a line
=======================  =======================================================================
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path

SPLITS = ("train", "dev", "test")


class InputError(ValueError):
    """A fault in what the user gave, told in one line: where it is, what it is, and the remedy."""


@dataclass(frozen=True)
class Passage:
    """One passage of the knowledge base D."""

    id: str
    title: str
    text: str


@dataclass(frozen=True)
class Question:
    """A question with every answer that counts; ``target`` is the one to train on (empty: draw by seed)."""

    id: str
    question: str
    answers: list[str] = field(default_factory=list)
    target: str = ""


# ------------------------------------------------------------------ half-written files


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its place only if the block ends well.

    A half-written file is so never taken for a whole one, whatever kills the job.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_json(path: str | Path, value: object) -> None:
    """Write ``value`` as indented JSON with sorted keys: equal values give equal bytes."""
    with replacing(path) as part:
        part.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: str | Path) -> dict:
    """Read a JSON file.

    Raises:
        InputError: it is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}: not JSON ({error.msg}); mend or delete the file.") from None


def write_jsonl(path: str | Path, rows: Iterable[dict]) -> None:
    """Write one JSON object a line."""
    with replacing(path) as part, open(part, "w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_jsonl(path: str | Path) -> Iterator[tuple[int, dict]]:
    """Yield ``(line number, object)`` for each line that is not blank.

    Raises:
        InputError: a line is no JSON object, or not UTF-8.
    """
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except json.JSONDecodeError as error:
                    raise InputError(f"{path}, line {number}: not JSON ({error.msg}); one object a line.") from None
                if not isinstance(row, dict):
                    raise InputError(f"{path}, line {number}: a {type(row).__name__}, where an object is needed.")
                yield number, row
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8.") from None
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path in the config.") from None


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


def write_questions(path: str | Path, questions: Iterable[Question]) -> None:
    """Write questions in the form that :func:`read_questions` reads."""
    write_jsonl(path, (asdict(question) for question in questions))


# ------------------------------------------------------------------ retrieved lists


def write_retrieved(path: str | Path, passages, scores, facts: dict) -> None:
    """Write what retrieval found: ``passages`` int64 and ``scores`` float32, both of shape (questions, k).

    ``facts``, such as an approximate index's recall, go into the file's metadata.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(
        {
            "passages": pa.array(passages.tolist(), pa.list_(pa.int64())),
            "scores": pa.array(scores.tolist(), pa.list_(pa.float32())),
        }
    )
    table = table.replace_schema_metadata({"facts": json.dumps(facts)})
    with replacing(path) as part:
        pq.write_table(table, part, compression="zstd")


def read_retrieved(path: str | Path, corpus_size: int):
    """Row numbers of the retrieved passages, int64 of shape (questions, k).

    Raises:
        InputError: a number that the corpus does not have: index and corpus are not of one making.
    """
    import numpy as np
    import pyarrow.parquet as pq

    rows = np.asarray(pq.read_table(path, columns=["passages"])["passages"].to_pylist(), dtype=np.int64)
    outside = rows[(rows < 0) | (rows >= corpus_size)]
    if outside.size:
        raise InputError(
            f"{path}: passage {outside[0]} is not in the corpus of {corpus_size:,}; delete this file and its index."
        )
    return rows


def retrieved_facts(path: str | Path) -> dict:
    """What retrieval said of itself, such as an approximate index's recall."""
    import pyarrow.parquet as pq

    return json.loads(pq.read_schema(path).metadata[b"facts"])


# ------------------------------------------------------------------ attention dumps


def dump_schema():
    """The columns of ``attention.parquet``; a row is one passage token of one instance (see docs/formats.md)."""
    import pyarrow as pa

    return pa.schema(
        [
            ("instance", pa.int32()),
            ("passage", pa.int8()),
            ("passage_row", pa.int64()),
            ("token", pa.int16()),
            ("token_text", pa.string()),
            ("attention", pa.float32()),
            ("similarity_answer", pa.float32()),
            ("similarity_question", pa.float32()),
            ("segment", pa.string()),
            ("answer_bearing", pa.bool_()),
        ]
    )


def write_dump(path: str | Path, instances: Iterable[dict], facts: dict) -> None:
    """Write token records, an instance's columns at a time; NaN similarities become null, ``facts`` metadata."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = dump_schema().with_metadata({"provenance": json.dumps(facts)})
    with replacing(path) as part, pq.ParquetWriter(part, schema, compression="zstd") as writer:
        waiting: list = []

        def flush() -> None:
            if waiting:
                writer.write_table(pa.concat_tables(waiting).combine_chunks())
                waiting.clear()

        for columns in instances:
            arrays = [pa.array(columns[f.name], f.type, from_pandas=True) for f in schema]
            waiting.append(pa.Table.from_arrays(arrays, schema=schema))
            if len(waiting) == 200:
                flush()
        flush()


# ------------------------------------------------------------------ provenance

_TOLD = (
    "torch",
    "transformers",
    "tokenizers",
    "faiss-cpu",
    "faiss-gpu",
    "datasets",
    "spacy",
    "numpy",
    "pandas",
    "scipy",
)


def digest(value: object) -> str:
    """A short hash of any JSON-able value, the same for equal values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:12]


@cache
def _commit() -> str:
    """The commit that the code is at, marked when the work tree differs; 'none' outside git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    here = Path(__file__).parent
    try:
        done = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False)
    except OSError:  # no git where the job runs
        return "none"
    return done.stdout.strip() or "none"


def provenance(settings: dict, *, device: str = "cpu", **facts: object) -> dict:
    """Where a result came from: the hash of its settings, versions, commit, device, and what else is given."""
    versions = {}
    for name in _TOLD:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {
        "config_hash": digest(settings),
        "commit": _commit(),
        "python": platform.python_version(),
        "versions": versions,
        "device": device,
        **facts,
    }
