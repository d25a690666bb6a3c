"""The corpus on disk: ``passages.arrow``, an Arrow stream of ``id, title, text``; row = passage.

It may be larger than memory. It is written a batch at a time, gone through in order (:func:`iterate_passages`) or read
here and there (:class:`Passages`), and held by nobody.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

from ..files import replacing
from ..records import Passage


def write_passages(path: str | Path, passages: Iterable[Passage], batch: int = 10_000) -> int:
    """Write passages as one Arrow stream, a batch at a time; returns how many."""
    import pyarrow as pa

    schema = pa.schema([("id", pa.string()), ("title", pa.string()), ("text", pa.large_string())])
    count, rows = 0, []
    with replacing(path) as part, pa.OSFile(str(part), "wb") as sink, pa.ipc.new_stream(sink, schema) as stream:

        def flush() -> None:
            stream.write_batch(pa.RecordBatch.from_pylist([asdict(row) for row in rows], schema=schema))
            rows.clear()

        for passage in passages:
            rows.append(passage)
            count += 1
            if len(rows) == batch:
                flush()
        if rows:
            flush()
    return count


def iterate_passages(path: str | Path, batch: int = 10_000) -> Iterator[list[tuple[str, str]]]:
    """(title, text) of all passages in order, at most ``batch`` at a time; memory holds what was written together."""
    import pyarrow as pa

    with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
        for written in stream:
            for start in range(0, len(written), batch):
                part = written.slice(start, batch)
                yield list(zip(part["title"].to_pylist(), part["text"].to_pylist(), strict=True))


class Passages:
    """The corpus, memory-mapped, read here and there: ``passages[7]["text"]``, ``passages[[7, 9]]["text"]``.

    What is asked for is copied, and pages are let go of now and then (:func:`give_back`), so that a long run does not
    end with the whole file as its own memory. The rows are a ``datasets.Dataset``; that library's own mapping cannot
    be given back.
    """

    give_back_every = 32
    """Reads; going through the page table of 14 GB takes milliseconds."""

    def __init__(self, path: str | Path) -> None:
        import pyarrow as pa
        from datasets import Dataset
        from datasets.table import InMemoryTable

        with open(path, "rb") as file:
            self._mmap = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._mmap.madvise(mmap.MADV_RANDOM)  # pages ahead of a passage are those of others
        table = pa.ipc.open_stream(pa.py_buffer(self._mmap)).read_all()
        self._rows = Dataset(InMemoryTable(table), fingerprint=str(path))  # or it would read all, to make one
        self._reads = 0

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: int | list[int]) -> dict:
        self._reads += 1
        if self._reads % self.give_back_every == 0:
            give_back(self)
        return self._rows[rows]


def give_back(mapped) -> None:
    """Let go of the pages of a ``numpy.memmap`` or of :class:`Passages`: they are read again when looked at again.

    Whoever goes through a file larger than memory calls it now and then. The kernel takes such pages back when it
    must, but until then they count as the job's own memory where a cluster limits it.
    """
    mapping = getattr(mapped, "_mmap", None)  # None: an array in memory
    if mapping is not None:
        mapping.madvise(mmap.MADV_DONTNEED)
