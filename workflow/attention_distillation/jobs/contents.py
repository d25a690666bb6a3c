"""What a file or folder holds, as a short text: equal bytes give equal identities, whatever their date and place.

Snakemake knows an input by its date. A corrected file that is moved into place with an older date, or weights that are
overwritten in place, would rerun nothing. What a user names is therefore known by its sha256, which a rule holds among
its params (``contents_of`` in ``common.smk``), and a training run among what its saved state belongs to.

Hashing gigabytes at every start would take minutes, so hashes are kept, each with what the file system says of the
file: inode, size, and the times of its last change to the nanosecond. The time of change (ctime) cannot be set back.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from pathlib import Path

from tqdm import tqdm

from ..files import InputError, replacing

CACHE = Path(".snakemake") / "contents.json"
"""Where hashes are kept, beneath the working directory; whoever deletes it pays with time alone."""
SETTLED = 3.0
"""Seconds after which a file's times are trusted: a second change within one tick of a clock shows in no time."""
BLOCK = 1 << 20


class Contents:
    """Identities of files and folders; each file is hashed once in the life of this object, and kept in ``cache``."""

    def __init__(self, cache: str | Path = CACHE) -> None:
        self._cache = Path(cache)
        self._kept = self._read()
        self._seen: dict[str, list] = {}

    def identity(self, path: str | Path) -> str:
        """``<sha256>-<bytes>`` of a file, or of all files in a folder with their names in it.

        Names that begin with a dot are left out of a folder: version control and the hub's client keep notes there.

        Raises:
            InputError: there is no such file, or it cannot be read.
        """
        path = Path(path)
        try:
            if not path.is_dir():
                digest, size = self._file(path)
                return f"{digest}-{size}"
            whole, total = hashlib.sha256(), 0
            for name, file in _files_in(path):
                digest, size = self._file(file)
                whole.update(json.dumps([name, digest, size]).encode())
                total += size
            return f"{whole.hexdigest()}-{total}"
        except FileNotFoundError:
            raise InputError(f"{path}: no such file; check the path in the config.") from None
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); mend its rights or name another.") from None

    def _file(self, path: Path) -> tuple[str, int]:
        name, state = str(path.resolve(strict=True)), _state(path)
        for known in (self._seen.get(name), self._kept.get(name)):
            if known and known[0] == state:
                return known[1], state[1]
        started = time.time()
        digest = _sha256(path, state[1])
        if _state(path) != state:
            raise InputError(f"{path}: changes while it is read; start again when it is whole.")
        self._seen[name] = [state, digest]
        if max(state[2:]) / 1e9 + SETTLED < started:
            self._keep(name)
        return digest, state[1]

    def _read(self) -> dict[str, list]:
        try:
            kept = json.loads(self._cache.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        known = kept.items() if isinstance(kept, dict) else ()
        return {name: entry for name, entry in known if isinstance(entry, list) and len(entry) == 2}

    def _keep(self, name: str) -> None:
        """Jobs write side by side without a lock: what one of them loses is hashed once more."""
        self._kept = {**self._read(), **self._kept, name: self._seen[name]}
        with contextlib.suppress(OSError), replacing(self._cache) as part:  # a folder that cannot be written
            part.write_text(json.dumps(self._kept), encoding="utf-8")


def identity(path: str | Path) -> str:
    """:meth:`Contents.identity` with the cache of the working directory."""
    return Contents().identity(path)


def _state(path: Path) -> list[int]:
    """What changes when a file does. Not the device: its number differs between the nodes that share a disk."""
    now = os.stat(path)
    return [now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns]


def _files_in(folder: Path) -> list[tuple[str, Path]]:
    """``(name within the folder, path)`` of every file; links are followed, each folder once."""
    todo, seen, files = [(folder, "")], set(), []
    while todo:
        place, prefix = todo.pop()
        if place.resolve() in seen:
            continue
        seen.add(place.resolve())
        for entry in place.iterdir():
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                todo.append((entry, f"{prefix}{entry.name}/"))
            else:
                files.append((prefix + entry.name, entry))
    return sorted(files)


def _sha256(path: Path, size: int) -> str:
    digest = hashlib.sha256()
    with (
        open(path, "rb", buffering=0) as file,
        tqdm(total=size, desc=f"hash of {path}", unit="B", unit_scale=True, delay=3, leave=False) as bar,
    ):
        while block := file.read(BLOCK):
            digest.update(block)
            bar.update(len(block))
    return digest.hexdigest()
