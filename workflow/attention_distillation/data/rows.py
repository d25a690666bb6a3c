"""Rows of whatever file or folder a user gives, each with its place, in memory that does not grow with the file.

JSON lines, JSON, TSV, CSV, Parquet and Arrow, plain or packed by gzip or zstd; folders of one of them; datasets that
``save_to_disk`` wrote. What a row means is for :mod:`inputs` to say.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from ..files import InputError
from .forms import CONTAINERS, as_list, headerless, kind_of, known_names
from .json_stream import JsonStream, unique
from .opening import PACKED, decoded, files, opened, seekable, suffix_of

Row = tuple[str, dict]
"""Where a row stands, and what it holds by field name."""

LONGEST_CELL = 2**30
UNPACKED = 3.2
"""Bytes of text that a packed byte holds, about."""


def rows(file: Path, kind: str, notes: Counter) -> Iterator[Row]:
    """Rows of one of :func:`files`.

    Args:
        kind: ``passages`` or ``questions``: which names a table without a header may lack.
        notes: counts what was taken for what, in words for the log.

    Raises:
        InputError: names file and line (or row) of what cannot be read, why, and what to do.
    """
    yield from FORMS[suffix_of(file)](file, kind, notes)


def extent(path: str | Path, kind: str) -> tuple[int, int]:
    """Rows of a file or folder and their bytes, for a plan: lines are counted, not read, and packed bytes estimated.

    Raises:
        InputError: as :func:`files` and :func:`rows`.
    """
    count = size = 0
    for file in files(path, Counter()):
        packed = file.suffix.lower() in PACKED
        size += round(file.stat().st_size * (UNPACKED if packed else 1))
        if suffix_of(file) == ".parquet" and not packed:
            import pyarrow.parquet as pq

            with seekable(file) as table:
                count += pq.ParquetFile(table).metadata.num_rows
        elif FORMS[suffix_of(file)] is _json_lines:
            with opened(file) as lines:
                count += sum(1 for line in lines if line.strip())
        else:
            count += sum(1 for _ in rows(file, kind, Counter()))
    return count, size


# ------------------------------------------------------------------ JSON


def _json_lines(path: Path, kind: str, notes: Counter) -> Iterator[Row]:
    with opened(path) as file:
        for number, line in decoded(path, file):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            try:
                row = json.loads(line, object_pairs_hook=unique)
            except json.JSONDecodeError as error:
                listed = number == 1 and line.lstrip().startswith("[")
                remedy = "a list of objects is named .json" if listed else "one object a line"
                raise InputError(f"{where}: not JSON ({error.msg}); {remedy}.") from None
            except (ValueError, RecursionError) as error:
                raise InputError(f"{where}: {error}; mend the line.") from None
            yield where, _object(row, where)


def _object(row: object, where: str) -> dict:
    if not isinstance(row, dict):
        raise InputError(f"{where}: {kind_of(row)}, where an object is needed; write one object a row.")
    return row


def _json(path: Path, kind: str, notes: Counter) -> Iterator[Row]:
    """A list of rows, an object around one (TriviaQA, SQuAD), or objects one after the other."""
    with opened(path) as file:
        stream = JsonStream(_Text(path, file), path, "mend it, or write one object a line (.jsonl)")
        if stream.peek() == "[":
            yield from _elements(path, stream)
            if stream.peek():
                raise InputError(f"{path}, line {stream.line}: more after the list's end; write one list.")
            return
        while stream.peek():
            where, row, around = f"{path}, line {stream.line}", {}, False
            if stream.peek() != "{":
                _object(stream.value(), where)
            for key in stream.members():
                if key in row:
                    raise InputError(f"{where}: field '{key}' stands there twice; drop one.")
                if key in CONTAINERS and stream.peek() == "[":
                    notes[f"rows from the list '{key}'"] += 1
                    for place, element in _elements(path, stream):
                        yield from _within(element, CONTAINERS[key], place)
                    around = True
                else:
                    row[key] = stream.value()
            if not around:
                yield where, row


def _elements(path: Path, stream: JsonStream) -> Iterator[Row]:
    items = stream.items()
    while True:
        element = next(items, stream)
        if element is stream:
            return
        where = f"{path}, line {stream.line}"
        yield where, _object(element, where)


def _within(row: dict, keys: tuple[str, ...], where: str) -> Iterator[Row]:
    """Rows that lie deeper, such as the ``qas`` of SQuAD's ``paragraphs``; the row itself where there are none."""
    if not keys or keys[0] not in row:
        yield where, row
        return
    for element in row[keys[0]] if isinstance(row[keys[0]], list) else [None]:
        yield from _within(_object(element, where), keys[1:], where)


