"""A reader trained by LoRA: what learns, what is saved, and which names are refused."""

from __future__ import annotations

import models
import pytest
import torch
from safetensors import safe_open

from attention_distillation.files import InputError
from attention_distillation.models.readers import KINDS
from attention_distillation.models.readers.adapters import add_adapters
from attention_distillation.models.weights import cast
from attention_distillation.settings import Adapter
from attention_distillation.training.optimiser import Optimiser

READERS = ("falcon_alibi", "llama_grouped", "gpt2", "t5")  # gpt2: Conv1D, whose matrices lie the other way round
ADAPTER = Adapter(r=4, alpha=8)


def encoded(reader):
    return reader.encode(models.QUESTIONS, models.PASSAGES, models.ANSWERS)


def learnt(kind: str, adapter: Adapter = ADAPTER, dtype=torch.float32):
    """A reader that has learnt for three steps; with its optimiser."""
    reader = models.reader(kind)
    reader.requires_grad_(True)
    add_adapters(reader.model, adapter, 1)
    optimiser = Optimiser({"reader": reader}, dtype=dtype)
    for _ in range(3):
        optimiser.zero_grad()
        reader(encoded(reader)).answer_loss.mean().backward()
        optimiser.step({"reader": 1e-2})
    return reader, optimiser


@pytest.mark.parametrize("kind", READERS)
def test_adapters_change_nothing_until_they_learn_and_then_they_alone_change(kind):
    reader = models.reader(kind)
    plain = {name: weight.clone() for name, weight in reader.model.state_dict().items()}
    with torch.no_grad():
        before = reader(encoded(reader)).answer_loss
    reader.requires_grad_(True)
    add_adapters(reader.model, ADAPTER, 1)
    with torch.no_grad():
        assert torch.equal(reader(encoded(reader)).answer_loss, before)

    reader, _ = learnt(kind)
    with torch.no_grad():
        assert (reader(encoded(reader)).answer_loss - before).mean() < -0.01
    changed = {
        name
        for name, weight in reader.model.state_dict().items()
        if not torch.equal(weight, plain.get(name.replace(".base_layer.", "."), torch.zeros(())))
    }
    assert changed and all(".lora_" in name for name in changed)
    assert changed == {name for name, weight in reader.model.named_parameters() if weight.requires_grad}


@pytest.mark.parametrize("kind", READERS)
def test_a_checkpoint_is_a_plain_reader_that_reads_alike(kind, tmp_path):
    reader, _ = learnt(kind)
    reader.save(tmp_path)
    assert not any("adapter" in path.name for path in tmp_path.iterdir())
    plain = models.reader(kind)
    plain.save(tmp_path / "plain")
    names = []
    for folder in (tmp_path, tmp_path / "plain"):
        with safe_open(folder / "model.safetensors", "pt") as file:
            names.append(set(file.keys()))
    assert names[0] == names[1]

    again = KINDS["encoder_decoder" if kind == "t5" else "decoder_only"].load(tmp_path, **reader.prompt.model_dump())
    again.eval()
    with torch.no_grad():
        one, other = (made(encoded(made), record=True) for made in (reader, again))
        start = plain(encoded(plain), record=True)
    assert torch.allclose(one.answer_loss, other.answer_loss, rtol=1e-5)
    assert torch.allclose(one.token_attention, other.token_attention, rtol=1e-4, atol=1e-7)
    assert not torch.allclose(start.token_attention, other.token_attention, rtol=1e-2)
    assert reader.generate(reader.encode(models.QUESTIONS, models.PASSAGES)) == again.generate(
        again.encode(models.QUESTIONS, models.PASSAGES)
    )


def test_of_a_bfloat16_reader_the_checkpoint_is_its_weights_with_float32_adapters(tmp_path):
    reader, optimiser = learnt("llama_grouped", dtype=torch.bfloat16)
    assert reader.model.model.layers[0].self_attn.q_proj.base_layer.weight.dtype == torch.bfloat16
    with optimiser.exact("reader"):
        layer = reader.model.model.layers[0].self_attn.q_proj
        thin, wide = layer.lora_A["default"].weight.clone(), layer.lora_B["default"].weight.clone()
        reader.save(tmp_path)
    assert thin.dtype == torch.float32 and not torch.equal(thin, thin.bfloat16().float())
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        saved = file.get_tensor("model.layers.0.self_attn.q_proj.weight")
        table = file.get_tensor("model.embed_tokens.weight")
    start = cast(models.reader("llama_grouped"), torch.bfloat16).model
    expected = start.model.layers[0].self_attn.q_proj.weight.float() + wide @ thin * (ADAPTER.alpha / ADAPTER.r)
    assert saved.dtype == torch.float32 and torch.allclose(saved, expected, rtol=1e-6)
    assert torch.equal(table, start.model.embed_tokens.weight.float())
    assert '"dtype": "float32"' in (tmp_path / "config.json").read_text()


def test_the_named_layers_alone_have_adapters():
    reader, _ = learnt("llama_grouped", Adapter(r=2, targets=["q_proj", "layers.1.mlp.down_proj"]))
    own = {name.split(".lora_")[0] for name, weight in reader.model.named_parameters() if weight.requires_grad}
    assert own == {
        "model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj", "model.layers.1.mlp.down_proj",
    }  # fmt: skip


@pytest.mark.parametrize("kind", READERS)
def test_all_linear_is_every_linear_layer_but_the_head(kind):
    reader, _ = learnt(kind)
    own = {name.split(".lora_")[0] for name, weight in reader.model.named_parameters() if weight.requires_grad}
    plain = models.reader(kind).model
    head = plain.get_output_embeddings()
    linear = {
        name
        for name, module in plain.named_modules()
        if type(module).__name__ in ("Linear", "FalconLinear", "Conv1D") and module is not head
    }
    assert own == linear


def test_dropout_draws_from_the_generator_and_stops_in_evaluation():
    reader = learnt("llama_grouped", Adapter(r=4, dropout=0.5))[0].train()
    rows = encoded(reader)
    losses = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        losses.append(reader(rows).answer_loss[0].item())
    assert losses[0] == losses[1] != losses[2]
    reader.eval()
    assert torch.equal(reader(rows).answer_loss, reader(rows).answer_loss)


@pytest.mark.parametrize("target", ["q_prj", "lm_head", "input_layernorm", "embed_tokens", "proj"])
def test_a_name_that_is_no_linear_layer_inside_is_refused_in_one_line(target):
    reader = models.reader("llama_grouped")
    with pytest.raises(
        InputError, match=rf"'{target}' is no linear layer inside LlamaForCausalLM; it has .*q_proj"
    ) as e:
        add_adapters(reader.model, Adapter(targets=["v_proj", target]), 0)
    assert "\n" not in str(e.value)
