"""Fusion-in-decoder against single passages, the library's own loss, and an argmax loop."""

from __future__ import annotations

import copy
import json

import models
import pytest
import torch
from transformers.modeling_outputs import BaseModelOutput

from attention_distillation.models.readers import FusionInDecoderReader
from attention_distillation.models.readers.prompt import TEMPLATE, TEXT, TITLE

SETTINGS = [
    pytest.param({}, id="words"),
    pytest.param({"byte_level": True, "passage": 300, "answer": 40}, id="bytes"),
]


def words(reader, ids) -> list[str]:
    return reader.tokenizer.convert_ids_to_tokens(ids)


def states(reader, encoded, number: int) -> BaseModelOutput:
    """Encoder states of one question: every passage encoded unpadded and by itself, then laid end to end."""
    parts = [
        reader.model.encoder(input_ids=ids[mask.bool()][None]).last_hidden_state[0]
        for ids, mask in zip(encoded.ids[number], encoded.mask[number], strict=True)
    ]
    return BaseModelOutput(last_hidden_state=torch.cat(parts)[None])


# ------------------------------------------------------------------ encoding


def test_each_passage_is_a_row_with_its_end_and_its_segments():
    reader = models.reader("t5")
    encoded = reader.encode(
        ["who was ada", "where"], [[("ada", "ada died ."), ("", "bay")], [("axel", "the bay"), ("abel", "azure")]],
        ["acorn autumn", "bay"],
    )  # fmt: skip
    assert encoded.ids.shape == encoded.mask.shape == (2, 2, 14)
    first, second = (encoded.ids[0, passage][encoded.mask[0, passage].bool()].tolist() for passage in (0, 1))
    assert " ".join(words(reader, first)) == "question : who was ada title : ada context : ada died . </s>"
    assert " ".join(words(reader, second)) == "question : who was ada title : context : bay </s>"
    flat = encoded.ids.flatten(1)
    for number, expected in enumerate((("ada ada died .", "bay"), ("axel the bay", "abel azure"))):
        for passage, text in enumerate(expected):
            assert " ".join(words(reader, flat[number][encoded.passage[number] == passage].tolist())) == text
    assert encoded.segment[0][encoded.passage[0] == 0].tolist() == [TITLE, TEXT, TEXT, TEXT]
    assert ((encoded.segment == TEMPLATE) == (encoded.passage == -1)).all()
    assert (encoded.passage[encoded.mask.flatten(1) == 0] == -1).all()
    assert words(reader, encoded.labels[0].tolist()) == ["acorn", "autumn", "</s>"]
    assert encoded.labels[1].tolist() == [*reader.tokenizer.convert_tokens_to_ids(["bay", "</s>"]), -100]


def test_a_row_is_cut_to_the_limit_with_its_end_inside():
    reader = models.reader("t5", passage=14)
    encoded = reader.encode(["who was ada"], [[("ada", "acorn " * 40), ("ada", "bay")]])
    assert encoded.ids.shape == (1, 2, 14) and encoded.ids[0, 0, -1] == reader.end_id
    assert encoded.ids[0, 0, :-1].tolist().count(reader.end_id) == 0
    assert encoded.labels.shape == (1, 0) and encoded.labels.dtype == torch.int64


def test_a_long_answer_is_cut_and_keeps_its_end():
    reader = models.reader("t5", answer=4)
    row = reader.encode(["who"], [[("", "ada")]], ["azure amber arrow acorn autumn abel"]).labels[0].tolist()
    assert words(reader, row) == ["azure", "amber", "arrow", "</s>"]


def test_a_question_longer_than_a_prompt_leaves_room_for_the_passage():
    reader = models.reader("t5")
    encoded = reader.encode(["who was ada " * 30], [[("ada", "bay")]], ["bay"])
    own = encoded.segment[0] != TEMPLATE
    assert words(reader, encoded.ids.reshape(-1)[own].tolist()) == ["ada", "bay"]


def test_closed_book_reads_the_question_alone():
    reader = models.reader("t5")
    encoded = reader.encode(["who was ada", "where"], [[], []], ["bay", "azure"])
    assert encoded.ids.shape == (2, 1, 6)
    assert words(reader, encoded.ids[0, 0].tolist()) == ["question", ":", "who", "was", "ada", "</s>"]
    assert words(reader, encoded.ids[1, 0].tolist()) == ["question", ":", "where", "</s>", "<pad>", "<pad>"]
    assert (encoded.passage == -1).all() and encoded.mask[1, 0].tolist() == [1, 1, 1, 1, 0, 0]
    with torch.no_grad():
        assert torch.isfinite(reader(encoded, record=True).answer_loss).all()
    assert len(reader.generate(reader.encode(["who was ada", "where"], [[], []]))) == 2


# ------------------------------------------------------------------ forward


@pytest.mark.parametrize("settings", SETTINGS)
@torch.no_grad()
def test_a_batch_gives_what_its_questions_give_one_by_one(settings):
    reader = models.reader("t5", **settings)
    questions = [*models.QUESTIONS, "who"]
    passages = [*models.PASSAGES, [("", "ada"), ("", "bay"), ("", ".")]]
    answers = [*models.ANSWERS, "bay"]
    encoded = reader.encode(questions, passages, answers)
    output = reader(encoded, record=True)
    asked = reader.generate(reader.encode(questions, passages))
    for number in range(3):
        one = [[part[number]] for part in (questions, passages, answers)]
        alone = reader.encode(*one)
        found = reader(alone, record=True)
        torch.testing.assert_close(output.answer_loss[number], found.answer_loss[0], rtol=1e-5, atol=1e-5)
        wide = output.token_attention[number].view(3, -1)
        narrow = found.token_attention[0].view(3, -1)
        size = narrow.shape[1]
        torch.testing.assert_close(wide[:, :size], narrow, rtol=1e-4, atol=1e-6)
        assert (wide[:, size:] == 0).all() and (wide[encoded.mask[number] == 0] == 0).all()
        assert reader.generate(reader.encode(*one[:2])) == [asked[number]]


