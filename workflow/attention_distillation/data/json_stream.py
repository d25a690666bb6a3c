"""JSON read piece by piece: a list of gigabytes gives its elements one at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from ..files import InputError

BLANK, NUMBER = " \t\r\n", "0123456789.eE+-"
CUT = 32
"""Characters at the end of a piece within which a fault may only mean that the piece ends there."""


def unique(pairs: list[tuple[str, object]]) -> dict:
    """An object whose keys differ; of two values under one key, JSON's parsers drop one without a word."""
    row = dict(pairs)
    if len(row) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"field '{next(name for name in names if names.count(name) > 1)}' stands there twice")
    return row


class JsonStream:
    """A JSON text, read from where the last value ended.

    Args:
        file: text, from its beginning.
        path: named in errors.
        remedy: what errors advise.
        objects: makes an object of its pairs; None: of two values under one key the last counts.
        piece: characters read at a time.

    Raises:
        InputError: names the line that is not JSON.
    """

    def __init__(
        self, file: TextIO, path: str | Path, remedy: str, objects: Callable | None = unique, piece: int = 1 << 20
    ) -> None:
        self._file, self._path, self._remedy, self._piece = file, path, remedy, piece
        self._decoder = json.JSONDecoder(object_pairs_hook=objects)
        self._text, self._at, self._counted, self.line = "", 0, 0, 1

    def _fault(self, reason: str, at: int) -> InputError:
        line = self.line + self._text.count("\n", self._counted, at)
        return InputError(f"{self._path}, line {line}: not JSON ({reason}); {self._remedy}.")

    def _read(self, size: int) -> bool:
        more = self._file.read(size)
        if more:
            self._text, self._at, self._counted = self._text[self._at :] + more, 0, 0
        return bool(more)

    def peek(self) -> str:
        """The next character that is no blank; '' at the end. :attr:`line` is its line."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in BLANK:
                self._at += 1
            self.line += self._text.count("\n", self._counted, self._at)
            self._counted = self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._read(self._piece):
                return ""

    def expect(self, characters: str) -> str:
        """Pass over one of ``characters``; returns which."""
        character = self.peek()
        if not character:
            raise self._fault("it ends in the middle", self._at)
        if character not in characters:
            shown = repr(self._text[self._at : self._at + 20])
            raise self._fault(f"{' or '.join(characters)} is missing before {shown}", self._at)
        self._at += 1
        return character

    def value(self) -> object:
        """The next value."""
        if not self.peek():
            raise self._fault("it ends in the middle", self._at)
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
                rest = self._text[end : end + CUT]  # '1.' at a piece's end may be 1.5
                sure = rest.strip(NUMBER) or end + CUT < len(self._text)
                if sure or not self._read(self._piece):
                    self.line += self._text.count("\n", self._counted, end)
                    self._at = self._counted = end
                    return value
            except json.JSONDecodeError as error:
                whole = error.pos < len(self._text) - CUT and not error.msg.startswith("Unterminated")
                if whole or not self._read(max(self._piece, len(self._text) - self._at)):
                    raise self._fault(error.msg, max(self._at, min(error.pos, len(self._text)))) from None
            except (ValueError, RecursionError) as error:
                raise self._fault(str(error), self._at) from None

    def items(self) -> Iterator[object]:
        """Elements of the list that comes next."""
        self.expect("[")
        if self.peek() == "]":
            self.expect("]")
            return
        while True:
            yield self.value()
            if self.expect(",]") == "]":
                return

    def members(self) -> Iterator[str]:
        """Keys of the object that comes next; the caller reads each one's value before it asks for the next."""
        self.expect("{")
        if self.peek() == "}":
            self.expect("}")
            return
        while True:
            key = self.value()
            if not isinstance(key, str):
                raise self._fault(f"a key is {key!r}", self._at)
            self.expect(":")
            yield key
            if self.expect(",}") == "}":
                return
