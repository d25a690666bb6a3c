"""The public archives as records: NQ-open, TriviaQA, FiD's split of both, DPR's and Atlas's Wikipedia passages.

Corpora are read as streams, a row at a time, so that memory does not grow with them. Sizes are those of the paper's
Appendix D and are enforced: another number of rows is another data set.
"""

from __future__ import annotations

import csv
import gzip
import json
import random
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..files import InputError, read_jsonl, write_json
from ..jobs.room import check_disk
from ..records import Passage, Question, write_questions
from .archives import sound, unpack
from .downloads import FID_INDEX, verify
from .json_stream import JsonStream
from .passages import write_passages
from .table import Source

SPLIT_SEED = 0  # of the seeded split, the same for all runs
FID_PREFIX = {"nq": "NQ", "triviaqa": "TQA"}
LONGEST_FIELD = 1 << 20  # characters; a quote left open in a TSV would swallow the rest of the file


# ------------------------------------------------------------------ questions


def read_nq_open(path: str | Path, prefix: str) -> list[Question]:
    """NQ-open's JSONL (``question``, ``answer``: a list of strings); ids are ``prefix`` and the row number.

    ``target`` stays empty: which answer is trained on is drawn with the run's seed [Atlas].

    Raises:
        InputError: names file and line.
    """
    questions = []
    for number, row in read_jsonl(path):
        question, answers = row.get("question"), row.get("answer")
        if not isinstance(question, str) or not isinstance(answers, list) or not all(map(_filled, answers)):
            raise InputError(
                f"{path}, line {number}: needs 'question' and 'answer' (a list of strings), as in NQ-open."
            )
        if not answers:
            raise InputError(f"{path}, line {number}: has no answer.")
        questions.append(Question(f"{prefix}{len(questions)}", question, answers))
    return questions


