"""Answers and dumps: every row is about the question it says, whatever the batches were."""

from __future__ import annotations

import models
import numpy as np
import pyarrow.parquet as pq
import pytest
import tiny
import torch

from attention_distillation import records
from attention_distillation.analysis import inference
from attention_distillation.models.readers.prompt import TEXT, TITLE
from attention_distillation.records import Question
from attention_distillation.settings import Analysis, Distillation
from attention_distillation.training.context import gold_passages, rng_of

ANALYSIS = Analysis(instances=5, nouns="content_words")
READERS = ("falcon_alibi", "t5")


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    torch.set_num_threads(1)
    return tiny.material(tmp_path_factory.mktemp("material"))


@pytest.fixture(scope="module", params=READERS)
def reader(request):
    return models.reader(request.param, passage=80, answer=6)


def dumped(reader, material, kind="attention", batch_size=3, seed=0, gold=None, analysis=ANALYSIS, **choices):
    return list(
        inference.dump(
            reader, material, Distillation(**choices), analysis, kind, batch_size=batch_size, seed=seed, gold=gold
        )
    )


# ------------------------------------------------------------------ answers


def test_a_row_for_every_question_in_its_order(reader, material):
    lines = inference.predict(reader, material, Distillation(), batch_size=3, seed=0)
    questions = material.questions["test"]
    assert [line["id"] for line in lines] == [question.id for question in questions]
    for row, (line, question) in enumerate(zip(lines, questions, strict=True)):
        assert list(line) == ["id", "question", "answers", "prediction", "em", "f1", "hit", "passages"]
        assert line["answers"] == question.answers and line["passages"] == material.retrieved["test"][row].tolist()
        texts = [material.corpus[place]["text"] for place in line["passages"]]
        assert line["hit"] == any(answer in text for text in texts for answer in question.answers)
        assert line["em"] in (0, 1) and 0 <= line["f1"] <= 1 and "\n" not in line["prediction"]


def test_batches_change_no_answer(reader, material):
    answers = [
        [line["prediction"] for line in inference.predict(reader, material, Distillation(), batch_size=size, seed=0)]
        for size in (1, 3, 100)
    ]
    assert answers[0] == answers[1] == answers[2] and any(answers[0])


def test_the_answer_is_scored_against_its_own_question(material, monkeypatch):
    """A reader that knows every answer scores 100 whatever order batches are read in."""
    reader = models.reader("falcon_alibi", passage=80, answer=6)
    known = {question.question: question.answers[0] for question in material.questions["test"]}
    monkeypatch.setattr(reader, "encode", lambda asked, _passages: asked)
    monkeypatch.setattr(reader, "generate", lambda asked: [known[question] for question in asked])
    lines = inference.predict(reader, material, Distillation(), batch_size=3, seed=0)
    found = inference.summary(lines)
    assert (found["em"], found["f1"], found["n"]) == (100.0, 100.0, 8)
    assert found["hr_at_5"] == np.mean([line["hit"] for line in lines])


def test_summary():
    lines = [{"em": 1, "f1": 1.0, "hit": 1}, {"em": 0, "f1": 0.5, "hit": 1}, {"em": 0, "f1": 0, "hit": 0}]
    assert inference.summary(lines) == {
        "em": pytest.approx(100 / 3),
        "f1": 50.0,
        "hr_at_5": pytest.approx(2 / 3),
        "n": 3,
    }


def test_order_context_and_gold_reach_the_prompt(material, monkeypatch):
    reader = models.reader("falcon_alibi", passage=80, answer=6)
    shown = []
    encode = reader.encode
    monkeypatch.setattr(
        reader, "encode", lambda asked, found, *rest: shown.extend(found) or encode(asked, found, *rest)
    )

    def texts(gold=None, **choices):
        shown.clear()
        lines = inference.predict(reader, material, Distillation(**choices), batch_size=100, seed=0, gold=gold)
        return list(shown), [line["hit"] for line in lines], [line["passages"] for line in lines]

    ranked, hits, passages = texts()
    turned, same, _ = texts(passage_order="reversed")
    assert [found[::-1] for found in turned] == ranked and same == hits
    none, _, kept = texts(context="none")
    assert none == [[]] * 8 and kept == passages  # HR is the retriever's, not the prompt's
    gold = gold_passages([row["text"] for row in material.corpus], material.questions["test"])
    forced, still, _ = texts(gold, context="gold")
    assert still == hits and forced != ranked


# ------------------------------------------------------------------ dumps


@pytest.mark.parametrize("kind", ["attention", "perplexity"])
def test_columns_are_the_schema_s(material, tmp_path, kind):
    reader = models.reader("t5", passage=80, answer=6)
    instances = dumped(reader, material, kind)
    records.write_dump(tmp_path / "attention.parquet", iter(instances), {"nouns": "content_words"})
    table = pq.read_table(tmp_path / "attention.parquet")
    assert table.schema.remove_metadata() == records.dump_schema()
    assert len(table) == sum(len(columns["token"]) for columns in instances)
    assert table["attention"].null_count == table["similarity_answer"].null_count == 0


def test_the_sample_is_the_seed_s_and_sorted(reader, material):
    found = [[int(columns["instance"][0]) for columns in dumped(reader, material, seed=seed)] for seed in (0, 0, 1)]
    assert found[0] == found[1] == sorted(rng_of(0, 6).permutation(8)[:5].tolist())
    assert found[0] != found[2] and len(set(found[2])) == 5
    every = dumped(reader, material, analysis=Analysis(instances=99, nouns="content_words"))
    assert [int(columns["instance"][0]) for columns in every] == list(range(8))


