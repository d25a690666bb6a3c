"""Contriever: a BERT encoder, mean pooling over non-padding tokens, no normalisation, s(n, Q) = dot product.

The corpus is tokenised once into two memory-mapped arrays (:func:`tokenise_corpus`); whatever embeds it afterwards,
the first index, a refresh in training or the final one, reads those.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..data.passages import give_back, iterate_passages
from ..files import replacing
from .plain_text import plain_text
from .weights import load_model

WIDTH_STEP = 8
"""Padded widths are multiples of it."""


class Retriever(nn.Module):
    """One encoder for questions and passages.

    Args:
        model: a ``BertModel``.
        tokenizer: its fast tokenizer.
    """

    def __init__(self, model, tokenizer) -> None:
        super().__init__()
        self.model, self.tokenizer = model, tokenizer

    @classmethod
    def load(cls, folder: str | Path) -> Retriever:
        """Load from a checkpoint directory (:func:`weights.load_model`)."""
        from transformers import AutoTokenizer, BertModel

        model = load_model(BertModel, folder, add_pooling_layer=False)
        return cls(model, AutoTokenizer.from_pretrained(folder))

    def save(self, folder: str | Path) -> None:
        """Write weights (safetensors), config and tokenizer."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    @property
    def size(self) -> int:
        """d_emb, the length of a vector."""
        return self.model.config.hidden_size

    def forward(self, tokens: list[np.ndarray], width: int | None = None) -> Tensor:
        """Vectors of token rows, float32 (rows, d); ``width``: pad to so many tokens, not to the longest row."""
        ids, mask = pad(tokens, self.tokenizer.pad_token_id or 0, self.model.device, width)
        full = min(map(len, tokens)) == ids.shape[1]  # known here: asking the mask would wait for the GPU
        seen = None if full else mask[:, None, None].bool()
        hidden = self.model(input_ids=ids, attention_mask=seen).last_hidden_state.float()  # a mean in full precision
        return (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)

    def tokenise(self, texts: list[str], max_tokens: int) -> list[np.ndarray]:
        """Token rows of texts, special tokens included, each at most ``max_tokens`` long."""
        encode = plain_text(self.tokenizer)
        rows = encode(texts, truncation=True, max_length=max_tokens, return_attention_mask=False)["input_ids"]
        return [np.asarray(row, dtype=np.int32) for row in rows]

    @torch.inference_mode()
    def embed(self, tokens: list[np.ndarray], batch_tokens: int = 16384) -> np.ndarray:
        """Vectors of token rows without gradient or dropout, float32 (rows, d); order as given."""
        vectors, training = np.empty((len(tokens), self.size), dtype=np.float32), self.training
        self.eval()
        for rows, width in length_batches(np.fromiter(map(len, tokens), int, len(tokens)), batch_tokens):
            vectors[rows] = self([tokens[row] for row in rows], width).cpu().numpy()
        self.train(training)
        return vectors


def pad(rows: list[np.ndarray], pad_id: int, device, width: int | None = None) -> tuple[Tensor, Tensor]:
    """Right-padded ids and mask, int64 (rows, width); without ``width`` as wide as the longest row."""
    lengths = np.fromiter(map(len, rows), int, len(rows))
    mask = np.arange(width or lengths.max())[None] < lengths[:, None]
    ids = np.full(mask.shape, pad_id, dtype=np.int64)
    ids[mask] = np.concatenate(rows)
    return tuple(torch.from_numpy(part).to(device, non_blocking=True) for part in (ids, mask.astype(np.int64)))


def length_batches(lengths: np.ndarray, batch_tokens: int) -> Iterator[tuple[np.ndarray, int]]:
    """Row numbers in batches of like length, longest first, and the width to pad each to.

    A batch has at most ``batch_tokens`` tokens, padding included. Sorting by length wastes little work on padding,
    and longest first meets the memory peak at once. Widths are multiples of 8: tensor cores want them, and an
    allocator that is asked for a new size with every batch keeps the old ones
    (docs/measurements/corpus-scale.md).
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        width = max(1, -(-int(lengths[order[start]]) // WIDTH_STEP)) * WIDTH_STEP
        stop = start + max(1, batch_tokens // width)
        yield order[start:stop], width
        start = stop


def passage_text(title: str, text: str) -> str:
    """What the retriever reads of a passage [Atlas: title, then text]."""
    return f"{title} {text}" if title else text


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
    retriever_tokenizer, passages: str | Path, max_tokens: int, tokens: str | Path, offsets: str | Path,
    batch: int = 4096,
) -> None:  # fmt: skip
    """Write the corpus's token rows end to end (``tokens``) and where each starts (``offsets``).

    Args:
        retriever_tokenizer: a fast tokenizer.
        passages: ``passages.arrow``.
        tokens: ``.npy`` of uint16 (uint32 for a larger vocabulary).
        offsets: ``.npy`` of int64, passages + 1 long.

    Memory holds one batch, however large the corpus.
    """
    kind = np.uint16 if len(retriever_tokenizer) <= 2**16 else np.uint32
    with _growing(tokens, kind) as add_tokens, _growing(offsets, np.int64) as add_offsets:
        add_offsets(np.zeros(1, np.int64))
        end = 0
        bar = tqdm(desc="tokenising", unit="passage", mininterval=5)
        for texts in iterate_passages(passages, batch):
            rows = plain_text(retriever_tokenizer)(
                [passage_text(title, text) for title, text in texts],
                truncation=True, max_length=max_tokens, return_attention_mask=False,
            )["input_ids"]  # fmt: skip
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
