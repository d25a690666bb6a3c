"""Files and folders that a user names: which files are meant, unpacked, and as UTF-8; what is not so is refused."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ..files import InputError

SUFFIXES = (".jsonl", ".ndjson", ".json", ".tsv", ".csv", ".parquet", ".arrow")
"""Of the forms that are read (:data:`rows.FORMS`)."""
PACKED = {".gz": ("gzip", b"\x1f\x8b"), ".zst": ("zstd", b"\x28\xb5\x2f\xfd")}
BINARY = {b"PAR1": ".parquet", b"ARROW1": ".arrow", b"PK\x03\x04": ".zip", b"BZh": ".bz2", b"\xfd7zXZ": ".xz"}
MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"\x00\x00\xfe\xff": "UTF-32"}
ANEW = "broken or cut short; fetch or write it anew"
SAVED = {"state.json", "dataset_info.json", "dataset_dict.json"}
SPLIT = re.compile(r"^(train|dev|valid|validation|test)(?![a-z])", re.IGNORECASE)
TAKEN = f"{', '.join(SUFFIXES)}, each also with {' or '.join(PACKED)}"


# ------------------------------------------------------------------ which files


def suffix_of(path: Path) -> str:
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
    if suffix_of(path) not in SUFFIXES:
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
    files = [entry for entry in shown if suffix_of(entry) in SUFFIXES]
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
def opened(path: Path, *, text: bool = True) -> Iterator[BinaryIO]:
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
    packing = next((suffix for suffix, (_, magic) in PACKED.items() if head.startswith(magic)), None)
    if named and head and (packing is None or PACKED[packing][0] != named):
        raise InputError(f"{path}: not packed by {named}, as its name says; drop the suffix, or fetch it anew.")
    if packing and not named:
        raise InputError(f"{path}: packed by {PACKED[packing][0]}; name it {path.name}{packing}.")


def _require_utf8(path: Path, file: BinaryIO) -> None:
    """Pass over UTF-8's mark; refuse other encodings and other forms by their first bytes."""
    head = file.peek(64)[:64]
    for magic, suffix in BINARY.items():
        if head.startswith(magic):
            advice = f"name it {suffix}" if suffix in SUFFIXES else "unpack it"
            raise InputError(f"{path}: by its first bytes a {suffix} file, which its name does not say; {advice}.")
    encoding = next((name for mark, name in MARKS.items() if head.startswith(mark)), None)
    if encoding or head.count(0) * 4 > len(head):  # half of the bytes of UTF-16 are 0 in most languages of files
        raise InputError(f"{path}: {encoding or 'UTF-16 or binary'}, not UTF-8; convert it: iconv -f utf-16 -t utf-8.")
    if head.startswith(b"\xef\xbb\xbf"):
        file.read(3)


def decoded(path: Path, file: BinaryIO) -> Iterator[tuple[int, str]]:
    """Lines with their numbers and ends; only a line feed ends one."""
    for number, line in enumerate(file, 1):
        try:
            yield number, line.decode()
        except UnicodeDecodeError as error:
            raise InputError(
                f"{path}, line {number}: not UTF-8 (byte 0x{line[error.start]:02x}); save it as UTF-8 (from Latin-1 "
                "or Windows-1252: iconv -f windows-1252 -t utf-8)."
            ) from None


@contextlib.contextmanager
def seekable(path: Path) -> Iterator[BinaryIO]:
    """A file that can be read here and there; a packed one is unpacked to the disk first."""
    import pyarrow as pa

    with opened(path, text=False) as file, contextlib.ExitStack() as stack:
        if path.suffix.lower() in PACKED:
            unpacked = stack.enter_context(tempfile.NamedTemporaryFile())
            shutil.copyfileobj(file, unpacked, 1 << 20)
            unpacked.flush()
            yield stack.enter_context(pa.OSFile(unpacked.name))
        else:
            yield stack.enter_context(pa.OSFile(str(path)))
