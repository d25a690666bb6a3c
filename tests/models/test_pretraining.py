"""Small models of the true classes: they learn, they load, and what is committed says where it came from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from attention_distillation import provenance
from attention_distillation.data import miniature
from attention_distillation.data.passages import Passages, write_passages
from attention_distillation.metrics import exact_match_and_f1
from attention_distillation.models import pretraining
from attention_distillation.models.pretraining import CorpusFacts, WorldFacts, make_tokenizer, pretrain
from attention_distillation.models.readers import DecoderOnlyReader, FusionInDecoderReader
from attention_distillation.models.retriever import Retriever
from attention_distillation.records import Passage
from attention_distillation.settings import MODEL_KINDS, Pretraining, load

COMMITTED = Path(__file__).parents[2] / "workflow" / "pretrained" / "miniature"
STEPS = 24
SHAPE = Pretraining(
    hidden_size=32, layers=1, heads=2, vocabulary=400, seed=3,
    steps=dict.fromkeys(MODEL_KINDS, STEPS), batch_size=dict.fromkeys(MODEL_KINDS, 8),
    learning_rate=dict.fromkeys(MODEL_KINDS, 5e-3),
)  # fmt: skip
TEXTS = [
    ("Zürich", "Zürich is the largest city of Switzerland , and lies where the Limmat leaves the lake . " * 2),
    ("", "Two words"),
    ("Tokyo", "東京 is the capital of Japan , and more people live there than in any other city of the world ."),
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "passages.arrow"
    write_passages(path, [Passage(str(n), *pair) for n, pair in enumerate(TEXTS)])
    return Passages(path)


def texts_of(corpus):
    return (f"{row['title']} {row['text']}" for row in corpus)


def load_kind(kind: str, folder: Path):
    """The transformer that a directory holds, and its tokenizer."""
    if kind == "retriever":
        passage = Retriever.load(folder).passage
        return passage.model[0].model, passage.tokenizer
    made = DecoderOnlyReader if kind == "reader" else FusionInDecoderReader
    reader = made.load(folder, passage_max_tokens=96, answer_max_tokens=8)
    return reader.model, reader.tokenizer


# ------------------------------------------------------------------ training


@pytest.mark.parametrize("kind", MODEL_KINDS)
def test_a_few_steps_lower_the_loss_and_are_the_seed_s(tmp_path, kind):
    torch.set_num_threads(1)
    log = pretrain(kind, WorldFacts(), None, SHAPE, tmp_path / "a")
    assert [row["step"] for row in log] == list(range(1, STEPS + 1))
    losses = [row["loss"] for row in log]
    later = losses[-6:] if kind == "retriever" else losses[3:6]  # before the curriculum's sequences grow
    assert np.mean(later) < losses[0]
    assert pretrain(kind, WorldFacts(), None, SHAPE, tmp_path / "b") == log
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in "ab"]
    assert weights[0] == weights[1]
    model, _ = load_kind(kind, tmp_path / "a")
    assert type(model).__name__ == {
        "reader": "FalconForCausalLM", "encoder_decoder": "T5ForConditionalGeneration", "retriever": "BertModel"
    }[kind]  # fmt: skip


@pytest.mark.parametrize("kind", MODEL_KINDS)
def test_a_user_s_corpus_is_enough(tmp_path, corpus, kind):
    shape = SHAPE.model_copy(
        update={"steps": dict.fromkeys(MODEL_KINDS, 4), "batch_size": dict.fromkeys(MODEL_KINDS, 3)}
    )
    log = pretrain(kind, CorpusFacts(corpus), texts_of(corpus), shape, tmp_path)
    assert np.isfinite([row["loss"] for row in log]).all()
    model, tokenizer = load_kind(kind, tmp_path)
    assert len(tokenizer) <= 400 == shape.vocabulary
    assert model.config.vocab_size == len(tokenizer)


def test_only_restated_values_weigh_fully():
    tokenizer = make_tokenizer("reader", None, 0)
    told = miniature.fresh_facts(np.random.default_rng(0), 3, asides=0)
    ids, weight = pretraining._statements(tokenizer, told, np.random.default_rng(1))
    assert len(ids) == len(weight) and weight.count(1.0) == 9  # three values of three words
    heavy = tokenizer.convert_ids_to_tokens([token for token, w in zip(ids, weight, strict=True) if w == 1.0])
    assert sorted(heavy) == sorted(word for fact in told for word in fact.value.split())


def untrained(tokenizer):
    return pretraining.make_model(
        "reader", len(tokenizer), SHAPE, tokenizer.pad_token_id, tokenizer.eos_token_id
    ).eval()


@pytest.mark.parametrize("headed", (0.0, 1.0))
def test_padding_changes_no_loss(monkeypatch, headed):
    """A batch of unequal lengths has the weighted mean of its sequences' losses."""
    monkeypatch.setattr(pretraining, "HEADED", headed)
    tokenizer, rng = make_tokenizer("reader", None, 0), np.random.default_rng(0)
    model, weights = untrained(tokenizer), []
    # one fact a sequence, with one way to tell it: no draw changes what is read
    batch = [[replace(fact, paraphrase=fact.statement) for fact in miniature.fresh_facts(rng, 1, n)] for n in (0, 2)]
    weighted = pretraining._weighted

    def keep(logits, ids, weight):
        weights.append(weight.sum().item())
        return weighted(logits, ids, weight)

    monkeypatch.setattr(pretraining, "_weighted", keep)
    both, first, second = (
        pretraining.reader_loss(model, tokenizer, part, rng).item() for part in (batch, batch[:1], batch[1:])
    )
    assert weights[0] == pytest.approx(weights[1] + weights[2]) and weights[1] < weights[2]
    assert both == pytest.approx((weights[1] * first + weights[2] * second) / weights[0], rel=1e-5)


