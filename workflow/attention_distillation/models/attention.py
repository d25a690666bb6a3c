"""How much attention the answer pays to each token of the prompt (eq. 1), recorded while the model runs on SDPA.

The usual way, ``output_attentions=True``, builds every attention matrix whole, and for Falcon with ALiBi it is
wrong: the eager path adds the position bias twice. Here the forward stays on SDPA. Whatever reaches
``scaled_dot_product_attention`` is looked at in passing, and the softmax is done again for the answer's rows only.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

ROW_SUM_TOLERANCE = 1e-3


def self_attention_modules(model: nn.Module) -> list[nn.Module]:
    """The self-attention module of each layer of a decoder-only model, in order.

    Raises:
        ValueError: their number differs from ``config.num_hidden_layers``.
    """
    found = [m for m in model.modules() if type(m).__name__.endswith("Attention") and hasattr(m, "layer_idx")]
    if len(found) != model.config.num_hidden_layers:
        due = model.config.num_hidden_layers
        raise ValueError(f"{len(found)} attention modules in {type(model).__name__}, {due} due")
    return found


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
        check: also see that α sums to one over the real keys (:meth:`token_attention` reads that back from the device).

    Gradients never flow through what is recorded. Peak extra memory is one (B, H, A, T) float32 tensor. The mode is
    on inside the attention modules alone: elsewhere every torch call would pass through Python.
    """

    def __init__(
        self, modules: list[nn.Module], rows: Tensor, row_mask: Tensor, keys: Tensor, *, value_norm: bool = True,
        check: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self._modules, self._rows, self._value_norm, self._check = modules, rows, value_norm, check
        self._row_weight = row_mask / row_mask.sum(1, keepdim=True).clamp(min=1)  # mean over the answer's rows
        self._real_keys, self._no_key = keys[:, None, None], ~keys[:, None]
        self._no_row = ~row_mask[:, None]
        self._nothing = ~(self._real_keys & row_mask[:, None, :, None])
        self._current = -1
        self._recorded: list[int] = []
        self._sum = torch.zeros(keys.shape, dtype=torch.float32, device=keys.device)
        self._row_sum_error = torch.zeros((), device=keys.device)
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
        if func is F.scaled_dot_product_attention:
            with torch.no_grad():
                self._record(*args, **kwargs)
        return func(*args, **kwargs)

    def _record(self, query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
        batch, heads, length, size = query.shape
        if key.shape[1] != heads:  # grouped-query heads: each k and v serves a group
            key = key.repeat_interleave(heads // key.shape[1], 1)
            value = value.repeat_interleave(heads // value.shape[1], 1)
        rows = self._rows[:, None, :, None]
        answers = query.gather(2, rows.expand(batch, heads, -1, size)).float()
        logits = answers @ key.float().transpose(-1, -2) * (1 / math.sqrt(size) if scale is None else scale)
        if attn_mask is not None:
            mask = attn_mask.expand(batch, attn_mask.shape[1], length, logits.shape[-1])
            mask = mask.gather(2, rows.expand(batch, mask.shape[1], -1, mask.shape[-1]))
            logits = logits.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else logits + mask.float()
        if is_causal:
            later = torch.arange(logits.shape[-1], device=rows.device) > rows
            logits = logits.masked_fill(later, -math.inf)
        alpha = logits.softmax(-1)
        if self._check:
            error = ((alpha * self._real_keys).sum(-1) - 1).abs().masked_fill(self._no_row, 0).max()
            self._row_sum_error = torch.maximum(self._row_sum_error, error)
        alpha = torch.einsum("bhat,ba->bht", alpha.masked_fill(self._nothing, 0), self._row_weight)
        if self._value_norm:
            alpha = alpha * value.float().norm(dim=-1).masked_fill(self._no_key, 0)
        self._sum += alpha.mean(1)
        self._recorded.append(self._current)

    def token_attention(self) -> Tensor:
        """a_t, float32 of shape (B, T); zero at padding.

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
        return self._sum / len(self._modules)