def _filled(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _members(path: Path, key: str, piece: int = 1 << 20) -> Iterator[object]:
    """Elements of the list ``key`` of a JSON object, one at a time: TriviaQA's file has gigabytes, mostly snippets."""
    with open(path, encoding="utf-8") as file:
        stream = JsonStream(file, path, "delete it to download it again", None, piece)
        for name in stream.members():
            if name == key:
                yield from stream.items()
                return
            stream.value()
    raise InputError(f"{path}: has no '{key}'.")


def read_triviaqa(path: str | Path) -> list[Question]:
    """TriviaQA's unfiltered JSON (``Data[*].Question``, ``.Answer.Value``, ``.Answer.Aliases``).

    ``target`` is ``Answer.Value``, title-cased where it is all upper case; ``answers`` are all aliases, Value among
    them [paper's method, Atlas].

    Raises:
        InputError: names file and entry.
    """
    path, questions = Path(path), []
    with sound(path):
        for number, row in enumerate(_members(path, "Data")):
            where = f"{path}, Data[{number}]"
            answer = row.get("Answer") if isinstance(row, dict) else None
            if not isinstance(answer, dict) or not _filled(answer.get("Value")) or not _filled(row.get("Question")):
                raise InputError(f"{where}: needs 'Question' and 'Answer' with 'Value' (test files have no answers).")
            value, aliases = answer["Value"], answer.get("Aliases", [])
            answers = list(dict.fromkeys(filter(_filled, [*aliases, value])))
            target = value.title() if value.isupper() else value
            questions.append(Question(str(row.get("QuestionId", number)), row["Question"], answers, target))
    return questions


# ------------------------------------------------------------------ train and validation


def read_fid_index(folder: str | Path, source: str) -> dict[str, list[int]]:
    """FiD's split: row numbers of the published train file that make up ``train`` and ``dev``, in FiD's order.

    Raises:
        InputError: a file is missing, or no list of numbers.
    """
    index = {}
    for split in ("train", "dev"):
        name = f"{FID_PREFIX[source]}.{split}.idx.json"
        files = sorted(Path(folder).rglob(name))
        if not files:
            raise InputError(
                f"{folder}: FiD's index has no file '{name}'; delete row '{FID_INDEX}' of the sources table."
            )
        try:
            index[split] = json.loads(files[0].read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise InputError(f"{files[0]}, line {error.lineno}: not JSON ({error.msg}).") from None
        if not isinstance(index[split], list) or not all(type(row) is int for row in index[split]):
            raise InputError(f"{files[0]}: no list of row numbers.")
    return index


def seeded_index(rows: int, sizes: dict[str, int], seed: int) -> dict[str, list[int]]:
    """A split of ``rows`` rows by ``seed``, where the published one cannot be had: ``dev`` is drawn, the rest is train.

    Raises:
        InputError: ``rows`` is not train and dev together.
    """
    if rows != sizes["train"] + sizes["dev"]:
        raise InputError(
            f"the published train file has {rows:,} rows, where the paper's Appendix D has {sizes['train']:,} train "
            f"and {sizes['dev']:,} validation; it is not the file that the paper used."
        )
    drawn = set(random.Random(seed).sample(range(rows), sizes["dev"]))
    return {"train": [row for row in range(rows) if row not in drawn], "dev": sorted(drawn)}


def select(questions: list[Question], index: dict[str, list[int]]) -> dict[str, list[Question]]:
    """The questions of each split.

    Raises:
        InputError: a row is out of range, or in two places.
    """
    rows = [row for split in index.values() for row in split]
    for row in rows:
        if not 0 <= row < len(questions):
            raise InputError(f"the split names row {row:,} of a train file of {len(questions):,} rows.")
    if len(set(rows)) != len(rows):
        raise InputError("the split names a row twice: train and validation would overlap.")
    return {split: [questions[row] for row in index[split]] for split in index}


def split_sizes(table: str | Path, source: str) -> dict[str, int]:
    """Questions of each split as the paper's Appendix D has them (``workflow/reference/datasets.csv``)."""
    with open(table, encoding="utf-8", newline="") as file:
        (row,) = (row for row in csv.DictReader(file) if row["dataset"] == source)
    return {"train": int(row["train"]), "dev": int(row["validation"]), "test": int(row["test"])}


def check_sizes(splits: dict[str, list], sizes: dict[str, int], where: str) -> None:
    """Refuse a data set of other sizes than the paper's.

    Raises:
        InputError: names the split, the number expected and the number that is there.
    """
    for split, size in sizes.items():
        if len(splits[split]) != size:
            raise InputError(
                f"{where}, {split}: {len(splits[split]):,} questions, where the paper's Appendix D has {size:,}; "
                "the source is another version than the paper used."
            )


def prepare_questions(
    source: str,
    rows: list[Source],
    files: list[str | Path],
    lock: str | Path,
    splits: dict[str, str | Path],
    facts: str | Path,
    sizes: dict[str, int],
) -> None:
    """Write the train, dev and test questions of ``source`` (``nq``, ``triviaqa``) and the facts about them.

    ``files[i]`` is the download of ``rows[i]``, ``sizes`` are those of :func:`split_sizes`. Train and dev are FiD's
    where its row is in the table, and drawn by ``SPLIT_SEED`` where it is not; ``facts`` says which (``split``:
    ``fid_index`` | ``seeded``), and test is the published dev file in its own order.

    Raises:
        InputError: a file is not the one that the table or the lock describes, malformed, or of another size.
    """
    paths = {row.name: Path(path) for row, path in zip(rows, files, strict=True)}
    for row in rows:
        verify(row, paths[row.name], lock)
    Path(facts).parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=Path(facts).parent, prefix=".unpacked-") as scratch:
        if source == "nq":
            train = read_nq_open(paths["nq_open_train"], "nq-train-")
            test = read_nq_open(paths["nq_open_dev"], "nq-dev-")
        else:
            folder = unpack(paths["triviaqa_unfiltered"], Path(scratch) / "triviaqa")
            train, test = (read_triviaqa(_only(folder, f"unfiltered-web-{part}.json")) for part in ("train", "dev"))
        if FID_INDEX in paths:
            index = read_fid_index(unpack(paths[FID_INDEX], Path(scratch) / "index"), source)
        else:
            index = seeded_index(len(train), sizes, SPLIT_SEED)
    questions = {**select(train, index), "test": test}
    check_sizes(questions, sizes, source)
    for split, path in splits.items():
        write_questions(path, questions[split])
    split = {"split": "fid_index"} if FID_INDEX in paths else {"split": "seeded", "split_seed": SPLIT_SEED}
    write_json(facts, {"source": source, **split, "sizes": sizes})


def _only(folder: Path, name: str) -> Path:
    files = sorted(folder.rglob(name))
    if not files:
        raise InputError(f"{folder.name}: the archive has no '{name}'; it is not the one that the paper used.")
    return files[0]


# ------------------------------------------------------------------ passages


def read_dpr(path: str | Path) -> Iterator[Passage]:
    """Passages of DPR's TSV, plain or gzipped: columns id, text, title with a header line, quoted as CSV is.

    Raises:
        InputError: names file and line.
    """
    path = Path(path)
    opened = gzip.open if path.suffix == ".gz" else open
    csv.field_size_limit(LONGEST_FIELD)
    with sound(path), opened(path, "rt", encoding="utf-8", newline="") as file:
        reader = csv.reader(file, delimiter="\t")
        if next(reader, None) != ["id", "text", "title"]:
            raise InputError(f"{path}, line 1: the columns are not id, text, title; this is not DPR's file.")
        try:
            for row in reader:
                if len(row) != 3:
                    raise InputError(f"{path}, line {reader.line_num}: {len(row)} columns, where there should be 3.")
                yield Passage(row[0], row[2], row[1])
        except csv.Error as error:
            raise InputError(f"{path}, line {reader.line_num}: {error}; is a quote left open?") from None


def read_atlas(path: str | Path, prefix: str = "") -> Iterator[Passage]:
    """Passages of Atlas's JSONL (``id``, ``title``, ``section``, ``text``); ``prefix`` keeps two files' ids apart.

    The title is ``title: section`` where there is a section, as Atlas has it.

    Raises:
        InputError: names file and line.
    """
    for number, row in read_jsonl(path):
        if not all(isinstance(row.get(key), str) for key in ("title", "text")) or "id" not in row:
            raise InputError(f"{path}, line {number}: needs 'id', 'title' and 'text', as in Atlas's corpora.")
        title = f"{row['title']}: {row['section']}" if row.get("section") else row["title"]
        yield Passage(f"{prefix}{row['id']}", title, row["text"].strip())


def counted(passages: Iterable[Passage], expected: int | None, where: str | Path) -> Iterator[Passage]:
    """The same passages; at their end their number is checked, where the publisher states one.

    Raises:
        InputError: names the number expected and the number that is there.
    """
    count = 0
    for passage in passages:
        count += 1
        yield passage
    if not count or expected not in (None, count):
        wanted = f"{expected:,}" if expected else "some"
        raise InputError(
            f"{where}: {count:,} passages, where there should be {wanted}; delete it to download it again."
        )


def prepare_corpus(rows: list[Source], files: list[str | Path], lock: str | Path, output: str | Path) -> int:
    """Write the passages of one or more downloads (``files[i]`` is that of ``rows[i]``) as one corpus; how many.

    Raises:
        InputError: a file is not the one that the table or the lock describes, malformed, or of another size; or the
            disk is too small.
    """
    packed = sum(Path(path).stat().st_size * (3.2 if str(path).endswith(".gz") else 1.1) for path in files)
    check_disk(output, packed)

    def stream() -> Iterator[Passage]:
        for number, (row, path) in enumerate(zip(rows, files, strict=True)):
            verify(row, path, lock)
            dpr = row.filename.endswith((".tsv", ".tsv.gz"))
            passages = read_dpr(path) if dpr else read_atlas(path, f"{row.name}/" if number else "")
            yield from counted(passages, row.passages or None, path)

    return write_passages(output, stream())
