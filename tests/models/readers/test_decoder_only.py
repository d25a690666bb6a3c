"""The decoder-only reader against single, unpadded sequences, the library's own loss, and an argmax loop."""

from __future__ import annotations

import copy

import models
import pytest
import torch

from attention_distillation.files import InputError
from attention_distillation.models.readers import DecoderOnlyReader, Encoded
from attention_distillation.models.readers.prompt import TEMPLATE, TEXT, TITLE, passage_prompts

LONG = {"byte_level": True, "passage": 300, "answer": 40}
SETTINGS = [pytest.param(kind, {}, id=f"{kind}-words") for kind in (*models.CAUSAL, "gpt2")] + [
    pytest.param("falcon_alibi", LONG, id="falcon_alibi-bytes"),
    pytest.param("llama_grouped", LONG, id="llama_grouped-bytes"),
]


def single(reader, encoded: Encoded, number: int) -> torch.Tensor:
    """The unpadded sequence of one question, (1, T)."""
    return encoded.ids[number][encoded.mask[number].bool()][None]


def words(reader, ids) -> list[str]:
    return reader.tokenizer.convert_ids_to_tokens(ids)


# ------------------------------------------------------------------ encoding


def test_a_sequence_is_prompts_then_trigger_then_answer():
    reader = models.reader("falcon_alibi")
    encoded = reader.encode(
        ["who was ada", "where"], [[("ada", "ada died ."), ("", "bay")], [("axel", "the bay"), ("abel", "azure")]],
        ["acorn autumn", "bay"],
    )  # fmt: skip
    first, second = "who was ada title : ada context : ada died .", "who was ada title : context : bay"
    whole = f"question : {first} \n question : {second} \n answer : acorn autumn </s>"
    assert words(reader, encoded.ids[0].tolist()) == whole.split(" ")
    assert encoded.mask[0].all()
    own = {0: ["ada", "ada", "died", "."], 1: ["bay"]}
    for passage, expected in own.items():
        assert words(reader, encoded.ids[0][encoded.passage[0] == passage].tolist()) == expected
    assert encoded.segment[0][encoded.passage[0] == 0].tolist() == [TITLE, TEXT, TEXT, TEXT]
    assert ((encoded.segment == TEMPLATE) == (encoded.passage == -1)).all()
    assert words(reader, encoded.labels[0].tolist()) == ["acorn", "autumn", "</s>"]
    assert encoded.labels[1].tolist() == [-100, *reader.tokenizer("bay")["input_ids"], reader.end_id]
    shorter = int(encoded.mask[1].sum())
    assert encoded.mask[1].tolist() == [0] * (encoded.mask.shape[1] - shorter) + [1] * shorter
    assert (encoded.ids[1][encoded.mask[1] == 0] == reader.tokenizer.pad_token_id).all()
    assert (encoded.passage[1][encoded.mask[1] == 0] == -1).all()


def test_each_passages_prompt_is_cut_to_the_limit_and_the_others_are_not():
    reader = models.reader("falcon_alibi", passage=14)
    passages = [("ada", "acorn " * 40), ("ada", "bay .")]
    encoded = reader.encode(["who was ada"], [passages], ["bay"])
    cut, whole = passage_prompts(reader.tokenizer, ["who was ada"] * 2, passages, 14, end="\n")
    assert len(cut.ids) == 14 and len(whole.ids) == 13
    assert encoded.ids[0, :27].tolist() == [*cut.ids, *whole.ids]
    assert words(reader, encoded.ids[0, 27:].tolist()) == ["answer", ":", "bay", "</s>"]


def test_a_long_answer_is_cut_and_keeps_its_end():
    for kind, settings in (("falcon_alibi", {}), ("falcon_alibi", {"byte_level": True, "passage": 300})):
        reader = models.reader(kind, answer=5, **settings)
        row = reader.encode(["who"], [[("", "ada")]], ["azure amber arrow acorn autumn abel"]).labels[0].tolist()
        answer = reader.tokenizer(" azure amber arrow acorn autumn abel", add_special_tokens=False)["input_ids"]
        assert row == [*answer[:4], reader.end_id]
        exact = reader.tokenizer.decode(answer[:4])
        if exact.strip():
            fits = reader.encode(["who"], [[("", "ada")]], [exact.strip()]).labels[0].tolist()
            assert fits[-1] == reader.end_id and len(fits) <= 5


def test_a_question_longer_than_a_prompt_leaves_room_for_the_passage():
    reader = models.reader("falcon_alibi")
    encoded = reader.encode(["who was ada " * 30], [[("ada", "bay")]], ["bay"])
    own = encoded.segment[0] != TEMPLATE
    assert words(reader, encoded.ids.reshape(-1)[own].tolist()) == ["ada", "bay"]


