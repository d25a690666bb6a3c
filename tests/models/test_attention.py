"""Eq. 1 as it is recorded against float64 attention written out by hand, and the library's faults that we avoid."""

from __future__ import annotations

import copy
import math

import models
import naive
import pytest
import torch
import torch.nn.functional as F

from attention_distillation.models.attention import (
    AnswerRowRecorder,
    cross_attention_modules,
    self_attention_modules,
)
from attention_distillation.models.readers import Reader

TOLERANCE = {"rtol": 2e-5, "atol": 2e-6}


def expected(reader: Reader, encoded, number: int, value_norm: bool = True) -> tuple[torch.Tensor, float]:
    """a_t of one question at its real tokens, and its answer loss, both by hand in float64."""
    labels = encoded.labels[number]
    labels = labels[labels != -100]
    if encoded.ids.dim() == 3:
        passages = [ids[mask.bool()] for ids, mask in zip(encoded.ids[number], encoded.mask[number], strict=True)]
        logits, layers = naive.t5(reader.model, passages, labels)
        rows = list(range(len(labels)))
    else:
        ids = encoded.ids[number][encoded.mask[number].bool()]
        logits, layers = naive.forward(reader.model, ids)
        rows = list(range(len(ids) - 1 - len(labels), len(ids) - 1))
        assert ids[-len(labels) :].tolist() == labels.tolist()
        logits = logits[rows]
    loss = -logits.log_softmax(-1)[range(len(labels)), labels].mean()
    return naive.token_attention(layers, rows, value_norm), float(loss)


def batch(reader: Reader):
    encoded = reader.encode(models.QUESTIONS, models.PASSAGES, models.ANSWERS)
    assert (encoded.mask == 0).any() and (encoded.labels == -100).any()
    return encoded


@pytest.mark.parametrize("value_norm", [True, False], ids=["norm", "no_norm"])
@pytest.mark.parametrize("kind", models.KINDS)
@torch.no_grad()
def test_token_attention_is_equation_1_in_a_padded_batch(kind, value_norm):
    reader = models.reader(kind)
    encoded = batch(reader)
    output = reader(encoded, record=True, value_norm=value_norm)
    mask = encoded.mask.flatten(1).bool()
    assert output.token_attention.shape == mask.shape and output.token_attention.dtype == torch.float32
    for number in range(len(mask)):
        attention, loss = expected(reader, encoded, number, value_norm)
        torch.testing.assert_close(output.token_attention[number][mask[number]].double(), attention, **TOLERANCE)
        assert float(output.answer_loss[number]) == pytest.approx(loss, rel=1e-5)
        assert attention.std() > 0.1 * attention.mean(), "attention so flat that the comparison says nothing"
    assert (output.token_attention[~mask] == 0).all()


@torch.no_grad()
def test_without_the_value_norm_the_attention_of_an_answer_sums_to_one():
    for kind in ("falcon_alibi", "t5"):
        reader = models.reader(kind)
        total = reader(batch(reader), record=True, value_norm=False).token_attention.sum(1)
        torch.testing.assert_close(total, torch.ones_like(total), rtol=1e-5, atol=0)


@pytest.mark.parametrize("kind", models.CAUSAL)
@torch.no_grad()
def test_right_padding_gives_the_same_attention(kind):
    reader = models.reader(kind)
    encoded = batch(reader)
    rows_of = [ids[mask.bool()] for ids, mask in zip(encoded.ids, encoded.mask, strict=True)]
    answers = [int((labels != -100).sum()) for labels in encoded.labels]
    width, widest = max(map(len, rows_of)), max(answers)
    ids = torch.full((2, width), reader.tokenizer.pad_token_id)
    mask, rows, row_mask = torch.zeros(2, width).long(), torch.zeros(2, widest).long(), torch.zeros(2, widest).bool()
    for number, (row, answer) in enumerate(zip(rows_of, answers, strict=True)):
        ids[number, : len(row)], mask[number, : len(row)] = row, 1
        rows[number, :answer] = torch.arange(len(row) - 1 - answer, len(row) - 1)
        row_mask[number, :answer] = True
    modules = self_attention_modules(reader.model)
    with AnswerRowRecorder(modules, rows, row_mask, mask.bool()) as recorder:
        reader.model(input_ids=ids, attention_mask=mask, use_cache=False)
    attention = recorder.by_layer().mean(0)
    for number, row in enumerate(rows_of):
        hand, _ = expected(reader, encoded, number)
        torch.testing.assert_close(attention[number, : len(row)].double(), hand, **TOLERANCE)
        assert (attention[number, len(row) :] == 0).all()


