"""A GGUF file written here: converted once, to the weights that it holds; refused where it would be read otherwise."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from attention_distillation.files import InputError
from attention_distillation.models.gguf import convert

WIDTH, INNER, HEADS, LAYERS = 32, 64, 2, 2
TOKENS = ["<|end|>", *(chr(letter) for letter in range(33, 127)), "Ġ", "Ġt", "he"]
MERGES = ["Ġ t", "h e"]


def write(path, *, split: str = "smollm", extra: bool = False, leave_out: str = "", tokenizer: bool = True):
    """A Llama of two layers; returns its tensors by GGUF's names."""
    rng = np.random.default_rng(0)
    tensors = {"token_embd.weight": (len(TOKENS), WIDTH), "output_norm.weight": (WIDTH,)}
    for layer in range(LAYERS):
        for name, shape in (
            ("attn_norm", (WIDTH,)), ("attn_q", (WIDTH, WIDTH)), ("attn_k", (WIDTH, WIDTH)), ("attn_v", (WIDTH, WIDTH)),
            ("attn_output", (WIDTH, WIDTH)), ("ffn_norm", (WIDTH,)), ("ffn_gate", (INNER, WIDTH)),
            ("ffn_up", (INNER, WIDTH)), ("ffn_down", (WIDTH, INNER)),
        ):  # fmt: skip
            tensors[f"blk.{layer}.{name}.weight"] = shape
    if extra:
        tensors["rope_freqs.weight"] = (WIDTH // HEADS // 2,)
    tensors.pop(leave_out, None)
    values = {name: rng.normal(0, 0.2, shape).astype(np.float32) for name, shape in tensors.items()}
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(TOKENS))
    if tokenizer:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(split)
        writer.add_token_list(TOKENS)
        writer.add_token_merges(MERGES)
        writer.add_token_types([gguf.TokenType.CONTROL, *[gguf.TokenType.NORMAL] * (len(TOKENS) - 1)])
        writer.add_bos_token_id(0)
        writer.add_eos_token_id(0)
    for name, value in values.items():
        writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return values


def test_the_converted_model_has_the_file_s_weights_and_words(tmp_path):
    values = write(tmp_path / "m.gguf")
    convert(tmp_path / "m.gguf", tmp_path / "made")
    assert (tmp_path / "made" / "model.safetensors").exists()
    model, told = AutoModelForCausalLM.from_pretrained(tmp_path / "made", output_loading_info=True)
    assert not told["missing_keys"] and model.dtype == torch.float32
    table = model.get_input_embeddings().weight.detach().numpy()
    assert np.array_equal(table, values["token_embd.weight"])
    down = model.model.layers[1].mlp.down_proj.weight.detach().numpy()
    assert np.array_equal(down, values["blk.1.ffn_down.weight"])

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "made")
    pieces = tokenizer.convert_ids_to_tokens(tokenizer("a the 12", add_special_tokens=False)["input_ids"])
    assert pieces == ["a", "Ġt", "he", "Ġ", "1", "2"] and tokenizer.eos_token == "<|end|>"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"split": "of-next-year"}, r"splits text in a way \('of-next-year'\)"),
        ({"extra": True}, "weights, of which transformers'"),
        ({"leave_out": "blk.1.ffn_up.weight"}, "lacks 1 weights"),
        ({"tokenizer": False}, "has no tokenizer"),
    ],
)
def test_what_would_be_read_otherwise_is_refused(tmp_path, change, reason):
    write(tmp_path / "m.gguf", **change)
    with pytest.raises(InputError, match=reason):
        convert(tmp_path / "m.gguf", tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_a_file_that_is_cut_is_refused(tmp_path):
    write(tmp_path / "m.gguf")
    whole = (tmp_path / "m.gguf").read_bytes()
    (tmp_path / "m.gguf").write_bytes(whole[:200])
    with pytest.raises(InputError, match="no whole GGUF file"):
        convert(tmp_path / "m.gguf", tmp_path / "made")
