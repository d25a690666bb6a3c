"""Passages and questions as users give them: read, checked, and refused with file, line and remedy.

What files may look like is in docs/inputs.md; :mod:`rows` reads them, :mod:`forms` knows the fields' names.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import regex

from ..files import InputError
from ..records import Passage, Question
from .forms import Name, as_list, fields, kind_of, known_names
from .rows import files, rows

SEEN = regex.compile(r"[^\p{Z}\p{Cc}\p{Cf}\p{Default_Ignorable_Code_Point}\u2800]")
"""A letter that can be seen; a text without one is empty."""


@dataclass
class Reading:
    """What was read of a user's file or folder, for the log and ``facts.json``."""

    path: str
    count: int = 0
    taken: Counter = field(default_factory=Counter)
    notes: Counter = field(default_factory=Counter)

    def take(self, named: dict[str, Name | None], file: Path, first: bool) -> None:
        """Count a row's names.

        Raises:
            InputError: the first row of a folder's file has other names than that of the file before.
        """
        labels = tuple(f"{what} from '{name.label}'" for what, name in named.items() if name)
        if first and self.taken and labels not in self.taken:
            raise InputError(
                f"{file}: its first row has {', '.join(labels)}, and the files before it have "
                f"{', '.join(next(iter(self.taken)))}: not one collection; name a file, or a folder with one."
            )
        self.taken[labels] += 1
        self.count += 1

    def facts(self) -> dict:
        """For ``facts.json``."""
        taken: Counter = Counter()
        for labels, count in self.taken.items():
            taken.update(dict.fromkeys(labels, count))
        return {"path": self.path, "rows": self.count, "taken": dict(taken), "notes": dict(self.notes)}

    def lines(self, what: str) -> list[str]:
        """For the log."""
        facts = self.facts()
        named = [name if count == self.count else f"{name} ({count:,})" for name, count in facts["taken"].items()]
        return [
            f"{self.path}: {self.count:,} {what}; {', '.join(named)}",
            *(f"{self.path}: {note}{f' ({count:,})' if count > 1 else ''}" for note, count in self.notes.items()),
        ]


def _walk(kind: str, reading: Reading) -> Iterator[tuple[str, dict, dict[str, tuple[Name | None, object]]]]:
    """Each row with its place, the row, and of each field the name it goes by and what it holds."""
    table = fields(kind)
    for file in files(reading.path, reading.notes):
        first = True
        for where, row in rows(file, kind, reading.notes):
            held = {what: _named(row, names) for what, names in table.items()}
            reading.take({what: name for what, (name, _) in held.items()}, file, first)
            if first and (others := [_shown(name) for name in row if name not in known_names(kind)]):
                reading.notes[f"not read: {', '.join(others)}"] += 1
            first = False
            yield where, row, held


def _named(row: dict, names: tuple[Name, ...]) -> tuple[Name | None, object]:
    """The first name under which a row has something; with None as its value, one that is there and null."""
    null = None
    for name in names:
        value = name.of(row)
        if value is not None:
            return name, value
        if null is None and len(name.paths) == 1 and len(name.paths[0]) == 1 and name.label in row:
            null = name
    return null, None


# ------------------------------------------------------------------ one field


def _required(what: str, held: dict, row: dict, kind: str, where: str) -> tuple[str, object]:
    name, value = held[what]
    if value is not None:
        return name.label, value
    if name:
        raise InputError(f"{where}: field '{name.label}' is null; fill it in or drop the row.")
    others = ", ".join(name.label for name in fields(kind)[what] if name.label != what)
    raise InputError(
        f"{where}: field '{what}' is missing; it has {', '.join(map(_shown, row)) or 'no field'}"
        f"{f' ({what} may also be called {others})' if others else ''}."
    )


def _shown(name: object) -> str:
    return name if isinstance(name, str) and name == name.strip() and name else repr(name)


