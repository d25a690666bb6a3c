"""Where a GPU benchmark runs, at what size, and until when; a table of what it measured."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import shapes  # first: it says where the package is
from attention_distillation.jobs import runtime
from attention_distillation.retrieval import index

WIKIPEDIA = 21_015_324


class UnitVectors:
    """A shard of random unit vectors, made on the device as it is read: 32 GB that lie on no disk."""

    def __init__(self, rows: int, size: int, device: str) -> None:
        self.shape, self._device = (rows, size), device

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        start, stop, _ = rows.indices(len(self))
        draw = torch.Generator(self._device).manual_seed(start)
        made = torch.randn(stop - start, self.shape[1], generator=draw, device=self._device)
        return torch.nn.functional.normalize(made).half().cpu().numpy()


class Bench:
    """Where it runs, at what size, and until when."""

    def __init__(self, toy: bool, minutes: float, folder: Path) -> None:
        self.toy, self.folder, self.device = toy, folder, runtime.device()
        self.shape = shapes.TOY if toy else shapes.TRUE
        self.rows = 3000 if toy else WIKIPEDIA
        self._end, self._whole = time.monotonic() + 60 * minutes, None

    def time_is_up(self) -> bool:
        return time.monotonic() > self._end

    def wait(self) -> None:
        """Until the GPU has done all that it was told."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def seconds(self, work: Callable[[], object], times: int) -> float:
        """Mean time of ``work``, after one time that does not count."""
        work()
        self.wait()
        begun = time.perf_counter()
        for _ in range(times):
            work()
        self.wait()
        return (time.perf_counter() - begun) / times

    def whole(self) -> index.TorchIndex:
        """An index of random unit vectors, as many as Wikipedia has passages; made once, for it takes half a minute."""
        if self._whole is None:
            self._whole = index.TorchIndex(
                [UnitVectors(self.rows, self.shape.bert["hidden_size"], self.device)], self.device
            )
        return self._whole

    def forget(self, whole: bool = False) -> None:
        """Give memory back before something large is made; with ``whole`` the index too."""
        if whole:
            self._whole = None
        gc.collect()
        if self.device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def peak_gib(self) -> float | None:
        """Most GPU memory that tensors took since :meth:`forget`."""
        return round(torch.cuda.max_memory_allocated() / 2**30, 2) if self.device == "cuda" else None


def table(rows: list[dict]) -> str:
    """Rows of like keys as a Markdown table."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    lines = [keys, ["---"] * len(keys), *([_cell(row.get(key)) for key in keys] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: object) -> str:
    return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
