"""The losses of a run's steps: summed up for the log, and none that is no number goes by."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ..files import InputError
from .replicas import Replicas

NAMED = 8
"""Questions of a batch that an error names."""


class Losses:
    """Sums of losses over steps, over all replicas.

    On a GPU the losses of a step are looked at when the next step has been handed to it: nobody waits for the step
    that is being computed, and a loss that is no number stops the run one step later. On a CPU it stops at once.

    With each step's losses goes one more value over all replicas: does number 0 wish to save the state? So all of them
    save after the same step, whatever their clocks say.

    Args:
        names: which losses there are.
        replicas: who shares a batch.
        asked: ids of the questions of a batch, from their rows; for the error.
    """

    def __init__(self, names: Sequence[str], replicas: Replicas, asked: Callable[[np.ndarray], list[str]]) -> None:
        self.names, self.replicas, self.asked = list(names), replicas, asked
        self.sums: dict[str, Tensor] = {}
        self.since, self.save_wished = 0, False
        self._waiting: deque = deque()

    def begin(self, sums: dict[str, float] | None = None, since: int = 0) -> None:
        """Start summing up: at nothing, or at the sums over the last ``since`` steps."""
        self.sums = {name: torch.tensor(value) for name, value in (sums or {}).items()}
        self.since = since

    def add(self, step: int, rows: np.ndarray, losses: dict[str, Tensor], *, wish_to_save: bool = False) -> None:
        """Take in the losses of one step.

        Args:
            step: how many steps are done with it.
            rows: the whole batch.
            losses: this replica's part of each loss; over all replicas they add up to the batch's mean.

        Raises:
            InputError: a loss is no number; names step and questions.
        """
        first = losses[self.names[0]]
        values = torch.stack([*(losses[name] for name in self.names), first.new_full((), float(wish_to_save))])
        self.replicas.add([values])
        on_gpu = values.is_cuda
        here = values.to("cpu", non_blocking=True)
        copied = torch.cuda.Event() if on_gpu else None
        if on_gpu:
            copied.record()
        self._waiting.append((step, rows, here, copied))
        self._look(leave=1 if on_gpu else 0)

    def settle(self) -> None:
        """Look at the losses of every step so far: before a log row or a saved state."""
        self._look(leave=0)

    def means(self) -> dict[str, float]:
        """The mean of each loss over the steps that are summed up."""
        return {name: float(total) / self.since for name, total in self.sums.items()}

    def _look(self, leave: int) -> None:
        while len(self._waiting) > leave:
            step, rows, values, copied = self._waiting.popleft()
            if copied is not None:
                copied.synchronize()
            *losses, wish = values
            for name, loss in zip(self.names, losses, strict=True):
                if not torch.isfinite(loss):
                    raise self._no_number(step, name, float(loss), rows)
                self.sums[name] = self.sums.get(name, 0) + loss
            self.since += 1
            self.save_wished |= bool(wish)

    def _no_number(self, step: int, name: str, loss: float, rows: np.ndarray) -> InputError:
        ids = self.asked(rows)
        more = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
        return InputError(
            f"step {step}: the {name}'s loss is {loss} on questions {', '.join(ids[:NAMED])}{more}; lower its learning "
            "rate or set clip_norm. The last state that was saved is of a step before, and is kept."
        )