class _Text(io.TextIOWrapper):
    """UTF-8 text whose faults name the file."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        super().__init__(file, encoding="utf-8", newline="\n")
        self._path = path

    def read(self, size: int = -1) -> str:
        try:
            return super().read(size)
        except UnicodeDecodeError as error:
            byte = error.object[error.start]
            raise InputError(f"{self._path}: not UTF-8 (byte 0x{byte:02x}); save it as UTF-8.") from None


# ------------------------------------------------------------------ TSV and CSV


def _header(path: Path, line: int, cells: list[str], separator: str) -> list[str]:
    """The columns' names, which differ."""
    where = f"{path}, line {line}"
    if len(cells) == 1:
        for other, name in ((",", "commas: name it .csv"), (";", "';': write it with commas"), ("\t", "tabs")):
            if other != separator and other in cells[0]:
                remedy = f"{name}: name it .tsv" if other == "\t" else name
                raise InputError(f"{where}: one column, {cells[0]!r}; its columns are separated by {remedy}.")
    for cell in cells:
        if cells.count(cell) > 1:
            raise InputError(f"{where}: two columns are called {cell!r}; rename or drop one.")
    return cells


def _filled(cells: list[str], header: list[str], where: str, separator: str) -> dict:
    if len(cells) != len(header):
        raise InputError(
            f"{where}: {len(cells)} {separator}-separated columns, where the header has {len(header)}; mend the row "
            "(text with line breaks or tabs goes into .jsonl or .csv)."
        )
    return dict(zip(header, cells, strict=True))


def _tsv(path: Path, kind: str, notes: Counter) -> Iterator[Row]:
    """A row a line; quotes are text, but for cells written as CSV writes them."""
    with opened(path) as file:
        yield from _tab_rows(path, kind, notes, decoded(path, file))


def _tab_rows(path: Path, kind: str, notes: Counter, lines: Iterable[tuple[int, str]]) -> Iterator[Row]:
    header, form, wrapped = None, None, False
    for number, line in lines:
        line = line.removesuffix("\n").removesuffix("\r")
        if not line.strip(" "):
            continue
        where = f"{path}, line {number}"
        if "\r" in line:
            raise InputError(f"{where}: a carriage return inside; save it with Unix or Windows line ends.")
        cells = line.split("\t")
        if header is None:
            plain = [unquoted(cell, True) for cell in cells]
            form = headerless(kind, [unquoted(cell, False) for cell in cells], where)
            if form is None:
                header, wrapped = _header(path, number, plain, "\t"), plain != cells or plain == ["id", "text", "title"]
                continue
            header, note = form
            notes[f"taken for {note}"] += 1
        if '"' in line:
            cells = [_cell(cell, wrapped, kind, where, notes) for cell in cells]
        row = _filled(cells, header, where, "tab")
        if form and "answers" in row:
            row["answers"] = as_list(row["answers"], python=True)
        yield where, row


def _cell(cell: str, wrapped: bool, kind: str, where: str, notes: Counter) -> str:
    plain = unquoted(cell, wrapped)
    if plain != cell:
        notes["cells in CSV's quotes, taken without them"] += 1
    elif kind == "questions" and cell[0:1] == '"' and cell.count('"') % 2:  # a passage may be cut from a longer text
        raise InputError(f"{where}: a quote is opened and not closed in {cell[:30]!r}; close it or drop it.")
    return plain


