"""Rows of whatever file or folder a user gives, each with its place, in memory that does not grow with the file.

JSON lines, JSON, TSV, CSV, Parquet and Arrow, plain or packed by gzip or zstd; folders of one of them; datasets that
``save_to_disk`` wrote. What a row means is for :mod:`inputs` to say.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from ..files import InputError
from .forms import CONTAINERS, as_list, headerless, kind_of, known_names
from .json_stream import JsonStream, unique

Row = tuple[str, dict]
"""Where a row stands, and what it holds by field name."""

PACKED = {".gz": ("gzip", b"\x1f\x8b"), ".zst": ("zstd", b"\x28\xb5\x2f\xfd")}
BINARY = {b"PAR1": ".parquet", b"ARROW1": ".arrow", b"PK\x03\x04": ".zip", b"BZh": ".bz2", b"\xfd7zXZ": ".xz"}
MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"\x00\x00\xfe\xff": "UTF-32"}
ANEW = "broken or cut short; fetch or write it anew"
SAVED = {"state.json", "dataset_info.json", "dataset_dict.json"}
SPLIT = re.compile(r"^(train|dev|valid|validation|test)(?![a-z])", re.IGNORECASE)
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
    yield from FORMS[_suffix(file)](file, kind, notes)


def extent(path: str | Path, kind: str) -> tuple[int, int]:
    """Rows of a file or folder and their bytes, for a plan: lines are counted, not read, and packed bytes estimated.

    Raises:
        InputError: as :func:`files` and :func:`rows`.
    """
    count = size = 0
    for file in files(path, Counter()):
        packed = file.suffix.lower() in PACKED
        size += round(file.stat().st_size * (UNPACKED if packed else 1))
        if _suffix(file) == ".parquet" and not packed:
            import pyarrow.parquet as pq

            with _seekable(file) as opened:
                count += pq.ParquetFile(opened).metadata.num_rows
        elif FORMS[_suffix(file)] is _json_lines:
            with _opened(file) as opened:
                count += sum(1 for line in opened if line.strip())
        else:
            count += sum(1 for _ in rows(file, kind, Counter()))
    return count, size


# ------------------------------------------------------------------ which files


def _suffix(path: Path) -> str:
    """The suffix that names a file's form, in lower case and without that of its packing."""
    packed = path.suffix.lower() in PACKED
    return Path(path.stem if packed else path.name).suffix.lower()


def files(path: str | Path, notes: Counter) -> list[Path]:
    """The file itself, or all of a folder in the order of their names.

    Raises:
        InputError: there is none, it is of no form that is read, or a folder holds several collections.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file; check the path in the config.")
    if path.is_dir():
        return _saved(path) if SAVED & {entry.name for entry in path.iterdir()} else _folder(path, notes)
    if _suffix(path) not in FORMS:
        raise InputError(f"{path}: not one of the forms that are read ({TAKEN}); name it by its form, or convert it.")
    return [path]


def _saved(folder: Path) -> list[Path]:
    """The data files of a dataset that ``datasets`` saved to disk."""
    if (splits := _member(folder, "dataset_dict.json", "splits")) is not None:
        if len(splits) != 1:
            raise InputError(f"{folder}: saved with the splits {', '.join(splits)}; name one: {folder}/{splits[0]}.")
        return _saved(folder / splits[0])
    listed = _member(folder, "state.json", "_data_files")
    if not listed:
        raise InputError(f"{folder}: a saved dataset without state.json or data files; save it anew (save_to_disk).")
    files = [folder / entry["filename"] for entry in listed]
    for file in files:
        if not file.exists():
            raise InputError(f"{file}: missing, though {folder}/state.json names it; save the dataset anew.")
    return files


def _member(folder: Path, name: str, key: str):
    if not (folder / name).exists():
        return None
    try:
        return json.loads((folder / name).read_text(encoding="utf-8")).get(key)
    except (ValueError, AttributeError):
        raise InputError(f"{folder / name}: not what save_to_disk writes; save the dataset anew.") from None


def _folder(folder: Path, notes: Counter) -> list[Path]:
    """Files of one form; several forms or several splits in one folder are no one collection."""
    entries = [entry for entry in sorted(folder.rglob("*")) if entry.is_file()]
    shown = [e for e in entries if not any(part[0] in "._" for part in e.relative_to(folder).parts)]
    saved = [entry.parent for entry in shown if entry.name in SAVED]
    if saved:
        raise InputError(f"{folder}: there is a saved dataset in {saved[0]}; name that folder.")
    files = [entry for entry in shown if _suffix(entry) in FORMS]
    if not files:
        raise InputError(f"{folder}: a folder without a file of the forms that are read ({TAKEN}).")
    forms = sorted({file.name[len(_stem(file)) :].lower() for file in files})
    if len(forms) > 1:
        raise InputError(f"{folder}: holds files of several forms ({', '.join(forms)}); name a folder with one form.")
    splits = sorted({match.group(1).lower() for file in files if (match := SPLIT.match(file.name))})
    if len(splits) > 1:
        raise InputError(f"{folder}: holds files of several splits ({', '.join(splits)}); name a file or one's folder.")
    for entry in shown:
        if entry not in files:
            notes[f"left out: {entry}"] += 1
    return files


def _stem(file: Path) -> str:
    inner = Path(file.stem) if file.suffix.lower() in PACKED else file
    return inner.stem


# ------------------------------------------------------------------ bytes and text


@contextlib.contextmanager
def _opened(path: Path, *, text: bool = True) -> Iterator[BinaryIO]:
    """A file's bytes, unpacked; where they are ``text``, without the mark that says so."""
    import pyarrow as pa

    named = PACKED.get(path.suffix.lower(), (None, b""))[0]
    with contextlib.ExitStack() as stack:
        try:
            raw = stack.enter_context(pa.OSFile(str(path)))
            head = raw.read(64)
            raw.seek(0)
            _require_packing(path, head, named)
            stream = stack.enter_context(pa.CompressedInputStream(raw, named)) if named and head else raw
            file = io.BufferedReader(stream, 1 << 20)
            if text:
                _require_utf8(path, file)
            yield file
        except PermissionError:
            raise InputError(f"{path}: may not be read; give yourself the right to.") from None
        except (OSError, pa.ArrowInvalid) as error:
            raise InputError(f"{path}: {ANEW} ({str(error).splitlines()[0]}).") from None


