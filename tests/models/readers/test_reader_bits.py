"""A reader in 8 or 4 bits: it is what bitsandbytes makes of its weights, and is read and recorded as any other."""

from __future__ import annotations

import sys

import models
import pytest
import torch

from attention_distillation.files import InputError
from attention_distillation.models.readers import KINDS
from attention_distillation.models.readers.checks import check_reader
from attention_distillation.models.readers.loading import require_quantisable
from attention_distillation.models.weights import placed


def load(folder, kind: str, bits: int | None):
    made = KINDS["encoder_decoder" if kind == "t5" else "decoder_only"]
    return made.load(folder, bits=bits, passage_max_tokens=40, answer_max_tokens=8).eval()


def rounded(layer) -> torch.Tensor:
    """The float32 weights that a quantised layer stands for, by its own numbers."""
    if type(layer).__name__ == "Linear8bitLt":  # int8 rows, each with its largest value
        return layer.weight.data.float() * layer.weight.SCB[:, None] / 127
    state = layer.weight.quant_state
    pairs = layer.weight.data.flatten()
    values = state.code[torch.stack([pairs >> 4, pairs & 15], -1).long()]  # of the code's 16 values two a byte
    return (values.view(-1, state.blocksize) * state.absmax[:, None]).view(state.shape)


@pytest.mark.parametrize("kind", ["llama_grouped", "t5"])
@pytest.mark.parametrize("bits", [4, 8])
def test_it_reads_and_is_recorded_as_one_with_the_weights_that_its_bits_stand_for(kind, bits, tmp_path):
    models.reader(kind).save(tmp_path)
    whole, few = load(tmp_path, kind, None), placed(load(tmp_path, kind, bits), "float32")
    plain, layers = dict(whole.model.named_modules()), {}
    for name, module in few.model.named_modules():
        if type(module).__name__ in ("Linear4bit", "Linear8bitLt"):
            layers[name] = module
    head = whole.model.get_output_embeddings()
    linear = {name for name, module in plain.items() if type(module) is torch.nn.Linear and module is not head}
    assert layers.keys() == linear - {name for name in linear if name.endswith(".wo")}  # T5's wo overflows in few bits
    for name, layer in layers.items():
        assert layer.weight.element_size() == 1
        changed = (plain[name].weight - rounded(layer)).abs().max() / plain[name].weight.abs().max()
        assert 0 < changed < (0.2 if bits == 4 else 0.005)
        plain[name].weight.data = rounded(layer)

    encoded = whole.encode(models.QUESTIONS, models.PASSAGES, models.ANSWERS)
    with torch.no_grad():
        right, near = (made(encoded, record=True) for made in (whole, few))
    exact = 1e-4 if bits == 4 else 0.1  # of LLM.int8 the inputs are rounded too
    assert torch.allclose(right.answer_loss, near.answer_loss, rtol=exact)
    off = (right.token_attention - near.token_attention).abs().max() / right.token_attention.max()
    assert off < exact
    assert len(few.generate(few.encode(models.QUESTIONS, models.PASSAGES))) == 2


@pytest.mark.parametrize("kind", ["falcon_alibi", "llama_grouped", "gpt2", "t5"])
def test_a_class_with_linear_layers_of_its_own_is_refused(kind):
    made = models.reader(kind).model
    if kind != "falcon_alibi":
        require_quantisable(made)
        return
    with pytest.raises(InputError, match="linear layers of FalconForCausalLM are of a class of its own"):
        require_quantisable(made)


def test_in_four_bits_it_is_still_causal_and_alike_with_and_without_padding(tmp_path):
    models.reader("llama_grouped").save(tmp_path)
    assert check_reader(load(tmp_path, "llama_grouped", 4))["layers_recorded"] == 2


def test_without_the_package_it_is_refused_in_one_line(tmp_path, monkeypatch):
    models.reader("llama_grouped").save(tmp_path)
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(InputError, match=r"models\.reader_bits: bitsandbytes cannot be imported; install") as error:
        load(tmp_path, "llama_grouped", 4)
    assert "\n" not in str(error.value)
