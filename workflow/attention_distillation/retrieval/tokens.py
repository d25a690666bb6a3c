"""The corpus as a retriever's token rows, made once: whatever embeds it afterwards reads these.

Two memory-mapped arrays, the token ids of all passages end to end and where each starts. The first index, a refresh in
training and the final one are all made from them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from ..data.passages import give_back, iterate_passages
from ..files import replacing

if TYPE_CHECKING:
    from ..models.retriever import Encoder


class TokenisedCorpus:
    """Token rows of every passage, memory-mapped: ``corpus[[3, 5]]`` gives two arrays of token ids."""

    def __init__(self, tokens: str | Path, offsets: str | Path) -> None:
        self._tokens = np.load(tokens, mmap_mode="r", allow_pickle=False)
        self._offsets = np.load(offsets, mmap_mode="r", allow_pickle=False)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, rows: Iterable[int]) -> list[np.ndarray]:
        return [self._tokens[self._offsets[row] : self._offsets[row + 1]] for row in rows]

    def lengths(self, start: int, stop: int) -> np.ndarray:
        """Tokens of the passages from ``start`` to before ``stop``."""
        return np.diff(self._offsets[start : stop + 1])

    def give_back(self) -> None:
        """Let go of the pages read so far (:func:`passages.give_back`)."""
        give_back(self._tokens)
        give_back(self._offsets)


def tokenise_corpus(
    encoder: Encoder, passages: str | Path, tokens: str | Path, offsets: str | Path, batch: int = 4096
) -> None:
    """Write the corpus's token rows end to end (``tokens``) and where each starts (``offsets``).

    Args:
        encoder: the retriever's encoder of passages.
        passages: ``passages.arrow``.
        tokens: ``.npy`` of uint16 (uint32 for a larger vocabulary).
        offsets: ``.npy`` of int64, passages + 1 long.

    Memory holds one batch, however large the corpus.
    """
    kind = np.uint16 if len(encoder.tokenizer) <= 2**16 else np.uint32
    with _growing(tokens, kind) as add_tokens, _growing(offsets, np.int64) as add_offsets:
        add_offsets(np.zeros(1, np.int64))
        end = 0
        bar = tqdm(desc="tokenising", unit="passage", mininterval=5)
        for texts in iterate_passages(passages, batch):
            rows = encoder.token_lists([encoder.passage_text(title, text) for title, text in texts])
            add_tokens(np.fromiter(chain.from_iterable(rows), kind))
            ends = end + np.cumsum([len(row) for row in rows], dtype=np.int64)
            add_offsets(ends)
            end = int(ends[-1])
            bar.update(len(rows))
        bar.close()


@contextlib.contextmanager
def _growing(path: str | Path, kind: type) -> Iterator[Callable[[np.ndarray], None]]:
    """A one-dimensional ``.npy`` written piece by piece: its header, which says how long it is, is written last."""
    with replacing(path) as part, open(part, "wb") as file:
        header = {"descr": np.dtype(kind).str, "fortran_order": False, "shape": (10**15,)}  # room for any length
        np.lib.format.write_array_header_1_0(file, header)
        begin, length = file.tell(), 0

        def add(values: np.ndarray) -> None:
            nonlocal length
            file.write(values.astype(kind, copy=False).tobytes())
            length += len(values)

        yield add
        file.seek(0)
        np.lib.format.write_array_header_1_0(file, {**header, "shape": (length,)})
        if file.tell() != begin:
            raise RuntimeError("the header of a .npy file changed its length")
