"""What one stage hands to another: passages, questions, retrieved lists, attention dumps.

Each file's form is here, the corpus's in :mod:`data.passages`; what users give is read by :mod:`data.inputs`:

=======================  =======================================================================
``questions.S.jsonl``    one object a line: ``id, question, answers`` and, to train on, ``target``
``retrieved.S.parquet``  row = question: ``passages`` (k row numbers), ``scores`` (k float32), best first
``attention.parquet``    the dump: a row a passage token of an instance
``*.jsonl``              logs and predictions, one object a line
=======================  =======================================================================
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .files import InputError, read_jsonl, replacing, write_jsonl

SPLITS = ("train", "dev", "test")


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


# ------------------------------------------------------------------ questions


def read_questions(path: str | Path) -> list[Question]:
    """Questions as :func:`write_questions` wrote them.

    Raises:
        InputError: names the line that is no question, or an empty file.
    """
    questions = []
    for number, row in read_jsonl(path):
        try:
            questions.append(Question(**row))
        except TypeError as error:
            raise InputError(f"{path}, line {number}: no question ({error}); delete the file.") from None
    if not questions:
        raise InputError(f"{path}: holds no question; delete the file.")
    return questions


def write_questions(path: str | Path, questions: Iterable[Question]) -> None:
    """Write questions in the form that :func:`read_questions` reads."""
    write_jsonl(path, (asdict(question) for question in questions))


# ------------------------------------------------------------------ retrieved lists


def write_retrieved(path: str | Path, passages, scores, facts: dict) -> None:
    """Write the retrieved passages: row numbers ``passages`` int64, ``scores`` float32, both of shape (questions, k).

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
            ("similarity_answer", pa.list_(pa.float32())),
            ("similarity_question", pa.list_(pa.float32())),
            ("segment", pa.string()),
            ("answer_bearing", pa.bool_()),
        ]
    )


def write_dump(path: str | Path, instances: Iterable[dict], facts: dict) -> None:
    """Write token records, an instance's columns at a time, with ``facts`` as metadata.

    Similarities come as (T, M) arrays, a column for each of the target's M tokens; where M is 0 they become null.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = dump_schema().with_metadata({"provenance": json.dumps(facts)})
    with replacing(path) as part, pq.ParquetWriter(part, schema, compression="zstd") as writer:
        waiting: list = []

        def flush() -> None:
            if waiting:
                writer.write_table(pa.concat_tables(waiting).combine_chunks())
                waiting.clear()

        def plain(values):
            if getattr(values, "ndim", 1) == 1:
                return values
            return list(values) if values.shape[1] else [None] * len(values)

        for columns in instances:
            arrays = [pa.array(plain(columns[f.name]), f.type, from_pandas=True) for f in schema]
            waiting.append(pa.Table.from_arrays(arrays, schema=schema))
            if len(waiting) == 200:
                flush()
        flush()