@pytest.mark.parametrize("kind", models.KINDS)
@torch.no_grad()
def test_recording_changes_no_logit_and_leaves_no_hook(kind):
    reader = models.reader(kind)
    encoded = batch(reader)
    plain, recorded, again = reader(encoded), reader(encoded, record=True), reader(encoded)
    assert plain.token_attention is None
    assert torch.equal(plain.answer_loss, recorded.answer_loss) and torch.equal(plain.answer_loss, again.answer_loss)
    if kind != "t5":
        inputs = {"input_ids": encoded.ids, "attention_mask": encoded.mask}
        rows = torch.zeros(2, 1).long() + encoded.ids.shape[1] - 1
        recorder = AnswerRowRecorder(self_attention_modules(reader.model), rows, rows > 0, encoded.mask.bool())
        with recorder:
            logits = reader.model(**inputs).logits
        assert torch.equal(logits, reader.model(**inputs).logits)
    for module in reader.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks


@pytest.mark.parametrize("kind", ["falcon_alibi", "llama_grouped", "t5"])
def test_gradients_flow_through_the_loss_as_without_recording_and_never_through_attention(kind):
    reader = models.reader(kind)
    gradients = []
    for record in (False, True):
        reader.zero_grad()
        output = reader(batch(reader), record=record)
        output.answer_loss.mean().backward()
        gradients.append([p.grad.clone() for p in reader.parameters() if p.grad is not None])
    assert not output.token_attention.requires_grad
    assert all(torch.equal(left, right) for left, right in zip(*gradients, strict=True))


@pytest.mark.parametrize("kind", ["falcon_alibi", "falcon_multi_query", "llama_grouped", "t5"])
@torch.no_grad()
def test_bf16_is_equation_1_within_its_precision(kind):
    reader = models.reader(kind)
    models.randomise(reader.model, scale=0.15).to(torch.bfloat16)  # in bf16 sharp attention would drown in rounding
    encoded = batch(reader)
    attention = reader(encoded, record=True).token_attention
    mask = encoded.mask.flatten(1).bool()
    assert attention.dtype == torch.float32
    for number in range(2):
        hand, _ = expected(reader, encoded, number)
        assert (attention[number][mask[number]] - hand).abs().max() < 0.05 * hand.max()


# ------------------------------------------------------------------ what must raise


@pytest.mark.parametrize("kind", models.KINDS)
def test_eager_attention_raises(kind):
    reader = models.reader(kind, implementation="eager")
    with pytest.raises(RuntimeError, match="sdpa"):
        reader(batch(reader), record=True)


def test_a_layer_that_bypasses_sdpa_raises():
    reader = models.reader("falcon_alibi")
    one = reader.model.transformer.h[1].self_attention
    one.config = copy.deepcopy(one.config)
    one.config._attn_implementation = "eager"
    with pytest.raises(RuntimeError, match=r"layers \[0\] was recorded, of 2"):
        reader(batch(reader), record=True)


def test_two_forwards_in_one_recorder_raise():
    reader = models.reader("llama_grouped")
    encoded = batch(reader)
    rows = torch.full((2, 1), encoded.ids.shape[1] - 1)
    recorder = AnswerRowRecorder(self_attention_modules(reader.model), rows, rows > 0, encoded.mask.bool())
    with recorder:
        for _ in range(2):
            reader.model(input_ids=encoded.ids, attention_mask=encoded.mask, use_cache=False)
    with pytest.raises(RuntimeError, match="once each"):
        recorder.by_layer().mean(0)


def test_a_row_that_attends_to_a_key_called_padding_raises():
    reader = models.reader("falcon_alibi")
    encoded = batch(reader)
    keys = encoded.mask.bool().clone()
    keys[:, -3] = False  # a real token
    rows = torch.full((2, 1), encoded.ids.shape[1] - 1)
    recorder = AnswerRowRecorder(self_attention_modules(reader.model), rows, rows > 0, keys)
    with recorder:
        reader.model(input_ids=encoded.ids, attention_mask=encoded.mask, use_cache=False)
    with pytest.raises(RuntimeError, match="sums to 1 only within"):
        recorder.by_layer().mean(0)
    unchecked = AnswerRowRecorder(self_attention_modules(reader.model), rows, rows > 0, keys, check=False)
    with unchecked:
        reader.model(input_ids=encoded.ids, attention_mask=encoded.mask, use_cache=False)
    unchecked.by_layer().mean(0)


@pytest.mark.parametrize("kind", ["falcon_alibi", "t5"])
def test_attention_that_is_not_a_number_raises(kind):
    reader = models.reader(kind)
    with torch.no_grad():
        reader.model.get_input_embeddings().weight[reader.tokenizer.convert_tokens_to_ids("ada")] = math.nan
    with pytest.raises(RuntimeError, match="sums to 1 only within"):
        reader(batch(reader), record=True)


def test_modules_are_one_a_layer_and_their_number_is_checked():
    for kind in models.CAUSAL:
        model = models.reader(kind).model
        assert [module.layer_idx for module in self_attention_modules(model)] == [0, 1]
    model = models.reader("t5").model
    assert len(cross_attention_modules(model)) == model.config.num_decoder_layers == 2
    model = models.reader("falcon_alibi").model
    model.config.num_hidden_layers = 3
    with pytest.raises(ValueError, match="of FalconForCausalLM 2 modules .* its config names 3 layers"):
        self_attention_modules(model)


# ------------------------------------------------------------------ the recorder by itself


