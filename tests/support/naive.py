"""Attention written out in float64 from a model's own weights: one sequence at a time, no padding, no library code.

Each function returns the logits and, for each layer, α (heads, queries, keys) and ‖v‖ (heads, keys).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

Layers = list[tuple[Tensor, Tensor]]


def linear(x: Tensor, layer) -> Tensor:
    bias = getattr(layer, "bias", None)
    return x @ layer.weight.double().T + (0 if bias is None else bias.double())


def layer_norm(x: Tensor, layer) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    spread = centred.pow(2).mean(-1, keepdim=True)
    return centred / torch.sqrt(spread + layer.eps) * layer.weight.double() + layer.bias.double()


def rms_norm(x: Tensor, layer) -> Tensor:
    return x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + layer.variance_epsilon) * layer.weight.double()


def heads_of(x: Tensor, heads: int) -> Tensor:
    """(T, heads·d) to (heads, T, d)."""
    return x.view(len(x), heads, -1).transpose(0, 1)


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | float, causal: bool, scale: float):
    """Softmax row by row; (heads, T, d) in, (T, heads·d) out, with α and ‖v‖."""
    scores = query @ key.transpose(1, 2) * scale + bias
    if causal:
        scores = torch.where(torch.ones(scores.shape[1:]).tril().bool(), scores, torch.tensor(-math.inf).double())
    alpha = torch.exp(scores - scores.max(-1, keepdim=True).values)
    alpha = alpha / alpha.sum(-1, keepdim=True)
    mixed = (alpha @ value).transpose(0, 1).reshape(query.shape[1], -1)
    return mixed, (alpha, value.pow(2).sum(-1).sqrt())


def rotary(x: Tensor, base: float) -> Tensor:
    """Rotate the pairs (i, i + d/2) of (heads, T, d) by position · base^(-2i/d)."""
    half = x.shape[-1] // 2
    angle = torch.arange(x.shape[1]).double()[:, None] * base ** (-torch.arange(half).double() / half)
    cos, sin = angle.cos(), angle.sin()
    left, right = x[..., :half], x[..., half:]
    return torch.cat([left * cos - right * sin, right * cos + left * sin], -1)


def alibi(heads: int, length: int) -> Tensor:
    """Press et al.'s slopes times the position, (heads, 1, length), in bf16 as the checkpoint's code multiplies."""
    whole = 2 ** math.floor(math.log2(heads))
    slopes = [2 ** (-8 * (number + 1) / whole) for number in range(whole)]
    slopes += [2 ** (-4 * (number + 1) / whole) for number in range(0, 2 * (heads - whole), 2)]
    return (torch.tensor(slopes)[:, None, None].bfloat16() * torch.arange(length)).double()


def falcon(model, ids: Tensor, *, times_alibi: float = 1) -> tuple[Tensor, Layers]:
    """Falcon: ALiBi or rotary; every head its own keys, one for all, or one a group.

    Args:
        times_alibi: how often the bias is added; 1 is right, 2 is what the library's eager path does.
    """
    config, layers = model.config, []
    heads, size = config.num_attention_heads, config.hidden_size // config.num_attention_heads
    x = model.transformer.word_embeddings.weight[ids].double()
    for block in model.transformer.h:
        y = layer_norm(x, block.ln_attn if config.new_decoder_architecture else block.input_layernorm)
        fused = linear(y, block.self_attention.query_key_value)
        if config.new_decoder_architecture:
            groups = config.num_kv_heads
            fused = fused.view(len(ids), groups, heads // groups + 2, size)
            query = fused[:, :, :-2].reshape(len(ids), heads, size)
            key, value = (fused[:, :, place].repeat_interleave(heads // groups, 1) for place in (-2, -1))
        elif config.multi_query:
            fused = fused.view(len(ids), heads + 2, size)
            query, key, value = fused[:, :-2], *(fused[:, [place]].expand(-1, heads, -1) for place in (-2, -1))
        else:
            query, key, value = fused.view(len(ids), heads, 3, size).unbind(2)
        query, key, value = (part.transpose(0, 1) for part in (query, key, value))
        bias: Tensor | float = 0.0
        if config.alibi:
            bias = times_alibi * alibi(heads, len(ids)) / math.sqrt(size)
        else:
            query, key = rotary(query, 10_000.0), rotary(key, 10_000.0)
        mixed, recorded = attend(query, key, value, bias, True, 1 / math.sqrt(size))
        layers.append(recorded)
        attended = linear(mixed, block.self_attention.dense)
        if config.new_decoder_architecture:
            y, rest = layer_norm(x, block.ln_mlp), x + attended
        elif config.parallel_attn:
            rest = x + attended
        else:
            rest = x + attended
            y = layer_norm(rest, block.post_attention_layernorm)
        x = rest + linear(F.gelu(linear(y, block.mlp.dense_h_to_4h)), block.mlp.dense_4h_to_h)
    return linear(layer_norm(x, model.transformer.ln_f), model.lm_head), layers


def llama(model, ids: Tensor) -> tuple[Tensor, Layers]:
    """Llama with grouped keys: query heads 0, 1 share the first key head, 2, 3 the second."""
    config, layers = model.config, []
    heads, groups = config.num_attention_heads, config.num_key_value_heads
    base = config.rope_parameters["rope_theta"]
    x = model.model.embed_tokens.weight[ids].double()
    for block in model.model.layers:
        y, attention = rms_norm(x, block.input_layernorm), block.self_attn
        query = rotary(heads_of(linear(y, attention.q_proj), heads), base)
        key = rotary(heads_of(linear(y, attention.k_proj), groups), base)
        value = heads_of(linear(y, attention.v_proj), groups)
        shared = [number // (heads // groups) for number in range(heads)]
        mixed, recorded = attend(query, key[shared], value[shared], 0.0, True, query.shape[-1] ** -0.5)
        layers.append(recorded)
        x = x + linear(mixed, attention.o_proj)
        y, mlp = rms_norm(x, block.post_attention_layernorm), block.mlp
        x = x + linear(F.silu(linear(y, mlp.gate_proj)) * linear(y, mlp.up_proj), mlp.down_proj)
    return linear(rms_norm(x, model.model.norm), model.lm_head), layers


def bucket(distance: int, *, both_ways: bool, buckets: int, longest: int) -> int:
    """T5's bucket of key position minus query position."""
    start = 0
    if both_ways:
        buckets //= 2
        start = buckets if distance > 0 else 0
        distance = abs(distance)
    else:
        distance = max(-distance, 0)
    exact = buckets // 2
    if distance < exact:
        return start + distance
    grown = exact + int(math.log(distance / exact) / math.log(longest / exact) * (buckets - exact))
    return start + min(grown, buckets - 1)


