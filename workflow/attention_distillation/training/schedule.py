"""Which questions each step takes, and at which rate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..settings import Training
from .context import rng_of


def batches(count: int, batch: int, steps: int, seed: int) -> Iterator[np.ndarray]:
    """Question numbers of each step: epoch after epoch, each in an order of its own."""
    order, epoch = np.empty(0, dtype=np.int64), 0
    for _ in range(steps):
        while len(order) < batch:
            order = np.concatenate([order, rng_of(seed, 1, epoch).permutation(count)])
            epoch += 1
        yield order[:batch]
        order = order[batch:]


def ahead(make: Callable, items: Iterable) -> Iterator[tuple]:
    """``(item, make(item))`` for each item in order; a thread makes the next one meanwhile."""
    with ThreadPoolExecutor(1) as thread:
        waiting = None
        for item in items:
            following = item, thread.submit(make, item)
            if waiting:
                yield waiting[0], waiting[1].result()
            waiting = following
        if waiting:
            yield waiting[0], waiting[1].result()


def rate(training: Training, part: str, step: int) -> float:
    """A part's learning rate after so many steps: linear warm-up, then linear decay.

    With ``rate_floor`` f warm-up begins and decay ends at f times the highest rate [Atlas: 0.1].
    """
    highest, warmup, steps = training.rate_of(part), training.warmup_steps, training.steps
    if step < warmup:
        linear = highest * (step + 1) / warmup
    else:
        linear = highest * max(0.0, (steps - step) / max(1, steps - warmup))
    return training.rate_floor * highest + (1 - training.rate_floor) * linear
