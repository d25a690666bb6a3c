"""One side of a retriever: texts to token rows, token rows to vectors, in batches of like length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from .plain_text import plain_text

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

WIDTH_STEP = 8
"""Padded widths are multiples of it."""
TASKS = {"question": "query", "passage": "document"}
"""What sentence-transformers calls the two sides."""


class Encoder:
    """One side of a retriever: how its texts are tokenised and made vectors. The weights are the retriever's.

    Args:
        model: holds transformer, pooling and what follows, prompts and lengths.
        side: ``question`` or ``passage``.
        separator: between a passage's title and text.
    """

    def __init__(self, model: SentenceTransformer, side: str, separator: str = " ") -> None:
        self.model, self.side, self.separator = model, side, separator
        self.prompt = model.prompts[TASKS[side]]
        self._plain = plain_text(model.tokenizer)
        self.max_tokens = getattr(model[0], f"{TASKS[side]}_length") or model.max_seq_length
        self.cosine = model.similarity_fn_name == "cosine"
        self._limit = {"truncation": True, "max_length": self.max_tokens} if self.max_tokens < 2**31 else {}
        kept = not model[1].include_prompt and self.prompt
        self._prompt_tokens = model[0].preprocess([""], prompt=self.prompt)["prompt_length"] if kept else 0

    @property
    def tokenizer(self):
        """Of the transformer."""
        return self.model.tokenizer

    @property
    def size(self) -> int:
        """d_emb, the length of a vector."""
        size = self.model.get_embedding_dimension()
        return min(size, self.model.truncate_dim or size)

    def __call__(self, tokens: Sequence[np.ndarray], width: int | None = None) -> Tensor:
        """Vectors of token rows, float32 (rows, d); ``width``: pad to so many tokens, not to the longest row.

        They carry a gradient where the weights do. Under bfloat16 weights the tokens' vectors are pooled in float32.
        """
        transformer, *rest = self.model
        device = next(transformer.parameters()).device
        ids, mask = pad(tokens, self.tokenizer.pad_token_id or 0, device, width)
        features = {"input_ids": ids}
        if min(map(len, tokens)) < ids.shape[1]:  # known here: asking the mask would wait for the GPU
            features["attention_mask"] = mask
        if self._prompt_tokens:
            features["prompt_length"] = self._prompt_tokens
        features = transformer(features)
        features["token_embeddings"] = features["token_embeddings"].float()
        for module in rest:
            weight = next(module.parameters(), None)
            if weight is not None:
                features["sentence_embedding"] = features["sentence_embedding"].to(weight.dtype)
            features = module(features)
        vectors = features["sentence_embedding"].float()[:, : self.model.truncate_dim]
        return nn.functional.normalize(vectors, dim=-1) if self.cosine and not self._normalised else vectors

    @property
    def _normalised(self) -> bool:
        return not self.model.truncate_dim and type(self.model[-1]).__name__ == "Normalize"

    def passage_text(self, title: str, text: str) -> str:
        """What is read of a passage [Atlas: title, then text]."""
        return f"{title}{self._as_written(self.separator)}{text}" if title else text

    def token_lists(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts, prompt and special tokens included, each at most ``max_tokens`` long."""
        prompt = self._as_written(self.prompt)
        return self._plain([prompt + text for text in texts], return_attention_mask=False, **self._limit)["input_ids"]

    def characters_read(self, passages: Sequence[tuple[str, str]]) -> list[int]:
        """How many characters of its text are read of each passage (title, text)."""
        prompt = self._as_written(self.prompt)
        written = [prompt + self.passage_text(title, text) for title, text in passages]
        offsets = self._plain(written, return_offsets_mapping=True, **self._limit)["offset_mapping"]
        heads = [len(whole) - len(text) for whole, (_, text) in zip(written, passages, strict=True)]
        return [
            max(0, max((stop for _, stop in spans), default=0) - head)
            for spans, head in zip(offsets, heads, strict=True)
        ]

    def _as_written(self, words: str) -> str:
        """A prompt or separator with its special tokens as those, which in a text are letters (:func:`plain_text`)."""
        for name in self.tokenizer.all_special_tokens:
            if name in words:
                hidden = self._plain.backend_tokenizer.id_to_token(self.tokenizer.convert_tokens_to_ids(name))
                words = words.replace(name, hidden)
        return words

    def tokenise(self, texts: Sequence[str]) -> list[np.ndarray]:
        """:meth:`token_lists` as arrays of int32."""
        return [np.asarray(row, dtype=np.int32) for row in self.token_lists(texts)]

    @torch.inference_mode()
    def embed(self, tokens: Sequence[np.ndarray], batch_tokens: int = 16384) -> np.ndarray:
        """Vectors of token rows without gradient or dropout, float32 (rows, d); order as given."""
        vectors, training = np.empty((len(tokens), self.size), dtype=np.float32), self.model.training
        self.model.eval()
        for rows, width in length_batches(np.fromiter(map(len, tokens), int, len(tokens)), batch_tokens):
            vectors[rows] = self([tokens[row] for row in rows], width).cpu().numpy()
        self.model.train(training)
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
