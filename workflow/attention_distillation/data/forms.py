"""The forms in which passages and questions come: what fields are called, what files have no header, what wraps rows.

Names are data (``workflow/reference/fields.yaml``); docs/inputs.md shows each form.
"""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass
from functools import lru_cache

import yaml

from ..files import InputError
from ..settings.schema import WORKFLOW


@dataclass(frozen=True)
class Name:
    """One name of a field: ``label`` as the table writes it, the ``paths`` whose values it joins, the top ``keys``."""

    label: str
    paths: tuple[tuple[str, ...], ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """What a row itself must have."""
        return tuple(path[0] for path in self.paths)

    def of(self, row: dict) -> object:
        """What a row has under this name; None where it has nothing there."""
        if len(self.paths) == 1:
            return _at(row, self.paths[0])
        parts = [part for path in self.paths for part in _listed(_at(row, path))]
        return list(dict.fromkeys(part for part in parts if part != "")) or None


def _at(value: object, path: tuple[str, ...]) -> object:
    for place, key in enumerate(path):
        if isinstance(value, list):
            parts = [_at(element, path[place:]) for element in value]
            return [value for part in parts if part is not None for value in _listed(part)] or None
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def _listed(value: object) -> list:
    return value if isinstance(value, list) else [] if value is None else [value]


@lru_cache
def fields(kind: str) -> dict[str, tuple[Name, ...]]:
    """The fields of ``passages`` or ``questions``, each with its names, first choice first."""
    table = yaml.safe_load((WORKFLOW / "reference" / "fields.yaml").read_text(encoding="utf-8"))[kind]
    return {
        field: tuple(Name(label, tuple(tuple(path.split(".")) for path in label.split(" + "))) for label in names)
        for field, names in table.items()
    }


@lru_cache
def known_names(kind: str) -> frozenset[str]:
    """Every key or column that may hold a field."""
    return frozenset(key for names in fields(kind).values() for name in names for key in name.keys)


CONTAINERS = {"Data": (), "data": ("paragraphs", "qas")}
"""Keys of one object around all rows, and what lies between: TriviaQA's, SQuAD's."""


# ------------------------------------------------------------------ tables without a header line


def headerless(kind: str, cells: list[str], where: str) -> tuple[list[str], str] | None:
    """Columns of a table whose first line is ``cells`` and no header, and whose form it is; None: take it as a header.

    Raises:
        InputError: a form that lacks what is needed, by its name.
    """
    if known_names(kind) & set(cells):
        return None
    numbered = cells[0].isdecimal()
    if kind == "passages" and numbered and len(cells) == 2:
        return ["id", "text"], "MS MARCO's collection (no header line: id, text)"
    if kind == "questions" and len(cells) == 2 and is_list(cells[1]):
        return ["question", "answers"], "DPR's questions (no header line: question, answers)"
    if kind == "questions" and numbered and len(cells) == 2:
        raise InputError(
            f"{where}: MS MARCO's queries (no header line: id, question) have no answers; give a file with both."
        )
    if numbered or any(map(is_list, cells)):
        columns = "id, title, text" if kind == "passages" else "question, answers"
        raise InputError(f"{where}: no header line; write the columns' names above it: {columns}, in the file's order.")
    return None


def is_list(cell: str) -> bool:
    """Whether a cell holds a list as JSON or Python writes one."""
    return isinstance(as_list(cell, python=True), list)


def as_list(cell: str, *, python: bool = False) -> object:
    """The list that a string holds as JSON, and with ``python`` as Python writes it; the string where it holds none."""
    if not cell.lstrip().startswith("["):
        return cell
    for parse in (json.loads, ast.literal_eval) if python else (json.loads,):
        try:
            return parse(cell.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return cell


def kind_of(value: object) -> str:
    """What a value is, in words for an error."""
    if isinstance(value, dict):
        return f"an object ({', '.join(map(str, value))})"
    if isinstance(value, float):
        return "a number" if value == value else "NaN, no value"
    names = {str: "a string", bool: "a truth value", int: "a number", list: "a list", bytes: "bytes"}
    return "null" if value is None else names.get(type(value), f"a {type(value).__name__}")