def test_tokens_are_the_passages_own_in_their_places(reader, material):
    for columns in dumped(reader, material):
        row = int(columns["instance"][0])
        for place in range(tiny.RETRIEVAL.k):
            own = columns["passage"] == place
            (number,) = set(columns["passage_row"][own].tolist())
            assert number == material.retrieved["test"][row, place]
            passage = material.corpus[number]
            for name in ("title", "text"):
                said = [text for text, kind in zip(columns["token_text"][own], columns["segment"][own], strict=True)
                        if kind == name]  # fmt: skip
                assert said == passage[name].split()
            assert columns["token"][own].tolist() == list(range(own.sum()))


def test_attention_is_the_reader_s_own(reader, material):
    """Against one forward a question: batches and padding move nothing into another token's row."""
    for columns in dumped(reader, material, batch_size=4):
        row = int(columns["instance"][0])
        question = material.questions["test"][row]
        encoded = reader.encode(
            [question.question], material.texts(material.retrieved["test"][[row]]), [question.answers[0]]
        )
        with torch.inference_mode():
            values = reader(encoded, record=True).token_attention[0]
        own = encoded.passage[0] >= 0
        assert np.allclose(columns["attention"], values[own].numpy(), rtol=1e-3, atol=1e-6)
        assert set(encoded.segment[0][own].tolist()) == {TITLE, TEXT} and (columns["attention"] > 0).all()
        weighed = values.sum().item()
        assert 0 < columns["attention"].sum() < weighed  # the question, the template and the answer take some too


def test_the_perplexity_distribution_sums_to_one_in_every_passage(material):
    reader = models.reader("t5", passage=80, answer=6)
    for way in ("occlusion", "gradient"):
        analysis = Analysis(instances=3, nouns="content_words", token_distribution=way)
        for columns in dumped(reader, material, "perplexity", analysis=analysis):
            sums = np.bincount(columns["passage"], weights=columns["attention"])
            assert sums == pytest.approx([1.0] * tiny.RETRIEVAL.k, abs=1e-5)
    assert not any(parameter.grad is not None for parameter in reader.parameters())


def test_the_answer_s_own_tokens_have_similarity_one(reader, material):
    found = 0
    for columns in dumped(reader, material, analysis=Analysis(instances=8, nouns="content_words")):
        question = material.questions["test"][int(columns["instance"][0])]
        own = np.isin(columns["token_text"].astype(str), question.answers[0].split())
        nearest = columns["similarity_answer"].max(axis=1)
        assert np.allclose(nearest[own], 1.0, atol=1e-6) and (nearest[~own] < 0.999).all()
        named = np.isin(columns["token_text"].astype(str), question.question.split()[-1:])
        nouns = [word for word in question.question.split() if word in columns["token_text"]]
        assert nouns or not named.any()
        found += own.sum()
    assert found > 0


def test_a_question_without_nouns_has_no_similarity_to_them(material):
    reader = models.reader("falcon_alibi", passage=80, answer=6)
    bare = type(material)(
        material.corpus, {"test": [Question("a", "where did who", ["acorn"]), material.questions["test"][0]]},
        {"test": material.retrieved["test"][:2]},
    )  # fmt: skip
    without, with_nouns = dumped(reader, bare, analysis=Analysis(instances=2, nouns="content_words"))
    assert without["similarity_question"].shape == (len(without["token"]), 0)
    assert without["similarity_answer"].shape[1] > 0 and with_nouns["similarity_question"].shape[1] > 0


def test_nouns_are_found_in_the_question_s_own_tokens():
    reader = models.reader("falcon_alibi", byte_level=True)
    question = "where did Zürich Ada go"
    spans = [(10, 16), (17, 20)]
    text = reader.tokenizer.decode(inference._noun_ids(reader, question, spans))
    assert text.split() == ["Zürich", "Ada"]
    assert inference._noun_ids(reader, question, []) == []


def test_similarity_has_a_column_for_each_of_the_answer_s_tokens(reader, material):
    table = reader.model.get_input_embeddings().weight.detach().double()
    for columns in dumped(reader, material):
        question = material.questions["test"][int(columns["instance"][0])]
        own = reader.tokenizer.convert_tokens_to_ids(columns["token_text"].tolist())
        targets = reader.words(question.target or question.answers[0])[0]
        expected = torch.nn.functional.cosine_similarity(table[own][:, None], table[targets][None], dim=-1)
        assert columns["similarity_answer"] == pytest.approx(expected.numpy(), abs=1e-5)


def test_closed_book_leaves_nothing_to_dump(material, tmp_path):
    reader = models.reader("falcon_alibi", passage=80, answer=6)
    instances = dumped(reader, material, context="none")
    records.write_dump(tmp_path / "attention.parquet", instances, {})
    assert len(pq.read_table(tmp_path / "attention.parquet")) == 0 and len(instances) == 5


def test_the_value_norm_is_the_setting_s(reader, material):
    weighed, bare = (
        np.concatenate([columns["attention"] for columns in dumped(reader, material, value_norm=norm)])
        for norm in (True, False)
    )
    assert not np.allclose(weighed, bare) and bare.max() <= 1


def test_places_start_anew_with_every_passage():
    assert inference._places(np.array([0, 0, 0, 2, 2, 1])).tolist() == [0, 1, 2, 0, 1, 0]
    assert inference._places(np.array([], dtype=int)).tolist() == []


def test_questions_are_read_in_the_order_of_their_length(material):
    order = inference.length_order(material, material.retrieved["test"])
    sizes = [
        sum(len(title) + len(text) for title, text in texts) + len(question.question)
        for texts, question in zip(material.texts(material.retrieved["test"]), material.questions["test"], strict=True)
    ]
    assert sorted(order.tolist()) == list(range(8)) and np.diff(np.array(sizes)[order]).min() >= 0
