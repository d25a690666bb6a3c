"""Is there room on disk and in memory? Asked before hours of work begin; costs milliseconds and imports no torch."""

from __future__ import annotations

import json
import math
import shutil
import struct
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from ..files import InputError

if TYPE_CHECKING:
    from ..settings import Adapter

PROCESS_BYTES, CUDA_HOST_BYTES = 6e8, 2e9
"""A process that has loaded torch and transformers [measured], and what CUDA adds to it on the host [assumed]."""
FLOAT = 4
BYTES_A_TOKEN = 4.5
"""Of a text that nobody has tokenised yet [assumed]."""
SET_ASIDE = "state.set_aside"
"""In a run's folder: what another run left there. It stays while this one trains (``training.state``)."""


def check_disk(path: str | Path, bytes_needed: float) -> None:
    """Refuse to begin what the disk under ``path`` cannot hold.

    Raises:
        InputError: says what is needed and what is free, in GB.
    """
    place = Path(path).absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if bytes_needed > free:
        raise InputError(
            f"{path}: needs {bytes_needed / 1e9:,.1f} GB and {free / 1e9:,.1f} GB are free; "
            "make room, or link 'results' to a larger disk."
        )


def check_memory(what: str, bytes_needed: float) -> None:
    """Refuse to begin what this machine's memory cannot hold; what the kernel can take back counts as free.

    Raises:
        InputError: says what is needed and what is free, in GB.
    """
    free = psutil.virtual_memory().available
    if bytes_needed > free:
        raise InputError(
            f"{what}: needs about {bytes_needed / 1e9:,.1f} GB of memory and {free / 1e9:,.1f} GB are free; "
            "end other work, run fewer jobs at once (--cores), or take a larger machine."
        )


# ------------------------------------------------------------------ what stages need


def _tensors(place: str | Path | list[str]) -> Iterator[tuple[str, list[int]]]:
    """Name and shape of every tensor in a model's directory (or its two), by the headers of its safetensors."""
    folders = [place] if isinstance(place, str | Path) else place
    for path in (path for folder in folders for path in Path(folder).rglob("*.safetensors")):
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
        yield from ((name, tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")


def weights(place: str | Path | list[str]) -> int:
    """How many weights a model's directory holds (or its two)."""
    return sum(math.prod(shape) for _, shape in _tensors(place))


def adapter_weights(place: str | Path, adapter: Adapter) -> int:
    """How many weights the adapters of a reader's directory have at most: r for each row and column of a matrix.

    Of ``all-linear`` its embeddings are counted too, which have none.
    """
    chosen = None if adapter.targets == "all-linear" else tuple(f".{target}.weight" for target in adapter.targets)
    shapes = (shape for name, shape in _tensors(place) if chosen is None or f".{name}".endswith(chosen))
    return sum(adapter.r * sum(shape) for shape in shapes if len(shape) == 2)


def token_bytes(passages: int, tokens: float, vocabulary: int) -> float:
    """``tokens.npy`` and ``offsets.npy`` of a corpus of so many tokens a passage."""
    return passages * (tokens * (2 if vocabulary <= 2**16 else 4) + 8)


def shard_bytes(passages: int, size: int, dtype: str) -> int:
    """Embedding shards of so many passages."""
    return passages * size * (2 if dtype == "float16" else FLOAT)


def training_disk(trained: int, saved: int, index_bytes: float) -> tuple[float, float]:
    """Bytes while a run trains and bytes that it leaves.

    While it trains: the state (weights and both of Adam's moments) twice, since a new one is whole before the old one
    goes, then the checkpoint; and the shards of the last refresh.

    Args:
        trained: weights that learn.
        saved: weights of the checkpoint: the same, or all of a reader whose adapters learn.
        index_bytes: of the refreshed index.
    """
    state, checkpoint = 3 * FLOAT * trained, FLOAT * saved
    return 2 * state + checkpoint + index_bytes, checkpoint


def process_memory(weights: float, *, on_gpu: bool) -> float:
    """Host memory of a job that loads so many weights; they pass through on their way to a GPU."""
    return PROCESS_BYTES + on_gpu * CUDA_HOST_BYTES + FLOAT * weights


def training_memory(trained: int, frozen: int, *, on_gpu: bool, adapted: int = 0) -> float:
    """Host memory of a run: moments come back from a GPU to be saved; without one, gradients are here too.

    Args:
        adapted: weights, among the frozen ones, of a reader whose adapters learn: with them added it is made once more.
    """
    held = max(trained + frozen, 2 * trained) if on_gpu else 4 * trained + frozen + adapted
    return process_memory(held, on_gpu=on_gpu)


# ------------------------------------------------------------------ asked by the jobs


def check_tokenising(tokens: str | Path, passages: str | Path, vocabulary: int) -> None:
    """Before a corpus is tokenised: is there room for ``tokens.npy``, by the size of ``passages.arrow``?"""
    check_disk(tokens, token_bytes(1, Path(passages).stat().st_size / BYTES_A_TOKEN, vocabulary))


def check_embedding(
    shard: str | Path, passages: int, size: int, retriever: str | Path | list[str], dtype: str, *, on_gpu: bool
) -> None:
    """Before so many passages become vectors of ``size`` values: is there room for them and for the retriever?"""
    check_disk(shard, shard_bytes(passages, size, dtype))
    check_memory("embedding", process_memory(weights(retriever), on_gpu=on_gpu))


def check_training(
    folder: str | Path, models: dict[str, str | Path], trained: Collection[str], shards: Iterable[str], *, on_gpu: bool,
    adapter: Adapter | None = None,
) -> None:  # fmt: skip
    """Before a run trains: is there room for its state, its checkpoint and the index that it refreshes?

    Args:
        folder: the run's; what a killed job left there to go on from is counted as room.
        models: directory of each part.
        trained: the parts that learn.
        shards: of the first index, where a retriever learns.
        adapter: of a reader that is trained by LoRA.
    """
    counts = {part: weights(path) for part, path in models.items()}
    saved = learn = sum(counts[part] for part in trained)
    adapted = counts["reader"] if adapter else 0
    if adapter:
        learn += adapter_weights(models["reader"], adapter) - adapted
    needed, _ = training_disk(learn, saved, sum(Path(shard).stat().st_size for shard in shards))
    files = (path for path in Path(folder).rglob("*") if path.is_file() and SET_ASIDE not in path.parts)
    there = sum(path.stat().st_size for path in files)
    check_disk(folder, needed - there)
    frozen = sum(counts.values()) - saved + adapted
    check_memory("training", training_memory(learn, frozen, on_gpu=on_gpu, adapted=adapted))
