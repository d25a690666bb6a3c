"""What a reader is shown: order, forced-in gold, closed book, and the answer that it learns."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attention_distillation import records
from attention_distillation.data.passages import Passages, write_passages
from attention_distillation.files import InputError
from attention_distillation.records import Passage, Question
from attention_distillation.settings import Distillation
from attention_distillation.training.context import (
    Material,
    context_rows,
    gold_passages,
    in_prompt_order,
    open_material,
    read_gold,
    rng_of,
    target_answer,
    with_gold,
)

PASSAGES = [
    Passage("a", "One", "the capital is Paris ."),
    Passage("b", "Two", "nothing to see here"),
    Passage("c", "", "PARIS, again"),
    Passage("d", "Paris", "its title says it and its text does not"),
    Passage("e", "Five", "New York City"),
    Passage("f", "Six", "York is older than new York"),
]
QUESTIONS = [
    Question("q0", "capital ?", ["Lutetia", "paris"]),
    Question("q1", "city ?", ["New York"]),
    Question("q2", "unknown ?", ["Atlantis"]),
]
FOUND = np.array([[1, 3, 5], [1, 0, 5], [0, 1, 2]])
GOLD = np.array([0, 4, -1])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "passages.arrow"
    write_passages(path, PASSAGES)
    return Passages(path)


@pytest.fixture(scope="module")
def material(corpus):
    return Material(corpus, {"test": QUESTIONS})


def shown(material, rows=FOUND, gold=GOLD, seed=0, **choices) -> np.ndarray:
    return context_rows(rows, QUESTIONS, material, Distillation(**choices), rng_of(seed), gold)


# ------------------------------------------------------------------ order


def test_ranked_and_reversed(material):
    before = FOUND.copy()
    assert (shown(material) == FOUND).all()
    assert (shown(material, passage_order="reversed") == [[5, 3, 1], [5, 0, 1], [2, 1, 0]]).all()
    assert FOUND.tolist() == before.tolist()


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(0, 8))
def test_shuffling_keeps_each_question_s_passages(seed, k, count):
    rows = np.arange(count * k).reshape(count, k)
    mixed = in_prompt_order(rows, "shuffled", rng_of(seed))
    assert (np.sort(mixed, axis=1) == rows).all()
    assert (mixed == in_prompt_order(rows, "shuffled", rng_of(seed))).all()


def test_every_order_comes_up_and_questions_are_shuffled_apart():
    mixed = in_prompt_order(np.tile(np.arange(3), (3000, 1)), "shuffled", rng_of(1))
    counts = Counter(map(tuple, mixed.tolist()))
    assert len(counts) == 6 and min(counts.values()) > 400


# ------------------------------------------------------------------ gold and none


def test_gold_is_forced_in_only_where_nothing_found_holds_an_answer(material):
    forced = shown(material, context="gold")
    # q0: a title alone is no hit, so the worst passage makes way; q1: 'new York' is the answer; q2: the corpus has none
    assert forced.tolist() == [[1, 3, 0], [1, 0, 5], [0, 1, 2]]
    assert FOUND[0].tolist() == [1, 3, 5]


def test_gold_is_forced_in_before_the_order_is_made(material):
    assert shown(material, context="gold", passage_order="reversed")[0].tolist() == [0, 3, 1]


def test_a_found_answer_keeps_what_was_found(material):
    rows = np.array([[2, 1, 5], [4, 1, 3], [0, 1, 2]])
    assert (with_gold(rows, QUESTIONS, material, GOLD) == rows).all()


def test_closed_book_shows_nothing(material):
    none = shown(material, context="none")
    assert none.shape == (3, 0) and material.texts(none) == [[], [], []]


def test_gold_passages_are_the_first_whose_text_holds_an_answer():
    gold = gold_passages((passage.text for passage in PASSAGES), QUESTIONS)
    assert gold.tolist() == [0, 4, -1] and gold.dtype == np.int64


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.lists(st.sampled_from(["a", "b", "c", "东", "东京"]), min_size=1, max_size=3), min_size=1, max_size=5)
)
def test_gold_passages_against_trying_each(answers):
    from attention_distillation.metrics import has_answer

    texts = ["c b", "a b c a", "b a 东京市", "", "a a a", "东京市 b", "c a b", "东 京", "东京 东 a"]
    asked = [Question(str(n), "?", [" ".join(words)]) for n, words in enumerate(answers)]
    wanted = [next((row for row, text in enumerate(texts) if has_answer(text, q.answers)), -1) for q in asked]
    assert gold_passages(texts, asked).tolist() == wanted


def test_gold_is_read_where_there_is_some(tmp_path):
    np.save(tmp_path / "gold.npy", GOLD)
    assert read_gold(None) is None and read_gold([]) is None
    assert (read_gold([tmp_path / "gold.npy"]) == GOLD).all()


# ------------------------------------------------------------------ texts


def test_texts_are_titles_and_texts_in_place(material):
    texts = material.texts(np.array([[5, 0], [0, 0]]))
    assert texts == [[("Six", PASSAGES[5].text), ("One", PASSAGES[0].text)], [("One", PASSAGES[0].text)] * 2]


def test_material_refuses_what_the_corpus_does_not_have(tmp_path):
    write_passages(tmp_path / "p.arrow", PASSAGES)
    records.write_questions(tmp_path / "q.jsonl", QUESTIONS)
    records.write_retrieved(tmp_path / "r.parquet", FOUND, FOUND, {})
    opened = open_material(tmp_path / "p.arrow", {"test": tmp_path / "q.jsonl"}, {"test": tmp_path / "r.parquet"})
    assert (opened.retrieved["test"] == FOUND).all() and opened.questions["test"] == QUESTIONS
    records.write_retrieved(tmp_path / "r.parquet", FOUND + 1, FOUND, {})
    with pytest.raises(InputError, match="passage 6 is not in the corpus of 6"):
        open_material(tmp_path / "p.arrow", {}, {"test": tmp_path / "r.parquet"})


# ------------------------------------------------------------------ the answer learnt


def test_the_dataset_s_target_comes_first():
    assert target_answer(Question("a", "?", ["one", "two"], "Uno"), 5) == "Uno"


def test_an_answer_is_drawn_by_seed_and_question_alone():
    asked = [Question(f"nq-train-{n}", "?", ["one", "two", "three"]) for n in range(600)]
    drawn = [target_answer(question, 0) for question in asked]
    assert drawn == [target_answer(question, 0) for question in asked]
    assert drawn[::-1] == [target_answer(question, 0) for question in reversed(asked)]  # no state between calls
    assert drawn != [target_answer(question, 1) for question in asked]
    assert min(Counter(drawn).values()) > 150  # of 200 expected


@given(st.text(max_size=20), st.integers(0, 2**31))
def test_any_id_will_do(identifier, seed):
    assert target_answer(Question(identifier, "?", ["a", "b"]), seed) in ("a", "b")


def test_generators_of_other_keys_are_others():
    keys = [(0, 1), (0, 2), (1, 1), (1, 2), (2, 1), (0, 1, 1), (0, 1, 2), (0, 2, 1), (0, 2, 1, 1)]
    assert len({tuple(rng_of(*key).integers(0, 2**30, 3)) for key in keys}) == len(keys)
    assert (rng_of(3, 4).random(5) == rng_of(3, 4).random(5)).all()