def relative_bias(table, length: int, config, both_ways: bool) -> Tensor:
    """(heads, length, length) of an embedding of buckets."""
    rows = [
        [
            bucket(key - query, both_ways=both_ways, buckets=config.relative_attention_num_buckets,
                   longest=config.relative_attention_max_distance)
            for key in range(length)
        ]
        for query in range(length)
    ]  # fmt: skip
    return table.weight.double()[torch.tensor(rows)].permute(2, 0, 1)


def _t5_attention(y: Tensor, states: Tensor, attention, bias: Tensor | float, causal: bool):
    heads = attention.n_heads
    query, key, value = (
        heads_of(linear(source, part), heads)
        for source, part in ((y, attention.q), (states, attention.k), (states, attention.v))
    )
    mixed, recorded = attend(query, key, value, bias, causal, 1.0)  # T5 does not scale
    return linear(mixed, attention.o), recorded


def _t5_feed_forward(x: Tensor, layer) -> Tensor:
    y, mlp = rms_norm(x, layer.layer_norm), layer.DenseReluDense
    return x + linear(F.gelu(linear(y, mlp.wi_0), approximate="tanh") * linear(y, mlp.wi_1), mlp.wo)


def t5_encoder(model, ids: Tensor) -> Tensor:
    """States of one passage, (T, width)."""
    x = model.shared.weight[ids].double()
    table = model.encoder.block[0].layer[0].SelfAttention.relative_attention_bias
    bias = relative_bias(table, len(ids), model.config, True)
    for block in model.encoder.block:
        y = rms_norm(x, block.layer[0].layer_norm)
        x = x + _t5_attention(y, y, block.layer[0].SelfAttention, bias, False)[0]
        x = _t5_feed_forward(x, block.layer[1])
    return rms_norm(x, model.encoder.final_layer_norm)


def t5(model, passages: list[Tensor], answer: Tensor) -> tuple[Tensor, Layers]:
    """Fusion-in-decoder: logits of the answer's tokens, and the cross-attention over all passages end to end."""
    states = torch.cat([t5_encoder(model, ids) for ids in passages])
    shifted = torch.cat([torch.tensor([model.config.decoder_start_token_id]), answer[:-1]])
    x, layers = model.shared.weight[shifted].double(), []
    table = model.decoder.block[0].layer[0].SelfAttention.relative_attention_bias
    bias = relative_bias(table, len(answer), model.config, False)
    for block in model.decoder.block:
        own, cross, last = block.layer
        y = rms_norm(x, own.layer_norm)
        x = x + _t5_attention(y, y, own.SelfAttention, bias, True)[0]
        mixed, recorded = _t5_attention(rms_norm(x, cross.layer_norm), states, cross.EncDecAttention, 0.0, False)
        layers.append(recorded)
        x = _t5_feed_forward(x + mixed, last)
    x = rms_norm(x, model.decoder.final_layer_norm) * model.config.d_model**-0.5  # tied embeddings
    return linear(x, model.lm_head), layers


def forward(model, ids: Tensor, **choices) -> tuple[Tensor, Layers]:
    """Logits and attention of a decoder-only model, by its class."""
    return (falcon if type(model).__name__.startswith("Falcon") else llama)(model, ids, **choices)


def token_attention(layers: Layers, rows: list[int], value_norm: bool = True) -> Tensor:
    """Eq. 1 by its definition: a_t, the mean of α[l, h, j, t]·‖v[l, h, t]‖ over layers, heads and rows j."""
    total, count = 0.0, 0
    for alpha, norms in layers:
        for head in range(len(alpha)):
            for row in rows:
                total = total + alpha[head, row] * (norms[head] if value_norm else 1.0)
                count += 1
    return total / count
