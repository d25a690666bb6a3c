"""Tiny readers of every kind, with weights large enough that attention is far from flat."""

from __future__ import annotations

from functools import lru_cache

import torch

from attention_distillation.models.pretraining import make_tokenizer
from attention_distillation.models.readers import DecoderOnlyReader, FusionInDecoderReader, Reader

CAUSAL = ("falcon_alibi", "falcon_alibi_six_heads", "falcon_multi_query", "falcon_grouped", "llama_grouped")
"""Those that the float64 reference knows; ``gpt2`` beside them has learned positions, which padding would shift."""
KINDS = (*CAUSAL, "t5")

QUESTIONS = ["where did ada bay die ?", "who made axel abel"]
PASSAGES = [
    [("ada bay", "ada bay died after an illness near acorn autumn ."), ("abel", "abel ."), ("axel", "axel at bay .")],
    [("axel abel", "axel abel married a singer called amber arrow azure ."), ("", "an author ."), ("bay", "the bay")],
]
ANSWERS = ["acorn autumn", "amber arrow azure acorn ."]
"""Two questions whose prompts and answers differ in length, three passages each."""

TEXTS = [
    "question: title: context: answer: the quick brown fox jumps over the lazy dog .",
    "Zürich liegt am Zürichsee, 東京 is Tokyo, naïve café façade, Ελλάδα, 🙂 smile.",
    "where did Ada Bay die ? Ada Bay died near Zürich in 1905 , and her café stood in 東京 .",
] * 3
"""What the byte-level tokenizer is trained on: few merges, so that one character is often several tokens."""


@lru_cache
def tokenizer(kind: str, byte_level: bool = False):
    """Word-level or byte-level BPE, as a reader of ``kind`` has it."""
    name = "encoder_decoder" if kind == "t5" else "reader"
    return make_tokenizer(name, iter(TEXTS) if byte_level else None, 330)


def randomise(model: torch.nn.Module, seed: int = 0, scale: float = 0.25) -> torch.nn.Module:
    """Weights drawn anew: fresh initial weights give attention so flat that most faults would pass unseen."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=draw)
            weight.copy_(noise * scale if weight.dim() > 1 or name.endswith("bias") else 1 + 0.2 * noise)
    return model


def make(kind: str, vocabulary: int, pad_id: int, end_id: int, implementation: str = "sdpa"):
    """A model of ``kind`` of 2 layers and width 32 (24 for six heads), seeded, in evaluation mode."""
    from transformers import (
        FalconConfig,
        FalconForCausalLM,
        GPT2Config,
        GPT2LMHeadModel,
        LlamaConfig,
        LlamaForCausalLM,
        T5Config,
        T5ForConditionalGeneration,
    )

    common = {"vocab_size": vocabulary, "pad_token_id": pad_id, "eos_token_id": end_id}
    falcon = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "bias": True, "alibi": True,
              "multi_query": False, "new_decoder_architecture": False, "parallel_attn": False,
              "hidden_dropout": 0.0, "attention_dropout": 0.0, "bos_token_id": end_id, **common}  # fmt: skip
    if kind == "t5":
        config = T5Config(
            d_model=32, d_kv=8, d_ff=48, num_layers=2, num_decoder_layers=2, num_heads=4, dropout_rate=0.1,
            feed_forward_proj="gated-gelu", decoder_start_token_id=pad_id, relative_attention_num_buckets=8,
            relative_attention_max_distance=16, **common,
        )  # fmt: skip
        made = T5ForConditionalGeneration
    elif kind == "llama_grouped":
        config = LlamaConfig(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
                             num_key_value_heads=2, bos_token_id=end_id, **common)  # fmt: skip
        made = LlamaForCausalLM
    elif kind == "gpt2":
        config = GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=512, bos_token_id=end_id, **common)
        made = GPT2LMHeadModel
    else:
        changes = {
            "falcon_alibi": {},
            "falcon_alibi_six_heads": {"hidden_size": 24, "num_attention_heads": 6},
            "falcon_multi_query": {"alibi": False, "multi_query": True, "parallel_attn": True, "bias": False},
            "falcon_grouped": {"alibi": False, "new_decoder_architecture": True, "num_kv_heads": 2, "bias": False,
                               "parallel_attn": True},
        }[kind]  # fmt: skip
        config, made = FalconConfig(**{**falcon, **changes}), FalconForCausalLM
    config._attn_implementation = implementation
    return randomise(made(config)).eval()


def reader(
    kind: str, *, byte_level: bool = False, implementation: str = "sdpa", passage: int = 40, answer: int = 8
) -> Reader:
    """A reader of ``kind`` with its tokenizer; a fresh model at every call."""
    words = tokenizer(kind, byte_level)
    model = make(kind, len(words), words.pad_token_id, words.eos_token_id, implementation)
    made = FusionInDecoderReader if kind == "t5" else DecoderOnlyReader
    return made(model, words, passage_max_tokens=passage, answer_max_tokens=answer).eval()
