"""Vectors to the k nearest: embedding shards on disk, and search over them.

A shard is a ``.npy`` of float32 or float16, (passages, d), memory-mapped by whoever reads it. Whoever goes through
the corpus, to embed it or to search it, does so a block at a time and lets go of each: memory does not grow with the
corpus (benchmarks/corpus_scale.py). On a GPU the shards are one bfloat16 matrix there. IVF-PQ is for machines that can
hold neither; its recall against exact is measured.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from ..data.passages import give_back
from ..files import InputError, replacing
from ..records import write_retrieved

if TYPE_CHECKING:
    from torch import Tensor

    from ..models.encoder import Encoder
    from ..models.retriever import Retriever
    from .tokens import TokenisedCorpus

BLOCK_ROWS = 2**16
"""Passages held in memory at a time: 200 MB of float32 at d = 768, and enough to sort by length."""
GROUP_ROWS, CANDIDATE_GROUPS, QUESTIONS_AT_ONCE, BLOCK_SCORES = 32, 64, 64, 2**25  # of TorchIndex
GEMV_ELEMENTS = 2**31 - 1
"""Of one block of its matrix: for one question cuBLAS reads outside a larger one (pytorch issue 17897)."""
SEARCH_BYTES = 5e8
"""What a search on a GPU takes beside the index."""


def shard_bounds(passages: int, shard: int, shards: int) -> tuple[int, int]:
    """First passage of a shard and the one after its last; shards differ by one passage at most."""
    return passages * shard // shards, passages * (shard + 1) // shards


def embed_shard(
    encoder: Encoder,
    corpus: TokenisedCorpus,
    bounds: tuple[int, int],
    path: str | Path,
    *,
    batch_tokens: int,
    dtype: str = "float32",
    progress: bool = True,
) -> None:
    """Embed the passages between ``bounds`` into the shard ``path``, batches sorted by length within a block."""
    import torch

    from ..models.encoder import length_batches

    start, stop = bounds
    kind = np.dtype(dtype)
    with replacing(path) as part, open(part, "wb") as file, torch.inference_mode():
        shape = (stop - start, encoder.size)
        np.lib.format.write_array_header_1_0(file, {"descr": kind.str, "fortran_order": False, "shape": shape})
        bar = tqdm(total=stop - start, desc="embedding", unit="passage", mininterval=5, disable=not progress)
        for first in range(start, stop, BLOCK_ROWS):
            block = np.empty((min(BLOCK_ROWS, stop - first), encoder.size), kind)
            for rows, width in length_batches(corpus.lengths(first, first + len(block)), batch_tokens):
                block[rows] = encoder(corpus[rows + first], width).cpu().numpy()
                bar.update(len(rows))
            file.write(block)  # its own memory: no copy
            corpus.give_back()
        bar.close()


def open_shards(paths: Sequence[str | Path]) -> list[np.ndarray]:
    """The shards, memory-mapped, in the order of ``paths``."""
    return [np.load(path, mmap_mode="r", allow_pickle=False) for path in paths]


class ExactIndex:
    """Exact inner-product search over memory-mapped shards (``faiss.knn``), a block at a time."""

    def __init__(self, shards: Sequence[np.ndarray]) -> None:
        self._shards = shards

    def __len__(self) -> int:
        return sum(map(len, self._shards))

    def search(self, questions: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Scores float32 and row numbers int64, both (questions, k), best first; ties go to the lower row."""
        scores = np.full((len(questions), 0), 0, dtype=np.float32)
        rows = np.zeros((len(questions), 0), dtype=np.int64)
        begin = 0
        for shard in self._shards:
            for start in range(0, len(shard), BLOCK_ROWS):
                block = np.ascontiguousarray(shard[start : start + BLOCK_ROWS], dtype=np.float32)
                block_scores, places = _nearest(questions, block, k)
                give_back(shard)
                scores = np.concatenate([scores, block_scores], 1)
                rows = np.concatenate([rows, places.astype(np.int64) + begin + start], 1)
                order = np.lexsort((rows, -scores))[:, :k]
                scores, rows = np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)
            begin += len(shard)
        return scores, rows


