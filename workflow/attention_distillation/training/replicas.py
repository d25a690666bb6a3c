"""Processes that train one model together, one a GPU: each takes its share of every batch."""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch import distributed as dist

PATIENCE = datetime.timedelta(hours=12)
"""How long one waits for another: at a refresh of 21 million passages one may have a shard more to embed."""


@dataclass(frozen=True)
class Replicas:
    """``size`` processes, of which this is number ``rank``. Each holds the whole model; number 0 writes files."""

    rank: int = 0
    size: int = 1

    @classmethod
    def join(cls) -> Replicas:
        """Meet the others that ``torch.distributed.run`` started; NCCL where there are GPUs, gloo on CPUs."""
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        return cls(dist.get_rank(), dist.get_world_size())

    def leave(self) -> None:
        """Part from the others, last of all."""
        dist.destroy_process_group()

    def share(self, items: Sequence) -> np.ndarray:
        """This one's part of ``items``; shares differ by one at most."""
        return np.array_split(np.asarray(items), self.size)[self.rank]

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all processes; every process then holds the same bits."""
        if self.size > 1:
            for waiting in [dist.all_reduce(tensor, async_op=True) for tensor in tensors]:
                waiting.wait()

    def wait(self) -> None:
        """Until all are here."""
        if self.size > 1:
            dist.barrier()

    @contextlib.contextmanager
    def one_first(self) -> Iterator[None]:
        """Number 0 does what is inside ``with`` before the others do."""
        if self.rank:
            self.wait()
        yield
        if not self.rank:
            self.wait()