def test_closed_book_reads_the_question_alone():
    reader = models.reader("falcon_alibi")
    encoded = reader.encode(["who was ada", "where"], [[], []], ["bay", "azure"])
    assert words(reader, encoded.ids[0].tolist()) == ["question", ":", "who", "was", "ada", "\n", "answer", ":", "bay",
                                                      "</s>"]  # fmt: skip
    assert (encoded.passage == -1).all() and (encoded.segment == TEMPLATE).all()
    with torch.no_grad():
        assert torch.isfinite(reader(encoded, record=True).answer_loss).all()
    assert len(reader.generate(reader.encode(["who was ada", "where"], [[], []]))) == 2


def test_without_answers_the_sequence_ends_with_the_trigger():
    reader = models.reader("falcon_alibi")
    with_, without = (reader.encode(models.QUESTIONS, models.PASSAGES, a) for a in (["bay", "bay"], None))
    assert without.labels.shape == (2, 0) and without.labels.dtype == torch.int64
    assert with_.ids[:, :-2].tolist() == without.ids.tolist()


def test_a_tokenizer_without_padding_token_pads_with_the_end():
    reader = models.reader("falcon_alibi")
    bare = copy.deepcopy(reader.tokenizer)
    bare.pad_token = None
    other = DecoderOnlyReader(reader.model, bare, passage_max_tokens=40, answer_max_tokens=8)
    left, right = (r.encode(models.QUESTIONS, models.PASSAGES, models.ANSWERS) for r in (reader, other))
    assert (right.ids[right.mask == 0] == reader.end_id).all() and (right.mask == 0).any()
    with torch.no_grad():
        torch.testing.assert_close(reader(left).answer_loss, other(right).answer_loss)
    asked = [r.encode(models.QUESTIONS, models.PASSAGES) for r in (reader, other)]
    assert reader.generate(asked[0]) == other.generate(asked[1])


def with_start(tokenizer, name: str = "[CLS]"):
    """The tokenizer of a model that starts its texts with a token, as Llama 3's and Gemma's do."""
    from tokenizers import processors

    other = copy.deepcopy(tokenizer)
    other.add_special_tokens({"bos_token": name})
    number = other.convert_tokens_to_ids(name)
    other.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{name} $A", special_tokens=[(name, number)]
    )
    return other


@torch.no_grad()
def test_a_sequence_starts_once_as_the_tokenizer_starts_it():
    plain = models.reader("llama_grouped")
    reader = DecoderOnlyReader(plain.model, with_start(plain.tokenizer), passage_max_tokens=40, answer_max_tokens=8)
    start = reader.tokenizer.convert_tokens_to_ids("[CLS]")
    assert reader.start == [start] and plain.start == []
    assert reader.around == plain.around + 1
    for passages in (models.PASSAGES, [[], []]):
        left, right = (r.encode(models.QUESTIONS, passages, models.ANSWERS) for r in (plain, reader))
        for number in range(2):
            mine, its = single(plain, left, number)[0].tolist(), single(reader, right, number)[0].tolist()
            assert its == [start, *mine]
            for part in ("passage", "segment", "prompt"):
                own = getattr(right, part)[number][right.mask[number].bool()].tolist()
                assert own[1:] == getattr(left, part)[number][left.mask[number].bool()].tolist()
                assert own[0] == (TEMPLATE if part == "segment" else -1)
    alone, _ = reader.alone(reader.encode(models.QUESTIONS, models.PASSAGES, models.ANSWERS))
    assert all(ids[mask.bool()][0] == start for ids, mask in zip(alone.ids, alone.mask, strict=True))
    assert (alone.ids == start).sum() == len(alone.ids)


def test_an_answer_is_cut_into_tokens_as_in_running_text():
    """A tokenizer that puts a mark before a text and before each word (Llama 2's kind) puts one before the answer."""
    from tokenizers import Tokenizer, decoders, normalizers, trainers
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(BPE(byte_fallback=False, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Replace("▁", " ")
    texts = ["answer: Paris in the south", "question: who was Paris answer: Paris"] * 5
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=60, special_tokens=["<unk>", "</s>"]))
    words_ = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>")
    model = models.make("llama_grouped", len(words_), 0, words_.eos_token_id)
    reader = DecoderOnlyReader(model, words_, passage_max_tokens=40, answer_max_tokens=20)
    encoded = reader.encode(["who"], [[("", "Paris")]], ["Paris"])
    answer = encoded.labels[0, :-1].tolist()
    assert "".join(words(reader, answer)) == "▁Paris"
    assert "".join(words(reader, encoded.ids[0].tolist())).endswith("▁answer:▁Paris</s>")
    tokens, spans = reader.words("Paris in")
    assert "".join(words(reader, tokens)) == "▁Paris▁in" or "".join(words(reader, tokens)) == "Paris▁in"
    assert spans[-1][1] == len("Paris in")