class Layer(torch.nn.Module):
    """One call of SDPA with whatever is handed to it."""

    def forward(self, *args, **kwargs):
        return F.scaled_dot_product_attention(*args, **kwargs)


MASKS = {
    "causal": lambda: {"is_causal": True},
    "bool": lambda: {"attn_mask": torch.ones(6, 6).tril().bool().expand(2, 1, 6, 6)},
    "bias_for_each_head": lambda: {"attn_mask": torch.randn(2, 4, 6, 6)},
    "bias_for_all": lambda: {"attn_mask": torch.randn(1, 1, 6, 6)},
    "scale": lambda: {"scale": 0.7},
    "grouped": lambda: {"enable_gqa": True},
}


@pytest.mark.parametrize("case", MASKS)
def test_recorder_repeats_what_sdpa_computes(case):
    torch.manual_seed(3)
    size = 5
    query, key, value = torch.randn(2, 4, 6, size), torch.randn(2, 4, 6, size), torch.randn(2, 4, 6, size)
    if case == "grouped":
        key, value = key[:, :2], value[:, :2]
    given = MASKS[case]()
    rows, row_mask = torch.tensor([[2, 4, 5], [5, 0, 3]]), torch.tensor([[True, True, True], [True, False, True]])
    layer = Layer()
    with AnswerRowRecorder([layer], rows, row_mask, torch.ones(2, 6).bool()) as recorder:
        layer(query, key, value, **given)
    found = recorder.by_layer().mean(0)

    # α itself, by SDPA: with the unit matrix as values its output is α
    unit = torch.eye(6).expand(2, key.shape[1], 6, 6)
    alpha = F.scaled_dot_product_attention(query, key, unit, **{"scale": size**-0.5, **given})
    norms = value.norm(dim=-1).repeat_interleave(4 // value.shape[1], 1)
    for number, answers in enumerate([[2, 4, 5], [5, 3]]):
        hand = torch.stack([alpha[number, head, j] * norms[number, head] for head in range(4) for j in answers]).mean(0)
        torch.testing.assert_close(found[number], hand)


def test_recorder_hears_only_its_own_modules_and_only_inside_with():
    layer, other = Layer(), Layer()
    parts = torch.randn(3, 1, 1, 2, 4)
    recorder = AnswerRowRecorder([layer], torch.tensor([[1]]), torch.tensor([[True]]), torch.ones(1, 2).bool())
    layer(*parts)
    with recorder:
        other(*parts)
        F.scaled_dot_product_attention(*parts)
    with pytest.raises(RuntimeError, match=r"layers \[\]"):
        recorder.by_layer().mean(0)
    with recorder:
        layer(*parts)
    layer(*parts)
    assert recorder.by_layer().mean(0).shape == (1, 2)


# ------------------------------------------------------------------ faults of transformers that we go around


@torch.no_grad()
def test_pin_falcons_eager_path_adds_alibi_twice():
    ids = torch.tensor([[7, 11, 13, 17, 19, 23, 29, 31, 37, 41]])
    logits = {}
    for implementation in ("sdpa", "eager"):
        model = models.make("falcon_alibi", 50, 0, 2, implementation)
        logits[implementation] = model(input_ids=ids).logits[0].double()
    by_flag = models.make("falcon_alibi", 50, 0, 2)(input_ids=ids, output_attentions=True).logits[0].double()
    once, twice = (naive.falcon(model, ids[0], times_alibi=times)[0] for times in (1, 2))
    assert (once - twice).abs().max() > 0.05
    torch.testing.assert_close(logits["sdpa"], once, rtol=1e-4, atol=1e-4, msg=(
        "Falcon's SDPA path no longer adds the ALiBi bias once: the recorder reads a wrong forward."
    ))  # fmt: skip
    mended = (
        "transformers has mended Falcon's eager attention (it used to add the ALiBi bias twice). The recorder stays "
        "right, since it reads SDPA; the warnings about output_attentions in attention.py and in the documentation "
        "can go, with this test."
    )
    for wrong in (logits["eager"], by_flag):
        torch.testing.assert_close(wrong, twice, rtol=1e-4, atol=1e-4, msg=mended)


@torch.no_grad()
def test_pin_falcon_rotary_with_output_attentions_on_sdpa_masks_nothing():
    model = models.make("falcon_multi_query", 50, 0, 2)
    ids = torch.tensor([[7, 11, 13, 17, 19, 23]])
    right = model(input_ids=ids).logits[0].double()
    torch.testing.assert_close(right, naive.falcon(model, ids[0])[0], rtol=1e-4, atol=1e-4)
    output = model(input_ids=ids, attention_mask=torch.tensor([[1, 1, 1, 1, 1, 1]]), output_attentions=True)
    future = output.attentions[0][0].triu(1).max()
    assert future > 0.01 and (output.logits[0] - right).abs().max() > 0.05, (
        "transformers has mended output_attentions for Falcon with rotary embeddings on SDPA (it used to mask nothing):"
        " take the fault out of the documentation, with this test."
    )