@pytest.mark.parametrize("settings", SETTINGS)
@torch.no_grad()
def test_the_answer_loss_is_transformers_own(settings):
    reader = models.reader("t5", **settings)
    answers = ["azure", "東京 in Zürich, naïve 🙂"] if settings else models.ANSWERS
    encoded = reader.encode(models.QUESTIONS, models.PASSAGES, answers)
    losses = reader(encoded).answer_loss
    for number in range(2):
        labels = encoded.labels[number][encoded.labels[number] != -100][None]
        own = reader.model(encoder_outputs=states(reader, encoded, number), labels=labels).loss
        assert losses[number].item() == pytest.approx(own.item(), rel=1e-5)


@torch.no_grad()
def test_one_passage_is_a_plain_t5():
    reader = models.reader("t5")
    encoded = reader.encode(["who was ada"], [[("ada", "ada died .")]], ["bay"])
    plain = reader.tokenizer("question: who was ada title: ada context: ada died .", return_tensors="pt")["input_ids"]
    assert encoded.ids[0].tolist() == plain.tolist()
    own = reader.model(input_ids=plain, labels=encoded.labels).loss
    assert reader(encoded).answer_loss.item() == pytest.approx(own.item(), rel=1e-6)


@torch.no_grad()
def test_the_order_of_passages_does_not_matter_and_what_they_say_does():
    reader = models.reader("t5")
    first = reader(reader.encode(models.QUESTIONS, models.PASSAGES, models.ANSWERS), record=True)
    turned = [found[::-1] for found in models.PASSAGES]
    second = reader(reader.encode(models.QUESTIONS, turned, models.ANSWERS), record=True)
    torch.testing.assert_close(first.answer_loss, second.answer_loss)  # no positions across passages
    torch.testing.assert_close(first.token_attention.view(2, 3, -1).flip(1), second.token_attention.view(2, 3, -1))
    other = reader(reader.encode(models.QUESTIONS, [[("abel", "azure .")] * 3] * 2, models.ANSWERS))
    assert (other.answer_loss - first.answer_loss).abs().min() > 1e-4


# ------------------------------------------------------------------ generation


def by_argmax(reader, encoded, number: int, steps: int) -> list[int]:
    """Token after token, the decoder run anew each time: no cache, no padding, no generate()."""
    found: list[int] = []
    read = states(reader, encoded, number)
    while len(found) < steps:
        given = torch.tensor([[reader.model.config.decoder_start_token_id, *found]])
        logits = reader.model(encoder_outputs=read, decoder_input_ids=given, use_cache=False).logits
        found.append(int(logits[0, -1].argmax()))
        if found[-1] == reader.end_id:
            break
    return found


@pytest.mark.parametrize("settings", SETTINGS)
@torch.no_grad()
def test_generation_is_greedy(settings):
    reader = models.reader("t5", **{**settings, "answer": 12})
    encoded = reader.encode(models.QUESTIONS, models.PASSAGES)
    assert reader.generate(encoded) == [
        reader.tokenizer.decode(by_argmax(reader, encoded, number, 12), skip_special_tokens=True).strip()
        for number in range(2)
    ]


@torch.no_grad()
def test_generation_stops_at_the_end_while_others_go_on():
    reader = models.reader("t5", answer=6)
    encoded = reader.encode(models.QUESTIONS, models.PASSAGES)
    rows = [by_argmax(reader, encoded, number, 6) for number in range(2)]
    stop = next(token for token in rows[0][1:] if token not in rows[1])
    tokenizer = copy.deepcopy(reader.tokenizer)
    tokenizer.add_special_tokens({"eos_token": tokenizer.convert_ids_to_tokens(stop)})
    again = FusionInDecoderReader(reader.model, tokenizer, passage_max_tokens=40, answer_max_tokens=6)
    first, second = again.generate(encoded)
    assert first.split() == words(reader, rows[0][: rows[0].index(stop)])
    assert second.split() == words(reader, rows[1])


# ------------------------------------------------------------------ the published checkpoint's head


def test_a_head_of_its_own_stays_its_own_and_outputs_stay_unscaled(tmp_path):
    """As in t5-large-lm-adapt; transformers 5 ties every fresh T5 and tells the two kinds apart while it loads."""
    reader = models.reader("t5")
    reader.model.config.scale_decoder_outputs = False
    reader.model.lm_head = torch.nn.Linear(32, len(reader.tokenizer), bias=False)
    encoded = reader.encode(models.QUESTIONS, models.PASSAGES, models.ANSWERS)
    wanted = reader(encoded).answer_loss
    reader.save(tmp_path / "hub")
    config = json.loads((tmp_path / "hub" / "config.json").read_text())
    config["tie_word_embeddings"] = False  # what the hub's file says
    del config["scale_decoder_outputs"]
    (tmp_path / "hub" / "config.json").write_text(json.dumps(config))
    folder = tmp_path / "hub"
    for name in ("once", "twice"):
        loaded = FusionInDecoderReader.load(folder, passage_max_tokens=40, answer_max_tokens=8).eval()
        assert loaded.model.lm_head.weight is not loaded.model.shared.weight
        assert torch.allclose(loaded(encoded).answer_loss, wanted, atol=1e-5)
        loaded.save(folder := tmp_path / name)