def _nearest(questions: np.ndarray, block: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k best of a block and, since FAISS keeps any of those that tie for the last place, all of these too."""
    import faiss

    count = k
    while True:
        count = min(count + 1, len(block))
        scores, places = faiss.knn(questions, block, count, metric=faiss.METRIC_INNER_PRODUCT)
        if count == len(block) or (scores[:, -1] < scores[:, k - 1]).all():
            return scores, places
        count *= 2


class TorchIndex:
    """Exact search on a GPU: one bfloat16 matrix, read once for up to 64 questions.

    The first pass multiplies in bfloat16 and keeps the best score of every 32 rows: sorting out 21 million scores a
    question would take as long as making them. The second scores the rows of the best groups again, in float32 and
    with the question as it is: bfloat16 scores, of eight bits, tie by the dozen where the nearest passages are. A row
    is missed only where the best of more than 64 groups round to its score or a higher one.

    Beside the matrix it takes 0.5 GB in use, however large the corpus.
    """

    def __init__(self, shards: Sequence[np.ndarray], device) -> None:
        import torch

        self._size = sum(map(len, shards))
        padded = -(-self._size // GROUP_ROWS) * GROUP_ROWS
        self._matrix = torch.empty((padded, shards[0].shape[1]), dtype=torch.bfloat16, device=device)
        self._matrix[self._size :] = 0
        begin = 0
        for shard in shards:
            for start in range(0, len(shard), BLOCK_ROWS):
                block = torch.from_numpy(np.array(shard[start : start + BLOCK_ROWS]))
                self._matrix[begin + start : begin + start + len(block)] = block.to(device)
                give_back(shard)
            begin += len(shard)

    def __len__(self) -> int:
        return self._size

    def search(self, questions: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """As :meth:`ExactIndex.search`."""
        import torch

        with torch.inference_mode():
            asked = torch.from_numpy(questions).to(self._matrix.device).split(QUESTIONS_AT_ONCE)
            scores, rows = (torch.cat(part) for part in zip(*(self._search(some, k) for some in asked), strict=True))
        return scores.cpu().numpy(), rows.cpu().numpy()

    def _search(self, questions: Tensor, k: int) -> tuple[Tensor, Tensor]:
        import torch

        low, best = questions.to(self._matrix), []
        most = GEMV_ELEMENTS // low.shape[1]
        block_rows = min(most, BLOCK_SCORES // len(low)) // GROUP_ROWS * GROUP_ROWS
        for block in self._matrix.split(block_rows):
            best.append((low @ block.T).view(len(low), -1, GROUP_ROWS).amax(2))
        groups = torch.cat(best, 1)
        groups = groups.topk(min(CANDIDATE_GROUPS + k, groups.shape[1]), dim=1).indices.sort(1).values
        rows = groups[:, :, None] * GROUP_ROWS + torch.arange(GROUP_ROWS, device=groups.device)
        rows = rows.flatten(1)  # ascending: of equal scores the lower row comes first
        scores = torch.bmm(self._matrix[rows].float(), questions[:, :, None]).squeeze(2)
        scores, places = scores.masked_fill(rows >= self._size, -math.inf).sort(dim=1, descending=True, stable=True)
        return scores[:, :k], rows.gather(1, places[:, :k])


class CompressedIndex:
    """FAISS IVF-PQ, trained on a sample and filled shard by shard."""

    def __init__(
        self, shards: Sequence[np.ndarray], *, lists: int, probes: int, code_bytes: int, seed: int = 0
    ) -> None:
        import faiss

        size = shards[0].shape[1]
        if size % code_bytes:
            raise InputError(f"retrieval.code_bytes: {code_bytes} does not divide the {size} values of a vector.")
        total = sum(map(len, shards))
        rng = np.random.default_rng(seed)
        picks = np.sort(rng.choice(total, min(total, 64 * max(lists, 256)), replace=False))
        starts = np.cumsum([0, *map(len, shards)])
        parts = [picks[(picks >= a) & (picks < b)] - a for a, b in pairwise(starts)]
        sample = np.concatenate([shard[rows] for shard, rows in zip(shards, parts, strict=True)]).astype(np.float32)
        if len(sample) < max(lists, 256):
            raise InputError(f"retrieval.index: ivfpq needs {max(lists, 256)} passages or more; use 'exact'.")
        quantizer = faiss.IndexFlatIP(size)
        self._index = faiss.IndexIVFPQ(quantizer, size, lists, code_bytes, 8, faiss.METRIC_INNER_PRODUCT)
        self._index.train(sample)
        for shard in shards:
            for start in range(0, len(shard), BLOCK_ROWS):
                self._index.add(np.ascontiguousarray(shard[start : start + BLOCK_ROWS], dtype=np.float32))
                give_back(shard)
        self._index.nprobe = probes

    def __len__(self) -> int:
        return self._index.ntotal

    def search(self, questions: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """As :meth:`ExactIndex.search`, approximately; a list too short for k is filled with the row of rank 1."""
        scores, rows = self._index.search(questions, k)
        missing = rows < 0
        return np.where(missing, scores[:, :1], scores), np.where(missing, np.maximum(rows[:, :1], 0), rows)


def build(shards: Sequence[np.ndarray], retrieval, device: str = "cpu"):
    """The index that the settings (:class:`settings.Retrieval`) ask for.

    Raises:
        InputError: k is larger than the corpus.
    """
    total = sum(map(len, shards))
    if retrieval.k > total:
        raise InputError(f"retrieval.k: {retrieval.k} passages are asked for, and the corpus has {total}; lower k.")
    if retrieval.index == "ivfpq":
        return CompressedIndex(shards, lists=retrieval.lists, probes=retrieval.probes, code_bytes=retrieval.code_bytes)
    return ExactIndex(shards) if device == "cpu" else TorchIndex(shards, device)


def recall(index, exact, questions: np.ndarray, k: int) -> float:
    """Share of the exact k nearest that ``index`` finds too, a mean over questions."""
    approximate, true = index.search(questions, k)[1], exact.search(questions, k)[1]
    return float(np.mean([len(np.intersect1d(a, b)) / k for a, b in zip(approximate, true, strict=True)]))


def retrieve(
    index, shards: Sequence[np.ndarray], retriever: Retriever, questions: Sequence[str], retrieval, path: str | Path
) -> None:
    """Write the k nearest passages of each question, how the retriever scores, and an approximate index's recall."""
    vectors = retriever.question.embed(retriever.question.tokenise(questions))
    scores, rows = index.search(vectors, retrieval.k)
    facts = {"retriever": retriever.facts()}
    if retrieval.index == "ivfpq":
        facts["recall_against_exact"] = recall(index, ExactIndex(shards), vectors[:500], retrieval.k)
        tqdm.write(f"IVF-PQ finds {facts['recall_against_exact']:.3f} of the exact {retrieval.k} nearest", sys.stderr)
    write_retrieved(path, rows, scores, facts)