def unquoted(cell: str, wrapped: bool) -> str:
    """A cell without the quotes of CSV: around all of it, with those inside doubled.

    A writer of CSV puts quotes around a cell only where it holds one; ``"Heroes"`` is a title in quotes, unless the
    whole file is ``wrapped``: its header has quotes, or it is DPR's.
    """
    inner = cell[1:-1]
    if len(cell) < 2 or cell[0] != '"' or cell[-1] != '"' or '"' in inner.replace('""', ""):
        return cell
    return inner.replace('""', '"') if wrapped or not inner or '""' in inner else cell


def _csv(path: Path, kind: str, notes: Counter) -> Iterator[Row]:
    csv.field_size_limit(LONGEST_CELL)
    with opened(path) as file:
        lines = decoded(path, file)
        first = next(lines, None)
        if first is None:
            return
        lines = chain([first], lines)
        if "\t" in first[1] and headerless(kind, [unquoted(c, False) for c in first[1].strip().split("\t")], str(path)):
            yield from _tab_rows(path, kind, notes, lines)
            return
        begin, header, reader = 1, None, csv.reader((line for _, line in lines), strict=True)
        try:
            for cells in reader:
                number, begin = begin, reader.line_num + 1
                if header is None:
                    header = _header(path, number, cells, ",")
                elif cells:
                    where = f"{path}, line {number}"
                    yield where, _filled(cells, header, where, "comma")
        except csv.Error as error:
            raise InputError(f"{path}, line {begin}: not CSV ({error}); look for a quote that is left open.") from None


# ------------------------------------------------------------------ Parquet and Arrow


def _parquet(path: Path, kind: str, notes: Counter) -> Iterator[Row]:
    import pyarrow.parquet as pq

    with seekable(path) as file:
        table = pq.ParquetFile(file, pre_buffer=False)
        names = table.schema_arrow.names
        batches = table.iter_batches(batch_size=1000, columns=_wanted(path, names, kind))
        yield from _batch_rows(path, names, batches)


def _arrow(path: Path, kind: str, notes: Counter) -> Iterator[Row]:
    import pyarrow as pa

    with seekable(path) as file:
        whole = file.read(6) == b"ARROW1"  # with a table of contents at its end; 'datasets' writes streams
        file.seek(0)
        reader = pa.ipc.open_file(file) if whole else pa.ipc.open_stream(file)
        batches = (reader.get_batch(n) for n in range(reader.num_record_batches)) if whole else reader
        names = reader.schema.names
        wanted = _wanted(path, names, kind)
        yield from _batch_rows(path, names, (batch.select(wanted) for batch in batches))


def _wanted(path: Path, names: list[str], kind: str) -> list[str]:
    """Columns that may hold a field; others, such as embeddings, are not read."""
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{path}: two columns are called '{name}'; rename or drop one.")
    return [name for name in names if name in known_names(kind)]


def _batch_rows(path: Path, names: list[str], batches: Iterable) -> Iterator[Row]:
    number, unread = 0, dict.fromkeys(names)
    for batch in batches:
        for start in range(0, len(batch), 1000):
            part = batch.slice(start, 1000)
            columns = [part.column(place).to_pylist() for place in range(part.num_columns)]
            for values in zip(*columns, strict=True) if columns else ((),) * len(part):
                number += 1
                yield f"{path}, row {number}", unread | dict(zip(part.schema.names, values, strict=True))


FORMS: dict[str, Callable[[Path, str, Counter], Iterator[Row]]] = {
    ".jsonl": _json_lines, ".ndjson": _json_lines, ".json": _json, ".tsv": _tsv, ".csv": _csv,
    ".parquet": _parquet, ".arrow": _arrow,
}  # fmt: skip
"""How each of :data:`opening.SUFFIXES` is read."""