def test_a_headed_sequence_asks_over_every_passage_and_ends_with_the_value(monkeypatch):
    monkeypatch.setattr(pretraining, "HEADED", 1.0)
    tokenizer, seen = make_tokenizer("reader", None, 0), []
    told = miniature.fresh_facts(np.random.default_rng(0), 3, asides=0)
    monkeypatch.setattr(pretraining, "_weighted", lambda _logits, ids, weight: seen.append((ids, weight)))
    pretraining.reader_loss(untrained(tokenizer), tokenizer, [told], np.random.default_rng(1))
    (ids, weight), text = seen[0], tokenizer.decode(seen[0][0][0])
    (asked,) = [fact for fact in told if text.count(fact.paraphrase) >= len(told) - 1]  # the first token is no target
    heavy = tokenizer.convert_ids_to_tokens(ids[weight == 1.0].tolist())
    assert heavy == asked.value.split() and text.endswith(f"{asked.value} . \n")


def test_t5_is_shown_passages_apart_and_tells_of_all(monkeypatch):
    """A batch of unequal lengths: each passage is a row of its own, each question's passages lie end to end."""
    tokenizer = make_tokenizer("encoder_decoder", None, 0)
    model = pretraining.make_model("encoder_decoder", len(tokenizer), SHAPE, tokenizer.pad_token_id, 2).eval()
    batch = [miniature.fresh_facts(np.random.default_rng(n), 3, asides=n) for n in (0, 2)]
    seen = []

    def keep(module, _arguments, given):
        seen.append(given)

    model.encoder.register_forward_pre_hook(keep, with_kwargs=True)
    model.register_forward_pre_hook(keep, with_kwargs=True)
    for headed in (0.0, 1.0):
        monkeypatch.setattr(pretraining, "HEADED", headed)
        seen.clear()
        pretraining.encoder_decoder_loss(model, tokenizer, batch, np.random.default_rng(1))
        encoder, whole = seen
        rows = tokenizer.batch_decode(encoder["input_ids"], skip_special_tokens=True)
        assert len(rows) == 6 and whole["attention_mask"].shape[0] == 2
        for row, fact in zip(rows, [fact for told in batch for fact in told], strict=True):
            assert row.strip().endswith(fact.text) and row.startswith("title") != bool(headed)
        for told, labels in zip(batch, whole["labels"], strict=True):
            ids = labels[labels != -100].tolist()
            text = tokenizer.decode(ids, skip_special_tokens=True)
            assert ids[-1] == tokenizer.eos_token_id
            values = [fact.value for fact in told if fact.value in text]
            assert len(values) == (1 if headed else 3) and (not headed or text.strip() == f"{values[0]} .")


# ------------------------------------------------------------------ a user's corpus


def test_spans_of_a_corpus_are_its_own_words(corpus):
    source, rng = CorpusFacts(corpus), np.random.default_rng(0)
    texts = [" ".join(text.split()) for _, text in TEXTS]
    for full in (False, True):
        for fact in (fact for _ in range(60) for fact in source.facts(rng, 3, full)):
            assert any(fact.text in text for text in texts)
            assert len(fact.text.split()) <= (60 if full else 20)
            assert f"{fact.statement} {fact.value}".strip() in fact.text and len(fact.value.split()) <= 4
    assert any(source.article(rng).startswith("Tokyo") for _ in range(20))


def encoder():
    """The untrained encoder of passages, and its transformer."""
    tokenizer = make_tokenizer("retriever", None, 0)
    model = pretraining.make_model("retriever", len(tokenizer), SHAPE, tokenizer.pad_token_id, tokenizer.eos_token_id)
    passage = Retriever.of(model, tokenizer).passage
    return passage, passage.model[0].model


def test_two_crops_of_a_text_are_nearer_than_crops_of_two(tmp_path):
    """What the loss sees: a batch of as many pairs; with vectors all alike it is log of their number."""
    passage, model = encoder()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    articles = [miniature.fresh_article(np.random.default_rng(n)) for n in range(6)]
    loss = pretraining.retriever_loss(passage, articles, WorldFacts.crops, 1.0, np.random.default_rng(0))
    assert loss.item() == pytest.approx(np.log(6), abs=1e-5)


