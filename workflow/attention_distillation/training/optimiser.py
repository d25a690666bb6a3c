"""Adam in float32 for a model that computes in bfloat16."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from ..models.weights import cast

CHUNK_TENSORS = 64
"""Whose float32 gradients are held at once: 1.5 GB of Falcon-RW-1B's."""


def _nothing(_gradients: Sequence[Tensor]) -> None: ...


class Adam(torch.optim.Adam):
    """Adam whose parameters are float32 *masters* of a module's weights; the module holds them rounded to ``dtype``.

    A rate of 5e-7 changes no bfloat16 weight; summed up in its master it does. With ``dtype`` float32 the masters are
    the module's own weights, and this is ``torch.optim.Adam``, bit for bit.

    Why not autocast over float32 weights? Bytes that a trained weight moves through the GPU's memory in a step
    (for Falcon-RW-1B's 1.31e9 weights, 46 are 60 GB, or 20 ms of an H100's 3.0 TB/s):

    ============================  ========  ========
    what                          autocast   here
    ============================  ========  ========
    cast for the forward             4 + 2       –
    read in forward and backward     2 + 2   2 + 2
    gradient written                     2       2
    gradient to float32              2 + 4   2 + 4
    Adam: weight, moments, gradient     28      28
    master rounded to the weight         –   4 + 2
    **sum**                             46      46
    a weight that is not trained     6 + 2       2
    ============================  ========  ========

    So a step of the reader alone costs the same traffic, but here a frozen reader (step2), the perplexity signal's
    second forward and every batch of an index refresh read 2 bytes a weight instead of 8, the forward and backward
    launch no casts (some 400 kernels a step at batch 1, where launching is what takes the time), the step needs
    16 bytes of memory a weight instead of 20, and no stale cast can be left behind. A kernel of our own that read
    bfloat16 gradients and wrote both copies would move 34 bytes; torch's fused Adam takes only float32 gradients.

    Args:
        module: in float32; its weights are in ``dtype`` afterwards.
        lr: the rate; each group's ``lr`` may be set at any time.
        dtype: what the module computes in.
        fused: one kernel for many tensors (on a GPU).
        reduce: adds up float32 gradients, in place, over all who share the batch.
    """

    def __init__(
        self, module: nn.Module, lr: float, *, dtype: torch.dtype = torch.float32, fused: bool = False,
        reduce: Callable[[Sequence[Tensor]], None] = _nothing,
    ) -> None:  # fmt: skip
        self._weights, self._reduce = list(module.parameters()), reduce
        self._mixed = dtype != torch.float32
        self._masters = [nn.Parameter(weight.data) for weight in self._weights] if self._mixed else self._weights
        cast(module, dtype)
        self._sums: dict[int, Tensor] = {}
        super().__init__(self._masters, lr=lr, fused=fused)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of the module and what was gathered of them."""
        for weight in self._weights:
            weight.grad = None
        self._sums.clear()

    def gather(self) -> None:
        """Add the gradients of a part of the batch up in float32: in bfloat16 the small ones would be lost."""
        if not self._mixed:
            return
        for number, weight in enumerate(self._weights):
            if weight.grad is not None:
                known = self._sums.get(number)
                self._sums[number] = weight.grad.float() if known is None else known.add_(weight.grad)
                weight.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Change the masters by their gradients, a few tensors at a time, and round them into the module."""
        if not self._mixed:
            self._reduce([weight.grad for weight in self._weights if weight.grad is not None])
            super().step()
            return
        for start in range(0, len(self._weights), CHUNK_TENSORS):  # so few float32 gradients are held at once
            numbers = range(len(self._weights))[start : start + CHUNK_TENSORS]
            taken = [n for n in numbers if n in self._sums or self._weights[n].grad is not None]
            if not taken:
                continue
            fresh = [n for n in taken if n not in self._sums]
            for n in taken:
                self._masters[n].grad = self._sums.pop(n) if n in self._sums else torch.empty_like(self._masters[n])
            if fresh:
                torch._foreach_copy_([self._masters[n].grad for n in fresh], [self._weights[n].grad for n in fresh])
            for n in taken:
                self._weights[n].grad = None
            self._reduce([self._masters[n].grad for n in taken])
            super().step()  # passes over masters without a gradient
            torch._foreach_copy_([self._weights[n] for n in taken], [self._masters[n] for n in taken])
            for n in taken:
                self._masters[n].grad = None

    @contextlib.contextmanager
    def exact(self) -> Iterator[None]:
        """Inside ``with`` the module holds the masters, to be saved or overwritten; then their rounding again."""
        if not self._mixed:
            yield
            return
        rounded = [weight.data for weight in self._weights]
        for weight, master in zip(self._weights, self._masters, strict=True):
            weight.data = master.data
        try:
            yield
        finally:
            for weight, master, low in zip(self._weights, self._masters, rounded, strict=True):
                weight.data = low.copy_(master.data)
