"""Where a GPU benchmark runs, at what size, and until when; a table of what it measured."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from pathlib import Path

import torch

import shapes  # first: it says where the package is
from attention_distillation import runtime

WIKIPEDIA = 21_015_324


class Bench:
    """Where it runs, at what size, and until when."""

    def __init__(self, toy: bool, minutes: float, folder: Path) -> None:
        self.toy, self.folder, self.device = toy, folder, runtime.device()
        self.shape = shapes.TOY if toy else shapes.TRUE
        self.rows = 3000 if toy else WIKIPEDIA
        self._end = time.monotonic() + 60 * minutes

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

    def forget(self) -> None:
        """Give memory back before something large is made."""
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
