"""What both kinds of reader share: loading and saving, losses, padding."""

from __future__ import annotations

import math

import models
import pytest
import torch

from attention_distillation.files import InputError
from attention_distillation.models.readers import KINDS, DecoderOnlyReader, FusionInDecoderReader
from attention_distillation.models.readers.base import answer_loss, pad_left, pad_right
from attention_distillation.models.weights import cast
from attention_distillation.settings import Experiment

LIMITS = {"passage_max_tokens": 40, "answer_max_tokens": 8}


def test_kinds_are_the_words_of_the_settings():
    assert set(KINDS) == set(Experiment.model_fields["architecture"].annotation.__args__)


@pytest.mark.parametrize("byte_level", [False, True], ids=["words", "bytes"])
@pytest.mark.parametrize("kind", ["falcon_alibi", "falcon_multi_query", "llama_grouped", "t5"])
@torch.no_grad()
def test_save_and_load_give_the_same_reader(kind, byte_level, tmp_path):
    reader = models.reader(kind, byte_level=byte_level, passage=90)
    passages = models.PASSAGES
    reader.save(tmp_path)
    again = type(reader).load(tmp_path, passage_max_tokens=90, answer_max_tokens=8)
    assert type(again.model) is type(reader.model) and not again.model.training
    assert again.model.dtype == torch.float32 and again.model.config._attn_implementation == "sdpa"
    assert (again.end_id, again.mask_id) == (reader.end_id, reader.mask_id)
    text = "question: who was Zoë ?\nanswer: 東京 🙂 ada bay"
    assert again.tokenizer(text)["input_ids"] == reader.tokenizer(text)["input_ids"]
    left, right = (r.encode(models.QUESTIONS, passages, models.ANSWERS) for r in (reader, again))
    assert all(torch.equal(getattr(left, name), getattr(right, name)) for name in vars(left))
    one, other = reader(left, record=True), again(right, record=True)
    assert torch.equal(one.answer_loss, other.answer_loss)
    assert torch.equal(one.token_attention, other.token_attention)
    asked = reader.encode(models.QUESTIONS, passages)
    assert reader.generate(asked) == again.generate(asked)


def test_bf16_weights_on_disk_are_loaded_as_float32(tmp_path):
    reader = models.reader("falcon_alibi")
    reader.model.to(torch.bfloat16)
    reader.save(tmp_path)
    assert DecoderOnlyReader.load(tmp_path, **LIMITS).model.dtype == torch.float32


@pytest.mark.parametrize("kind", ["falcon_alibi", "t5"])
def test_load_names_what_a_directory_lacks(kind, tmp_path):
    made = FusionInDecoderReader if kind == "t5" else DecoderOnlyReader
    with pytest.raises(InputError, match="no config.json"):
        made.load(tmp_path / "nowhere", **LIMITS)
    models.reader(kind).save(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(InputError, match="no tokenizer"):
        made.load(tmp_path, **LIMITS)
    (tmp_path / "tokenizer_config.json").unlink()  # without it the library makes up an empty T5 tokenizer
    with pytest.raises(InputError, match="no tokenizer"):
        made.load(tmp_path, **LIMITS)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match="no .*safetensors"):
        made.load(tmp_path, **LIMITS)
    (tmp_path / "config.json").unlink()
    with pytest.raises(InputError, match="no config.json") as told:
        made.load(tmp_path, **LIMITS)
    assert str(tmp_path) in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize("kind", ["falcon_alibi", "t5"])
def test_what_a_checkpoint_says_of_generation_does_not_make_answers_other_than_greedy(kind, tmp_path):
    reader = models.reader(kind)
    asked = reader.encode(models.QUESTIONS, models.PASSAGES)
    greedy = reader.generate(asked)
    reader.model.generation_config.update(num_beams=4, repetition_penalty=5.0, no_repeat_ngram_size=1, min_new_tokens=7)
    reader.save(tmp_path)
    assert type(reader).load(tmp_path, **LIMITS).generate(asked) == greedy


@pytest.mark.parametrize("kind", ["falcon_alibi", "t5"])
def test_logits_of_a_bf16_model_are_not_rounded_to_bf16(kind):
    """The last product is in float32; its weights learn all the same."""
    reader = models.reader(kind)
    cast(reader, torch.bfloat16)
    encoded = reader.encode(models.QUESTIONS, models.PASSAGES, models.ANSWERS)
    seen = []
    head = reader.model.get_output_embeddings()
    head.register_forward_hook(lambda _module, _inputs, logits: seen.append(logits))
    loss = reader(encoded).answer_loss.sum()
    loss.backward()
    assert seen[0].dtype == torch.float32 and (seen[0] != seen[0].bfloat16().float()).float().mean() > 0.5
    assert head.weight.dtype == head.weight.grad.dtype == torch.bfloat16 and head.weight.grad.abs().sum() > 0


def test_answer_loss_is_a_mean_over_an_answers_own_tokens():
    logits = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[1, 4, 2], [-100, -100, 3]])
    hand = []
    for row in range(2):
        losses = []
        for place, label in enumerate(labels[row].tolist()):
            if label >= 0:
                values = logits[row, place].tolist()
                losses.append(math.log(sum(math.exp(value) for value in values)) - values[label])
        hand.append(sum(losses) / len(losses))
    assert answer_loss(logits, labels).tolist() == pytest.approx(hand, rel=1e-5)
    assert answer_loss(logits.bfloat16(), labels).dtype == torch.float32
    assert answer_loss(logits, torch.full((2, 3), -100)).tolist() == [0, 0]


def test_padding():
    assert pad_left([[1], [2, 3, 4]], 0).tolist() == [[0, 0, 1], [2, 3, 4]]
    assert pad_right([[1], [2, 3, 4]], 9).tolist() == [[1, 9, 9], [2, 3, 4]]
    assert pad_left([[], []], 0).shape == (2, 0)
