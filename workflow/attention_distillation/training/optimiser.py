"""AdamW in float32 for models that compute in bfloat16, and one gradient norm over all of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..models.weights import cast
from .replicas import Replicas

BLOCK_WEIGHTS = 2**28
"""Whose float32 gradients are held at once: 1 GB of them."""


@dataclass
class _Block:
    """Some weights of one module, their float32 masters, and the AdamW that steps them.

    Attributes:
        names: of the weights in their module.
        weights: what the module computes with.
        masters: the same in float32; ``weights`` themselves where the module computes in float32.
        sums: float32 gradients of the parts of a batch so far, by number; empty where masters are the weights.
    """

    names: list[str]
    weights: list[nn.Parameter]
    masters: list[nn.Parameter]
    adam: torch.optim.AdamW
    sums: dict[int, Tensor] = field(default_factory=dict)

    @property
    def mixed(self) -> bool:
        return self.masters is not self.weights

    def gather(self) -> None:
        """Add the gradients that the last backward left to the float32 sums, and drop them."""
        for number, weight in enumerate(self.weights if self.mixed else ()):
            if weight.grad is not None:
                known = self.sums.get(number)
                self.sums[number] = weight.grad.float() if known is None else known.add_(weight.grad)
                weight.grad = None

    def gradients(self) -> dict[int, Tensor]:
        """float32 gradients by number; of a bfloat16 module whose parts were not gathered, a copy."""
        given = {number: weight.grad for number, weight in enumerate(self.weights) if weight.grad is not None}
        return self.sums | {n: gradient.float() for n, gradient in given.items() if n not in self.sums}

    def step(self, gradients: dict[int, Tensor]) -> None:
        """Change the masters and round them into the module."""
        for number, gradient in gradients.items():
            self.masters[number].grad = gradient
        self.adam.step()  # passes over masters without a gradient
        if self.mixed and gradients:
            changed = [self.weights[number] for number in gradients], [self.masters[number] for number in gradients]
            torch._foreach_copy_(*changed)
            for weight, master in zip(*changed, strict=True):
                weight.grad = master.grad = None
            self.sums.clear()


class Optimiser:
    """``torch.optim.AdamW`` over float32 *masters* of modules' weights; the modules hold them rounded to ``dtype``.

    A rate of 5e-7 changes no bfloat16 weight; summed up in its master it does. With ``dtype`` float32 the masters are
    the modules' own weights. Without decay and clipping this is then ``torch.optim.Adam``, bit for bit. Why masters and
    not autocast over float32 weights: docs/measurements/optimiser.md.

    Weights are stepped a block at a time, each block by an AdamW of its own, so that float32 gradients of one block
    alone are held. With ``clip_norm`` each block is cast twice: for the norm, and to be stepped. Two things hold all
    float32 gradients at once: a batch in parts, whose gradients are summed up in float32, and clipping on several
    replicas, since the norm is that of the gradient summed over them.

    Args:
        modules: what is trained, by name, in float32; their weights are in ``dtype`` afterwards. Those that need no
            gradient stay as they are (a reader beside whose weights adapters learn).
        dtype: what the modules compute in.
        fused: one kernel for many tensors (on a GPU).
        epsilon: of AdamW's denominator.
        weight_decay: share of a weight that a step of rate 1 takes off it, of every weight.
        clip_norm: gradients of all modules together are scaled down to this norm; None: they are left as they are.
        replicas: who shares a batch; gradients are added up over them in float32.
    """

    def __init__(
        self, modules: Mapping[str, nn.Module], *, dtype: torch.dtype = torch.float32, fused: bool = False,
        epsilon: float = 1e-8, weight_decay: float = 0.0, clip_norm: float | None = None,
        replicas: Replicas | None = None,
    ) -> None:  # fmt: skip
        self._clip_norm, self._replicas, self._blocks = clip_norm, replicas or Replicas(), {}
        for part, module in modules.items():
            named = {name: weight for name, weight in module.named_parameters() if weight.requires_grad}
            masters = {name: nn.Parameter(weight.data) for name, weight in named.items()}
            cast(module, dtype)
            self._blocks[part] = []
            for names in _blocks(named):
                weights = [named[name] for name in names]
                own = weights if dtype == torch.float32 else [masters[name] for name in names]
                adam = torch.optim.AdamW(own, eps=epsilon, weight_decay=weight_decay, fused=fused)
                self._blocks[part].append(_Block(names, weights, own, adam))

    def _all(self) -> list[_Block]:
        return [block for blocks in self._blocks.values() for block in blocks]

    def zero_grad(self) -> None:
        """Forget the gradients of the modules and what was gathered of them."""
        for block in self._all():
            block.sums.clear()
            for weight in block.weights:
                weight.grad = None

    def gather(self) -> None:
        """Add the gradients of a part of the batch up in float32: in bfloat16 the small ones would be lost."""
        for block in self._all():
            block.gather()

    @torch.no_grad()
    def step(self, rates: Mapping[str, float]) -> None:
        """Change the weights by their gradients, summed over all replicas, at each part's learning rate."""
        scale = None if self._clip_norm is None else self._clip_scale()
        for part, blocks in self._blocks.items():
            for block in blocks:
                self._step(block, rates[part], scale)

    def _step(self, block: _Block, rate: float, scale: Tensor | None) -> None:
        gradients = block.gradients()
        if scale is None:
            self._replicas.add(list(gradients.values()))
        else:
            torch._foreach_mul_(list(gradients.values()), scale)
        for group in block.adam.param_groups:
            group["lr"] = rate
        block.step(gradients)

    def _clip_scale(self) -> Tensor:
        """What brings the gradient of all parts together down to ``clip_norm``, 1 where it is not above it.

        The value stays on the device. Formula: torch.nn.utils.clip_grad_norm_.
        """
        norms = [norm for block in self._all() for norm in self._norms(block)]
        return (self._clip_norm / (torch.linalg.vector_norm(torch.stack(norms)) + 1e-6)).clamp(max=1.0)

    def _norms(self, block: _Block) -> Sequence[Tensor]:
        """Of the gradient of each weight; on several replicas of their sum, which the block then holds."""
        if self._replicas.size > 1:
            block.gather()
        gradients = list(block.gradients().values())
        self._replicas.add(gradients)
        return torch._foreach_norm(gradients) if gradients else []

    def finite(self) -> bool:
        """Is every weight that is trained a number?"""
        return all(bool(torch.isfinite(master).all()) for block in self._all() for master in block.masters)

    @contextlib.contextmanager
    def exact(self, part: str) -> Iterator[None]:
        """Inside ``with`` the module holds the masters, to be saved or overwritten; then their rounding again."""
        blocks = [block for block in self._blocks[part] if block.mixed]
        rounded = [[weight.data for weight in block.weights] for block in blocks]
        for block in blocks:
            for weight, master in zip(block.weights, block.masters, strict=True):
                weight.data = master.data
        try:
            yield
        finally:
            for block, values in zip(blocks, rounded, strict=True):
                for weight, master, low in zip(block.weights, block.masters, values, strict=True):
                    weight.data = low.copy_(master.data)

    def moments(self, part: str) -> dict[str, Tensor]:
        """What AdamW remembers of each weight of a part, ``<weight>:<word>``: step, exp_avg, exp_avg_sq."""
        return {
            f"{name}:{word}": torch.as_tensor(value).contiguous()
            for block in self._blocks[part]
            for name, master in zip(block.names, block.masters, strict=True)
            for word, value in block.adam.state.get(master, {}).items()
        }

    def load_moments(self, part: str, moments: Mapping[str, Tensor]) -> None:
        """Take up what :meth:`moments` gave."""
        by_name: dict[str, dict[str, Tensor]] = {}
        for key, value in moments.items():
            name, word = key.rsplit(":", 1)
            by_name.setdefault(name, {})[word] = value
        for block in self._blocks[part]:
            state = {number: by_name[name] for number, name in enumerate(block.names) if name in by_name}
            block.adam.load_state_dict({"state": state, "param_groups": block.adam.state_dict()["param_groups"]})


def _blocks(weights: Mapping[str, Tensor]) -> Iterator[Sequence[str]]:
    """Names of so many weights at a time as :data:`BLOCK_WEIGHTS` allows, one tensor at least."""
    names, count = [], 0
    for name, weight in weights.items():
        if names and count + weight.numel() > BLOCK_WEIGHTS:
            yield names
            names, count = [], 0
        names.append(name)
        count += weight.numel()
    if names:
        yield names