def test_without_an_end_in_the_tokenizer_the_models_own_ends_an_answer():
    plain = models.reader("llama_grouped")
    bare = copy.deepcopy(plain.tokenizer)
    bare.eos_token = None
    model = models.make("llama_grouped", len(bare), 0, 2)
    model.generation_config.eos_token_id = [7, 9]
    limits = {"passage_max_tokens": 40, "answer_max_tokens": 8}
    assert DecoderOnlyReader(model, bare, **limits).end_id == 7
    model.generation_config.eos_token_id = model.config.eos_token_id = None
    with pytest.raises(InputError, match="names a token that ends a text"):
        DecoderOnlyReader(model, bare, **limits)


def test_a_passage_that_is_blank_has_no_tokens_and_no_score():
    reader = models.reader("falcon_alibi")
    encoded = reader.encode(["who"], [[("", " "), ("ada", "bay")]], ["bay"])
    assert set(encoded.passage[0].tolist()) == {-1, 1}


CHAT = (
    "{% for turn in messages %}[CLS]{{ turn.role }} : {{ turn.content | trim }} [SEP]\n{% endfor %}"
    "{% if add_generation_prompt %}[CLS]assistant : {% endif %}"
)


@torch.no_grad()
def test_in_a_chat_all_is_one_turn_of_the_user_and_the_answer_ends_with_the_assistants():
    plain = models.reader("llama_grouped")
    tokenizer = copy.deepcopy(plain.tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": ["[CLS]", "[SEP]"]})
    limits = {"passage_max_tokens": 40, "answer_max_tokens": 8, "chat": True}
    with pytest.raises(InputError, match="no chat template"):
        DecoderOnlyReader(plain.model, tokenizer, **limits)
    tokenizer.chat_template = CHAT
    reader = DecoderOnlyReader(plain.model, tokenizer, **limits)
    encoded = reader.encode(["who was ada"], [[("ada", "ada died ."), ("", "bay")]], ["acorn autumn"])
    shown = words(reader, encoded.ids[0].tolist())
    first, second = "who was ada title : ada context : ada died .", "who was ada title : context : bay"
    turn = f"question : {first} \n question : {second} \n answer :"
    assert shown[0] == "[CLS]" and shown.count("[CLS]") == 2 and shown.count("[SEP]") == 2
    assert " ".join(shown[shown.index("question") : shown.index("[SEP]")]) == turn
    assert shown[-3:] == ["acorn", "autumn", "[SEP]"] and reader.end_id == tokenizer.convert_tokens_to_ids("[SEP]")
    own = [word for word, owner in zip(shown, encoded.passage[0].tolist(), strict=True) if owner == 0]
    assert own == ["ada", "ada", "died", "."]
    assert len(reader.generate(reader.encode(["who was ada"], [[("ada", "ada died .")]]))) == 1
    used = int(encoded.mask.sum()) - 2 * 40 - encoded.labels.shape[1]
    assert used <= reader.around


def test_the_question_may_stand_once_before_the_answer():
    plain = models.reader("falcon_alibi")
    reader = DecoderOnlyReader(
        plain.model, plain.tokenizer, passage_max_tokens=40, answer_max_tokens=8, template="title: {title} {text}",
        closed_book="", answer_head="question: {question} answer:",
    )  # fmt: skip
    encoded = reader.encode(["who was ada"], [[("ada", "bay"), ("", "axel")]], ["bay"])
    told = "title : ada bay \n title : axel \n question : who was ada answer : bay </s>"
    assert words(reader, encoded.ids[0].tolist()) == told.split(" ")
    closed = reader.encode(["who was ada"], [[]], ["bay"])
    assert words(reader, closed.ids[0].tolist()) == [
        "\n",
        "question",
        ":",
        "who",
        "was",
        "ada",
        "answer",
        ":",
        "bay",
        "</s>",
    ]


# ------------------------------------------------------------------ forward


@pytest.mark.parametrize(("kind", "settings"), SETTINGS)
@torch.no_grad()
def test_a_batch_gives_what_its_questions_give_one_by_one(kind, settings):
    reader = models.reader(kind, **settings)
    questions = [*models.QUESTIONS, "who"]
    passages = [*models.PASSAGES, [("", "ada"), ("", "bay"), ("", ".")]]
    answers = [*models.ANSWERS, "bay"]
    encoded = reader.encode(questions, passages, answers)
    output = reader(encoded, record=True)
    asked = reader.generate(reader.encode(questions, passages))
    for number in range(3):
        one = [[part[number]] for part in (questions, passages, answers)]
        alone = reader.encode(*one)
        assert alone.mask.all() and single(reader, encoded, number).tolist() == alone.ids.tolist()
        found = reader(alone, record=True)
        torch.testing.assert_close(output.answer_loss[number], found.answer_loss[0], rtol=1e-5, atol=1e-5)
        size = alone.ids.shape[1]
        attention = output.token_attention[number, -size:]
        torch.testing.assert_close(attention, found.token_attention[0], rtol=1e-4, atol=1e-6)
        assert (output.token_attention[number, :-size] == 0).all()
        for part in ("passage", "segment"):
            assert getattr(encoded, part)[number, -size:].tolist() == getattr(alone, part)[0].tolist()
        assert reader.generate(reader.encode(*one[:2])) == [asked[number]]


@pytest.mark.parametrize(("kind", "settings"), SETTINGS)
@torch.no_grad()
def test_the_answer_loss_is_transformers_own(kind, settings):
    reader = models.reader(kind, **settings)
    answers = ["azure", "東京 in Zürich, naïve 🙂"] if settings else models.ANSWERS
    encoded = reader.encode(models.QUESTIONS, models.PASSAGES, answers)
    losses = reader(encoded).answer_loss
    for number in range(2):
        ids = single(reader, encoded, number)
        size = int((encoded.labels[number] != -100).sum())
        labels = torch.full_like(ids, -100)
        labels[0, -size:] = ids[0, -size:]
        assert labels[0, -1] == reader.end_id
        own = reader.model(input_ids=ids, labels=labels).loss
        assert losses[number].item() == pytest.approx(own.item(), rel=1e-5)


@torch.no_grad()
def test_the_loss_depends_on_the_passages_and_on_their_order():
    reader = models.reader("falcon_alibi")
    first = reader.encode(models.QUESTIONS, models.PASSAGES, models.ANSWERS)
    second = reader.encode(models.QUESTIONS, [found[::-1] for found in models.PASSAGES], models.ANSWERS)
    assert (reader(first).answer_loss - reader(second).answer_loss).abs().min() > 1e-4


# ------------------------------------------------------------------ generation


def by_argmax(reader, ids: torch.Tensor, steps: int) -> list[int]:
    """Token after token, the whole sequence read anew each time: no cache, no padding, no generate()."""
    found: list[int] = []
    while len(found) < steps:
        token = int(reader.model(input_ids=ids, use_cache=False).logits[0, -1].argmax())
        found.append(token)
        if token == reader.end_id:
            break
        ids = torch.cat([ids, torch.tensor([[token]])], 1)
    return found


@pytest.mark.parametrize(("kind", "settings"), SETTINGS)
@torch.no_grad()
def test_generation_is_greedy(kind, settings):
    reader = models.reader(kind, **{**settings, "answer": 12})
    encoded = reader.encode(models.QUESTIONS, models.PASSAGES)
    found = [by_argmax(reader, single(reader, encoded, number), 12) for number in range(2)]
    assert reader.generate(encoded) == [
        reader.tokenizer.decode(ids, skip_special_tokens=True).strip().split("\n")[0].strip() for ids in found
    ]


@torch.no_grad()
def test_generation_stops_at_the_end_while_others_go_on():
    reader = models.reader("llama_grouped", answer=6)
    encoded = reader.encode(models.QUESTIONS, models.PASSAGES)
    rows = [by_argmax(reader, single(reader, encoded, number), 6) for number in range(2)]
    stop = next(token for token in rows[0][1:] if token not in rows[1])
    tokenizer = copy.deepcopy(reader.tokenizer)
    tokenizer.add_special_tokens({"eos_token": tokenizer.convert_ids_to_tokens(stop)})
    again = DecoderOnlyReader(reader.model, tokenizer, passage_max_tokens=40, answer_max_tokens=6)
    assert again.end_id == stop
    first, second = again.generate(encoded)
    assert first.split() == words(reader, rows[0][: rows[0].index(stop)])
    assert second.split() == words(reader, rows[1])


@pytest.mark.parametrize(
    ("made", "answer"),
    [("acorn autumn \n bay", "acorn autumn"), ("\n acorn \n bay", "acorn"), ("acorn </s> bay", "acorn"), ("</s>", "")],
)
def test_answers_are_cut_at_their_end_and_the_first_newline(made, answer, monkeypatch):
    reader = models.reader("falcon_alibi")
    encoded = reader.encode(["who"], [[("", "ada")]])
    tail = reader.tokenizer.convert_tokens_to_ids(made.split(" "))
    if reader.end_id in tail:  # as generate() leaves it: nothing but padding after the end
        place = tail.index(reader.end_id)
        tail[place + 1 :] = [reader.end_id] * (len(tail) - place - 1)
    generated = torch.cat([encoded.ids, torch.tensor([tail])], 1)
    monkeypatch.setattr(reader.model, "generate", lambda **_: generated)
    assert reader.generate(encoded) == [answer]