def _text(value: object, name: str, where: str, *, empty: bool = False) -> str:
    """A string that can be seen and written."""
    if not isinstance(value, str):
        remedy = "write it in quotes" if isinstance(value, int) else "give a string"
        raise InputError(f"{where}: field '{name}' is {kind_of(value)}, where a string is needed; {remedy}.")
    if not empty and not SEEN.search(value):
        raise InputError(f"{where}: field '{name}' is empty; fill it in or drop the row.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InputError(f"{where}: field '{name}' holds half a character (a lone \\u escape); mend it.") from None
    return value


def _id(value: object, name: str, where: str) -> str:
    """An id: a string, or a whole number as a string."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise InputError(
            f"{where}: field '{name}' is {kind_of(value)} ({value}), where a string or a whole number is needed; write "
            "it in quotes."
        )
    return _text(value, name, where)


# ------------------------------------------------------------------ passages


def read_passages(path: str | Path, reading: Reading | None = None) -> Iterator[Passage]:
    """Passages of a user's file or folder: id, title, text.

    Memory holds eight bytes a passage, to see that ids differ.

    Args:
        reading: filled with what was taken for what.

    Raises:
        InputError: names file and line of whatever is malformed, missing, or an id that came before.
    """
    reading = reading or Reading(str(path))
    hashes = array("q")
    for where, row, held in _walk("passages", reading):
        passage = _passage(where, row, held, reading)
        hashes.append(hash(passage.id))
        yield passage
    if not reading.count:
        raise InputError(f"{path}: holds no passage; give a file with one or more.")
    _require_different(str(path), hashes)


def _passage(where: str, row: dict, held: dict, reading: Reading) -> Passage:
    name, value = _required("id", held, row, "passages", where)
    identifier = _id(value, name, where)
    name, value = _required("text", held, row, "passages", where)
    text = _text(value, name, where)
    title = "" if held["title"][1] is None else _text(held["title"][1], "title", where, empty=True)
    if name == "contents":
        title, text = _contents(title, text, where, reading)
    if held["section"][1]:
        section = _text(held["section"][1], "section", where)
        title = f"{title}: {section}" if title else section
    return Passage(identifier, title, text)


def _contents(title: str, contents: str, where: str, reading: Reading) -> tuple[str, str]:
    """Title and text of a ``contents`` field: its first line is the title where more follows [FlashRAG, pyserini].

    A ``title`` beside it is left out of the text where the first line repeats it.
    """
    head, ended, text = contents.partition("\n")
    head = head.strip()
    if len(head) > 1 and head[0] == head[-1] == '"':
        head = head[1:-1]
    if not ended or (title and head != title):
        return title, contents
    if not title:
        reading.notes["title from the first line of 'contents'"] += 1
    return head, _text(text, "contents", f"{where}, after its first line")


def _require_different(path: str, hashes: array) -> None:
    """Refuse an id that comes twice; the file is read again only where two hashes agree.

    Raises:
        InputError: names both places.
    """
    import numpy as np

    ordered = np.frombuffer(hashes, dtype=np.int64)
    ordered.sort()  # in place: the order is not needed
    twice = set(ordered[1:][ordered[1:] == ordered[:-1]].tolist())
    seen: dict[str, str] = {}
    for where, _, held in _walk("passages", Reading(path)) if twice else ():
        identifier = str(held["id"][1])
        if hash(identifier) in twice:
            if identifier in seen:
                raise InputError(f"{where}: id '{identifier}' came before ({seen[identifier]}); ids must be unique.")
            seen[identifier] = where


# ------------------------------------------------------------------ questions


def read_questions(path: str | Path, prefix: str = "", reading: Reading | None = None) -> list[Question]:
    """Questions of a user's file or folder, each with a list of answers; TSV and CSV write the list as JSON.

    A question without an id gets ``prefix`` and its number.

    Raises:
        InputError: names file and line of whatever is wrong.
    """
    reading = reading or Reading(str(path))
    questions, seen = [], {}
    for where, row, held in _walk("questions", reading):
        name, value = held["id"]
        identifier = f"{prefix}{len(questions)}" if value is None else _id(value, name.label, where)
        if identifier in seen:  # equal ids would count as one question in every interval
            raise InputError(f"{where}: id '{identifier}' came before ({seen[identifier]}); ids must be unique.")
        seen[identifier] = where
        name, value = _required("question", held, row, "questions", where)
        question = _text(value, name, where)
        questions.append(Question(identifier, question, _answers(where, row, held), _target(where, held)))
    if not questions:
        raise InputError(f"{path}: holds no question; give a file with one or more.")
    return questions


def _answers(where: str, row: dict, held: dict) -> list[str]:
    name, value = _required("answers", held, row, "questions", where)
    answers = as_list(value) if isinstance(value, str) else value
    if not isinstance(answers, list):
        raise InputError(
            f"{where}: field '{name}' is {kind_of(answers)}, where a list of strings is needed; write it as JSON does: "
            '["Paris", "Paris, France"].'
        )
    if not answers:
        raise InputError(f"{where}: field '{name}' is an empty list; give an answer or drop the question.")
    return [_text(answer, name, where) for answer in answers]


def _target(where: str, held: dict) -> str:
    name, value = held["target"]
    if value is None:
        return ""
    target = _text(value, name.label, where, empty=True)
    return target.title() if name.label == "Answer.Value" and target.isupper() else target  # as sources.read_triviaqa