def test_the_folded_temperature_is_the_one_that_was_trained_at():
    """With θ folded into the weights, scores over √d are what they were over √d·θ."""
    passage, model = encoder()
    articles = [miniature.fresh_article(np.random.default_rng(n)) for n in range(6)]

    def loss(theta):
        rng = np.random.default_rng(0)
        return pretraining.retriever_loss(passage, articles, WorldFacts.crops, theta, rng).item()

    trained, untempered = loss(1 / 16), loss(1.0)
    pretraining.fold_temperature(model, 1 / 16)
    assert loss(1.0) == pytest.approx(trained, rel=1e-4) != pytest.approx(untempered, rel=1e-2)


def test_crops_of_the_shortest_text_are_not_empty():
    passage, _ = encoder()
    loss = pretraining.retriever_loss(passage, ["ada", "abel adler"], CorpusFacts.crops, 1.0, np.random.default_rng(0))
    assert torch.isfinite(loss)


# ------------------------------------------------------------------ tokenizers


@pytest.mark.parametrize("kind", MODEL_KINDS)
def test_a_byte_level_tokenizer_gives_any_text_back(tmp_path, corpus, kind):
    from transformers import AutoTokenizer

    make_tokenizer(kind, texts_of(corpus), 400).save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.is_fast and tokenizer.eos_token == "</s>" and tokenizer.pad_token == "<pad>"
    for text in ("where is Zürich ?", "naïve 🙂\ttab\nline", "東京 — Ελλάδα"):
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
        ends = {"reader": (None, None), "encoder_decoder": (None, "</s>"), "retriever": ("[CLS]", "[SEP]")}[kind]
        for place, name in ((0, ends[0]), (-1, ends[1])):
            assert name is None or tokenizer.convert_ids_to_tokens(ids)[place] == name
    assert len(tokenizer("a")["input_ids"]) == {"reader": 1, "encoder_decoder": 2, "retriever": 3}[kind]


def test_a_world_s_tokenizer_has_a_token_for_every_word():
    tokenizer = make_tokenizer("reader", None, 0)
    fact = miniature.fresh_facts(np.random.default_rng(0), 1)[0]
    text = f"question: {fact.question} title: {fact.title} context: {fact.text}\nanswer: {fact.value}"
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.convert_ids_to_tokens(ids) == text.replace(":", " :").replace("\n", " \n ").split(" ")


# ------------------------------------------------------------------ what is committed


@pytest.mark.parametrize("kind", MODEL_KINDS)
def test_the_committed_models_load_and_say_where_they_came_from(kind):
    folder = COMMITTED / kind
    files = {path.name for path in folder.iterdir()}
    assert not any(name.endswith((".bin", ".pt", ".pth", ".pkl", ".ckpt")) for name in files)
    assert sum(path.stat().st_size for path in folder.iterdir()) < 5e6
    model, tokenizer = load_kind(kind, folder)
    assert tokenizer.get_vocab() == make_tokenizer(kind, None, 0).get_vocab()  # of today's words
    told = json.loads((folder / "pretraining.json").read_text("utf-8"))
    shape = load({"scale": "miniature"}).scale.models.pretraining
    assert told["provenance"]["seed"] == shape.seed and told["provenance"]["kind"] == kind
    of_kind = {key: {kind: getattr(shape, key)[kind]} for key in ("steps", "batch_size", "learning_rate")}
    assert told["provenance"]["config_hash"] == provenance.digest(shape.model_dump() | of_kind)  # made by today's scale
    assert told["log"][-1]["step"] == shape.steps[kind] and told["log"][-1]["loss"] < told["log"][0]["loss"]
    assert model.config.hidden_size == shape.hidden_size


def test_the_committed_t5_reads_five_passages_and_is_left_something_to_learn():
    """Of 64 sets of facts never trained on: it completes a statement from the passages, a question it mostly cannot."""
    torch.set_num_threads(1)

    def exact(template: str, words: str, asides: int) -> float:
        rng = np.random.default_rng(2026)
        sets = [miniature.fresh_facts(rng, 5, asides) for _ in range(64)]
        topics = [told[rng.integers(5)] for told in sets]
        folder = COMMITTED / "encoder_decoder"
        reader = FusionInDecoderReader.load(folder, passage_max_tokens=96, answer_max_tokens=8, template=template)
        passages = [[(fact.title, fact.text) for fact in told] for told in sets]
        answers = reader.eval().generate(reader.encode([getattr(fact, words) for fact in topics], passages))
        pairs = zip(answers, topics, strict=True)
        return 100 * float(np.mean([exact_match_and_f1(answer, [fact.value])[0] for answer, fact in pairs]))

    completed = exact("{question} title: {title} context: {text}\n", "paraphrase", asides=0)
    answered = exact("question: {question} title: {title} context: {text}", "question", asides=2)
    assert completed > 60 and answered < 20, (completed, answered)