def _require_packing(path: Path, head: bytes, named: str | None) -> None:
    if head.startswith(b"version https://git-lfs"):
        raise InputError(f"{path}: a pointer of Git LFS, not the file itself; fetch it (git lfs pull).")
    found = next((suffix for suffix, (_, magic) in PACKED.items() if head.startswith(magic)), None)
    if named and head and (found is None or PACKED[found][0] != named):
        raise InputError(f"{path}: not packed by {named}, as its name says; drop the suffix, or fetch it anew.")
    if found and not named:
        raise InputError(f"{path}: packed by {PACKED[found][0]}; name it {path.name}{found}.")


def _require_utf8(path: Path, file: BinaryIO) -> None:
    """Pass over UTF-8's mark; refuse other encodings and other forms by their first bytes."""
    head = file.peek(64)[:64]
    for magic, suffix in BINARY.items():
        if head.startswith(magic):
            advice = f"name it {suffix}" if suffix in FORMS else "unpack it"
            raise InputError(f"{path}: by its first bytes a {suffix} file, which its name does not say; {advice}.")
    encoding = next((name for mark, name in MARKS.items() if head.startswith(mark)), None)
    if encoding or head.count(0) * 4 > len(head):  # half of the bytes of UTF-16 are 0 in most languages of files
        raise InputError(f"{path}: {encoding or 'UTF-16 or binary'}, not UTF-8; convert it: iconv -f utf-16 -t utf-8.")
    if head.startswith(b"\xef\xbb\xbf"):
        file.read(3)


def _decoded(path: Path, file: BinaryIO) -> Iterator[tuple[int, str]]:
    """Lines with their numbers and ends; only a line feed ends one."""
    for number, line in enumerate(file, 1):
        try:
            yield number, line.decode()
        except UnicodeDecodeError as error:
            raise InputError(
                f"{path}, line {number}: not UTF-8 (byte 0x{line[error.start]:02x}); save it as UTF-8 (from Latin-1 "
                "or Windows-1252: iconv -f windows-1252 -t utf-8)."
            ) from None


# ------------------------------------------------------------------ JSON


def _json_lines(path: Path, kind: str, notes: Counter) -> Iterator[Row]:
    with _opened(path) as file:
        for number, line in _decoded(path, file):
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
    with _opened(path) as file:
        stream = JsonStream(_Text(path, file), path, "mend it, or write one object a line (.jsonl)")
        if stream.peek() == "[":
            yield from _elements(path, stream)
            if stream.peek():
                raise InputError(f"{path}, line {stream.line}: more after the list's end; write one list.")
            return
        while stream.peek():
            where, row, around = f"{path}, line {stream.line}", {}, False
            if stream.peek() != "{":
                yield where, _object(stream.value(), where)
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
    with _opened(path) as file:
        yield from _tab_rows(path, kind, notes, _decoded(path, file))


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
    with _opened(path) as file:
        lines = _decoded(path, file)
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

    with _seekable(path) as file:
        table = pq.ParquetFile(file, pre_buffer=False)
        names = table.schema_arrow.names
        batches = table.iter_batches(batch_size=1000, columns=_wanted(path, names, kind))
        yield from _batch_rows(path, names, batches)


def _arrow(path: Path, kind: str, notes: Counter) -> Iterator[Row]:
    import pyarrow as pa

    with _seekable(path) as file:
        whole = file.read(6) == b"ARROW1"  # with a table of contents at its end; 'datasets' writes streams
        file.seek(0)
        reader = pa.ipc.open_file(file) if whole else pa.ipc.open_stream(file)
        batches = (reader.get_batch(n) for n in range(reader.num_record_batches)) if whole else reader
        names = reader.schema.names
        wanted = _wanted(path, names, kind)
        yield from _batch_rows(path, names, (batch.select(wanted) for batch in batches))


@contextlib.contextmanager
def _seekable(path: Path) -> Iterator[BinaryIO]:
    """A file that can be read here and there; a packed one is unpacked to the disk first."""
    import pyarrow as pa

    with _opened(path, text=False) as file, contextlib.ExitStack() as stack:
        if path.suffix.lower() in PACKED:
            unpacked = stack.enter_context(tempfile.NamedTemporaryFile())
            shutil.copyfileobj(file, unpacked, 1 << 20)
            unpacked.flush()
            yield stack.enter_context(pa.OSFile(unpacked.name))
        else:
            yield stack.enter_context(pa.OSFile(str(path)))


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
TAKEN = f"{', '.join(FORMS)}, each also with {' or '.join(PACKED)}"
