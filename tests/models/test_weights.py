"""Checkpoints as their publishers wrote them, and what is said of those that are not whole."""

from __future__ import annotations

import json

import mirror
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, BertModel

from attention_distillation.files import InputError
from attention_distillation.models.weights import load_model, require_weights

CLASSES = {"reader": AutoModelForCausalLM, "encoder_decoder": AutoModelForSeq2SeqLM, "retriever": BertModel}
OPTIONS = {"retriever": {"add_pooling_layer": False}}


@pytest.fixture(params=CLASSES)
def published(request, tmp_path):
    """A kind of model, its published directory, and a function that loads it."""
    kind = request.param
    mirror.write_model(kind, tmp_path / kind)
    return kind, tmp_path / kind, lambda folder: load_model(CLASSES[kind], folder, **OPTIONS.get(kind, {}))


def test_what_a_model_directory_lacks(tmp_path):
    with pytest.raises(InputError, match=r"no config\.json; name a directory"):
        require_weights(tmp_path / "absent")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80")
    with pytest.raises(InputError, match=r"no \*\.safetensors weights; convert"):
        require_weights(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    require_weights(tmp_path)


def test_every_weight_is_the_published_one_and_stays_it(published, tmp_path):
    """Loaded, saved and loaded: T5's own output layer among them, which transformers ties where it may."""
    kind, folder, load = published
    told = {key: value.float() for key, value in load_file(folder / "model.safetensors").items()}
    first = load(folder)
    first.save_pretrained(tmp_path / "again")
    for model in (first, load(tmp_path / "again")):
        weights = model.state_dict()
        assert all(torch.equal(weights[key], value) for key, value in told.items() if key in weights)
        assert set(told) - set(weights) <= {"embeddings.position_ids"}
        assert {value.dtype for value in weights.values()} == {torch.float32}
        if kind == "encoder_decoder":
            assert not torch.equal(weights["lm_head.weight"], weights["shared.weight"])
            assert torch.equal(weights["encoder.embed_tokens.weight"], told["shared.weight"])
            assert not model.config.scale_decoder_outputs  # T5 1.1 does not scale its states, the first T5 does
        elif kind == "reader":
            assert torch.equal(weights["lm_head.weight"], told["transformer.word_embeddings.weight"])


def test_a_weight_that_is_not_there_is_named_not_drawn(published):
    _, folder, load = published
    weights = load_file(folder / "model.safetensors")
    gone = sorted(key for key in weights if "position_ids" not in key and "embed" not in key)[:2]
    save_file({key: value for key, value in weights.items() if key not in gone}, folder / "model.safetensors")
    with pytest.raises(InputError, match=rf"lack '{gone[0]}' and 1 more of \w+; give a checkpoint of that model"):
        load(folder)


def test_no_code_of_a_checkpoint_is_run(tmp_path):
    """falcon-rw-1b names code of its own in its config; the library's class is taken without a question."""
    mirror.write_model("reader", tmp_path)
    assert "auto_map" in json.loads((tmp_path / "config.json").read_text("utf-8"))
    (tmp_path / "modeling_falcon.py").write_text("raise SystemExit('was run')\n")
    (tmp_path / "configuration_falcon.py").write_text("raise SystemExit('was run')\n")
    assert type(load_model(AutoModelForCausalLM, tmp_path)).__module__.startswith("transformers.")
