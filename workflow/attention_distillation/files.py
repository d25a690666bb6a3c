"""Files that are whole or not there, JSON and JSON lines, and the error that names a user's fault in one line."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path


class InputError(ValueError):
    """A fault in what the user gave. The message is one line: where it is, what it is, and the remedy."""


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``. It is moved to ``path`` only if the block ends without an error.

    So a half-written file is never taken for a whole one, even where the job is killed.
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
