"""How much attention the answer pays to each token of the prompt (eq. 1), recorded while the model runs on SDPA.

The usual way, ``output_attentions=True``, builds every attention matrix whole, and for Falcon with ALiBi it is
wrong: the eager path adds the position bias twice. Here the forward stays on SDPA. Whatever reaches
``scaled_dot_product_attention`` is looked at in passing, and the softmax is done again for the answer's rows only.

Some classes have no SDPA: their scores are capped (Gemma 2), a sink takes a share of each row (gpt-oss), or they are
older (Bloom, MPT). Of those the rows are taken from the softmax that the class itself computes, and the values from the
product that follows it.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

ROW_SUM_TOLERANCE = 1e-3
OUTPUT_TOLERANCE, ROUNDED = 1e-3, 0.1
"""How far Σ α·v may be from what the layer made of it, in parts of its largest value: in float32, and in 16 bits."""
NO_SOFTMAX = {"linear_attention", "conv", "moe", "sparse", "dense"}
"""Kinds of ``layer_types`` without a softmax over the context: recurrent, convolution, feed-forward by itself."""
SOFTMAX = {torch.softmax, F.softmax, Tensor.softmax}
PRODUCT = {torch.matmul, torch.bmm, Tensor.matmul, Tensor.__matmul__, Tensor.bmm}


def attention_layers(config) -> tuple[list[int], int]:
    """The layers that attend by softmax, and how many layers there are in all.

    Args:
        config: of a decoder-only model; one with layers of several kinds names each in ``layer_types``.
    """
    kinds = getattr(config, "layer_types", None) or ["full_attention"] * config.num_hidden_layers
    return [number for number, kind in enumerate(kinds) if kind not in NO_SOFTMAX], len(kinds)


def self_attention_modules(model: nn.Module) -> list[nn.Module]:
    """The self-attention module of each layer of a decoder-only model that attends by softmax, in order.

    Raises:
        ValueError: the model has no such layer, or not one module for each.
    """
    name, (due, layers) = type(model).__name__, attention_layers(model.config)
    if not due:
        raise ValueError(f"none of the {layers} layers of {name} attends by softmax")
    modules = [m for m in model.modules() if type(m).__name__.endswith("Attention") and hasattr(m, "layer_idx")]
    modules = [module for module in modules if module.layer_idx in due]  # a linear one may be called attention too
    if [module.layer_idx for module in modules] != due:
        raise ValueError(
            f"of {name} {len(modules)} modules are known as self-attention, where its config names {len(due)} layers; "
            "its class numbers or names them in a way that is not known here"
        )
    return modules


def cross_attention_modules(model: nn.Module) -> list[nn.Module]:
    """The cross-attention module of each decoder layer of a T5 model, in order."""
    return [block.layer[1].EncDecAttention for block in model.decoder.block]


class AnswerRowRecorder(TorchFunctionMode):
    """Records a_t = mean over layers, heads and answer rows j of α[j, t]·‖v_t‖ while a forward runs inside ``with``.

    Args:
        modules: the attention modules to listen to, one a layer.
        rows: int64 (B, A), the query positions whose next-token prediction is an answer token.
        row_mask: bool (B, A), which of them are real.
        keys: bool (B, T), which key positions are no padding.
        value_norm: weigh by ‖v‖₂, the norm of a head's value before the output projection (eq. 1).
        check: also see that α, with a sink's share, sums to one over the real keys, and that Σ α·v is what the layer
            made of it (:meth:`by_layer` reads that back from the device).
        by_hand: the model's class has no SDPA: take the softmax that its attention modules compute themselves.

    Gradients never flow through what is recorded. Peak extra memory is one (B, H, A, T) float32 tensor, and (B, T) for
    each layer. The mode is on inside the attention modules alone: elsewhere every torch call would pass through Python.
    """

    def __init__(
        self, modules: list[nn.Module], rows: Tensor, row_mask: Tensor, keys: Tensor, *, value_norm: bool = True,
        check: bool = True, by_hand: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self._by_hand, self._softmax, self._followed = by_hand, None, []
        self._modules, self._rows, self._value_norm, self._check = modules, rows, value_norm, check
        self._row_weight = row_mask / row_mask.sum(1, keepdim=True).clamp(min=1)  # mean over the answer's rows
        self._real_keys, self._no_key = keys[:, None, None], ~keys[:, None]
        self._no_row = ~row_mask[:, None]
        self._nothing = ~(self._real_keys & row_mask[:, None, :, None])
        self._current = -1
        self._recorded: list[int] = []
        self._by_layer: list[Tensor] = []
        self._row_sum_error = torch.zeros((), device=keys.device)
        self._output_error = torch.zeros((), device=keys.device)
        self._hooks: list = []

    def __enter__(self):
        for number, module in enumerate(self._modules):

            def begin(_module, _inputs, number=number) -> None:
                self._current = number
                super(AnswerRowRecorder, self).__enter__()

            def end(_module, _inputs, _output) -> None:
                super(AnswerRowRecorder, self).__exit__(None, None, None)

            begun = module.register_forward_pre_hook(begin)
            self._hooks += [begun, module.register_forward_hook(end, always_call=True)]
        return self

    def __exit__(self, *_exception) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        made = func(*args, **kwargs)
        with torch.no_grad():
            if func is F.scaled_dot_product_attention and not self._by_hand:
                self._from_sdpa(made, *args, **kwargs)
            elif self._by_hand:
                self._follow(func, args, made)
        return made

    def _from_sdpa(
        self, made, query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False
    ) -> None:
        batch, heads, length, size = query.shape
        if key.shape[1] != heads:  # grouped-query heads: each k and v serves a group
            key = key.repeat_interleave(heads // key.shape[1], 1)
            value = value.repeat_interleave(heads // value.shape[1], 1)
        rows = self._rows[:, None, :, None]
        logits = self._answers(query).float() @ key.float().transpose(-1, -2)
        logits = logits * (1 / math.sqrt(size) if scale is None else scale)
        if attn_mask is not None:
            mask = attn_mask.expand(batch, attn_mask.shape[1], length, logits.shape[-1])
            mask = self._answers(mask)
            logits = logits.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else logits + mask.float()
        if is_causal:
            later = torch.arange(logits.shape[-1], device=rows.device) > rows
            logits = logits.masked_fill(later, -math.inf)
        self._record(logits.softmax(-1), value, None if dropout_p else made)

    def _follow(self, func, args, made) -> None:
        """Keep the last softmax, what becomes of it (a slice, dropout, a dtype), and the product that it enters."""
        if func in SOFTMAX:
            self._softmax, self._followed = made, [made]
        elif args and any(args[0] is known for known in self._followed):
            if func in PRODUCT:
                self._from_product(args[1], made)
                self._softmax, self._followed = None, []
            elif isinstance(made, Tensor):
                self._followed.append(made)

    def _from_product(self, value: Tensor, made: Tensor) -> None:
        length, keys = self._softmax.shape[-2:]
        batch = len(self._rows)  # some classes lay the heads of all questions end to end
        alpha = self._answers(self._softmax.reshape(batch, -1, length, keys)).float()
        value, made = (part.reshape(batch, -1, *part.shape[-2:]) for part in (value, made))
        self._record(alpha, value, None if self._modules[self._current].training else made)

    def _answers(self, tensor: Tensor) -> Tensor:
        """The answers' rows, (B, H, A, ·), of a tensor (B, H, T, ·)."""
        rows = self._rows[:, None, :, None]
        return tensor.gather(2, rows.expand(len(rows), tensor.shape[1], -1, tensor.shape[-1]))

    def _record(self, alpha: Tensor, value: Tensor, made: Tensor | None) -> None:
        """Add a layer's α, float32 (B, H, A, T or, with a sink, T + 1), and its values (B, H, T, d).

        Args:
            made: Σ α·v as the layer has it, (B, H, T, d); None where dropout has changed it.
        """
        alpha, sink = alpha.split([value.shape[-2], alpha.shape[-1] - value.shape[-2]], -1)
        if self._check:
            total = (alpha * self._real_keys).sum(-1) + sink.sum(-1)
            self._row_sum_error = torch.maximum(
                self._row_sum_error, (total - 1).abs().masked_fill(self._no_row, 0).max()
            )
            if made is not None:
                made = self._answers(made).float().masked_fill(self._no_row[..., None], 0)
                off = (alpha @ value.float()).masked_fill(self._no_row[..., None], 0) - made
                exact = value.dtype == torch.float32
                off = off.abs().max() / made.abs().max().clamp(min=1e-30) / (OUTPUT_TOLERANCE if exact else ROUNDED)
                self._output_error = torch.maximum(self._output_error, off)
        alpha = torch.einsum("bhat,ba->bht", alpha.masked_fill(self._nothing, 0), self._row_weight)
        if self._value_norm:
            alpha = alpha * value.float().norm(dim=-1).masked_fill(self._no_key, 0)
        self._by_layer.append(alpha.mean(1))
        self._recorded.append(self._current)

    def by_layer(self) -> Tensor:
        """What each layer adds to a_t: the mean over its heads and the answer's rows, float32 (layers, B, T).

        Zero at padding. a_t of eq. 1 is the mean over layers.

        Raises:
            RuntimeError: a layer was missed (a fused kernel that bypasses SDPA, an eager path), or a row's sum is
                not 1.
        """
        if self._recorded != list(range(len(self._modules))):
            raise RuntimeError(
                f"attention of layers {self._recorded} was recorded, of {len(self._modules)} due once each: "
                "load the model with attn_implementation='sdpa' and run one forward"
            )
        if self._check and not self._row_sum_error <= ROW_SUM_TOLERANCE:  # so that not-a-number fails too
            raise RuntimeError(f"an attention row sums to 1 only within {float(self._row_sum_error):.2g}")
        if self._check and not self._output_error <= 1:  # in tolerances
            raise RuntimeError("a layer's output is not the sum of its values by the recorded attention")
        return torch.stack(self._by_layer)
