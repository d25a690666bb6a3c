"""The generated worlds: names shared, facts asked for in other words, nothing of the test in what is pretrained on."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from attention_distillation import metrics
from attention_distillation.data import miniature
from attention_distillation.data.miniature import PARTS_OF_SPEECH
from attention_distillation.files import InputError
from attention_distillation.records import SPLITS
from attention_distillation.settings import World, load

VARIANTS = ("nq", "triviaqa")
WORLDS = {name: corpus.world for name, corpus in load({"scale": "miniature"}).scale.corpora.items()}
CONTENT = {"NOUN", "PROPN", "VERB", "ADJ", "NUM"}
FUNCTION = {"was", "did", "known", "called", "named"}
"""Words with a label of content that tell nothing of a relation: auxiliaries and 'known as'."""


@pytest.fixture(scope="module", params=VARIANTS)
def world(request):
    return WORLDS[request.param]


@pytest.fixture(scope="module")
def told(world):
    return miniature.facts(world)


# ------------------------------------------------------------------ the evaluation worlds


def test_a_passage_a_fact_and_the_relations_of_every_entity(world, told):
    passages = list(miniature.passages(world))
    relations = miniature.RELATIONS[world.variant]
    assert len(told) == world.people * len(relations) == len(passages)
    assert sorted((p.title, p.text) for p in passages) == sorted((fact.title, fact.text) for fact in told)
    assert [p.id for p in passages] == [str(row) for row in range(len(passages))]
    assert set(Counter(fact.title for fact in told).values()) == {len(relations)}
    assert [p.title for p in passages[:20]] != sorted(p.title for p in passages[:20])


def test_both_parts_of_a_name_are_shared(told):
    """A name alone finds neither the entity nor the passage: each part belongs to several entities."""
    names = {tuple(fact.title.split()[-2:]) for fact in told}
    for part in (0, 1):
        counts = Counter(name[part] for name in names)
        shared = sum(count for count in counts.values() if count > 1) / len(names)
        assert shared > 0.85, shared


def test_answers_are_three_different_words_and_all_different(told):
    assert all(len(set(fact.value.split())) == 3 for fact in told)
    assert len({fact.value for fact in told}) == len(told)
    used = Counter(word for fact in told for word in fact.value.split())
    assert min(used.values()) > 5 and set(used) == set(miniature.VALUE_WORDS)  # parts of an answer are everywhere


def test_a_passage_says_its_statement_and_value_once(told):
    for fact in told:
        sentence = f"{fact.statement} {fact.value} ."
        assert fact.text.count(sentence) == 1 and fact.text.count(fact.value) == 1
        assert not metrics.has_answer(fact.question, [fact.value]) and fact.paraphrase not in fact.text


def test_one_passage_holds_an_answer(world):
    texts = [passage.text for passage in miniature.passages(world)]
    for question in miniature.questions(world)["test"][:40]:
        assert sum(metrics.has_answer(text, question.answers[:1]) for text in texts) == 1


def test_a_question_shares_no_content_word_with_its_fact_but_the_name(told):
    for fact in told:
        asked = set(fact.question.split()) - set(fact.title.split()) - FUNCTION
        shared = {word for word in asked & set(fact.statement.split()) if PARTS_OF_SPEECH[word] in CONTENT}
        assert not shared, (fact.question, shared)


def test_asides_tell_no_passage_from_another(told):
    """Where a question does share a word with an aside, it is one that all relations' passages may hold."""
    by_relation: dict[str, set[str]] = {}
    for fact in told:
        relation = fact.statement.replace(fact.title, "NAME")
        by_relation.setdefault(relation, set()).update(
            fact.text.replace(f"{fact.statement} {fact.value} .", "").split()
        )
    assert len(by_relation) == 6
    first, *others = by_relation.values()
    assert all(words == first for words in others)


def test_every_word_is_known_and_has_one_part_of_speech(told):
    known = set(miniature.words())
    for fact in told:
        assert set(f"{fact.title} {fact.text} {fact.question}".split()) <= known
    pools = [miniature.FIRST_NAMES, miniature.LAST_NAMES, miniature.VALUE_WORDS, miniature.ADJECTIVES, miniature.NOUNS]
    pools += [words.split() for words in miniature._DATA["parts_of_speech"].values()]
    counted = Counter(word for pool in pools for word in pool)
    assert [word for word, count in counted.items() if count > 1] == []


# ------------------------------------------------------------------ questions and splits


def test_no_fact_is_asked_for_in_two_splits(world, told):
    splits = miniature.questions(world)
    assert {split: len(asked) for split, asked in splits.items()} == {s: getattr(world, s) for s in SPLITS}
    asked = [question for split in SPLITS for question in splits[split]]
    assert len({question.target for question in asked}) == len(asked) == len({q.question for q in asked})
    assert len({question.id for question in asked}) == len(asked)
    assert {(q.question, q.target) for q in asked} <= {(fact.question, fact.value) for fact in told}


def test_targets_and_aliases(world):
    for question in miniature.questions(world)["train"]:
        assert question.answers[0] == question.target
        aliases = [] if world.variant == "nq" else [question.target.split(" ", 1)[1]]
        assert question.answers[1:] == aliases


def test_a_world_is_its_seed_s(world):
    again = World(**world.model_dump())
    assert list(miniature.passages(again)) == list(miniature.passages(world))
    assert miniature.questions(again) == miniature.questions(world)
    other = world.model_copy(update={"seed": world.seed + 1})
    facts, others = (set(f.text for f in miniature.facts(each)) for each in (world, other))
    assert len(facts & others) == 0


def test_the_worlds_of_the_two_datasets_differ():
    one, two = (miniature.facts(WORLDS[name]) for name in VARIANTS)
    assert not {fact.title for fact in one} & {fact.title for fact in two}
    assert not {fact.question for fact in one} & {fact.question for fact in two}


@pytest.mark.parametrize(
    ("change", "said"),
    [({"train": 9000}, "9600 questions of 1320 facts; lower train"), ({"people": 9000}, "world.people: 9000")],
)
def test_a_world_that_cannot_be(change, said):
    with pytest.raises(InputError, match=said):
        miniature.questions(WORLDS["nq"].model_copy(update=change))


@pytest.mark.parametrize(("scale", "tokens", "near"), [("miniature", 41, 3), ("miniature_long", 141, 8)])
def test_every_passage_has_tokens_enough_for_a_rank_correlation(scale, tokens, near):
    """The nearest 5 % of 41 tokens, those at or above the 95th percentile, are three at least, of 141 eight."""
    from transformers import AutoTokenizer

    assert (np.arange(tokens) >= np.percentile(np.arange(tokens), 95)).sum() == near
    folder = Path(__file__).parents[2] / "workflow" / "pretrained" / "miniature" / "reader"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    template = len(tokenizer("question: title: context: \n")["input_ids"])
    chosen = load({"scale": scale}).scale
    for corpus in chosen.corpora.values():
        for fact in miniature.facts(corpus.world):
            own = len(tokenizer(f"{fact.title} {fact.text}")["input_ids"])
            assert own >= tokens, fact.text
            asked = len(tokenizer(fact.question)["input_ids"])
            assert own + template + asked <= chosen.prompt.passage_max_tokens  # nothing of it is cut
            assert own + 2 <= chosen.retrieval.passage_max_tokens  # between [CLS] and [SEP]


def test_the_scale_of_long_passages_has_the_miniature_s_questions_and_decoder_only_readers():
    long, short = load({"scale": "miniature_long"}), load({"scale": "miniature"})
    assert long.experiments == ["checkpoint", "off_the_shelf", "step1", "step2"]
    for name, corpus in long.scale.corpora.items():
        asked = miniature.questions(corpus.world)["test"]
        assert asked == miniature.questions(short.scale.corpora[name].world)["test"]


# ------------------------------------------------------------------ longer passages


@pytest.mark.parametrize("variant", VARIANTS)
def test_longer_passages_tell_of_entities_that_nobody_asks_about(variant):
    world = World(variant=variant, people=30, train=80, dev=20, test=30, asides=3, other_facts=4)
    told = miniature.facts(world)
    names, values = {fact.title for fact in told}, {fact.value for fact in told}
    frames = [relation.text.format(n="\0", v="\1") for relation in miniature.RELATIONS[variant]]
    others = []
    for fact in told:
        sentences = [f"{sentence} ." for sentence in fact.text.removesuffix(" .").split(" . ")]
        assert len(sentences) == 1 + 3 + 4 and sentences.count(f"{fact.statement} {fact.value} .") == 1
        facts = [sentence for sentence in sentences if sentence not in miniature.ASIDES[variant]]
        others += [sentence for sentence in facts if fact.title not in sentence]
    assert len(others) == len(set(others)) == 4 * len(told)
    for sentence in others:
        (name, value) = next(
            (sentence.removeprefix(head).split(middle)[0], sentence.split(middle)[1].removesuffix(end))
            for head, middle, end in (re.split("[\0\1]", frame) for frame in frames)
            if sentence.startswith(head) and middle in sentence
        )
        assert name not in names and value not in values and len(value.split()) == 3
        assert set(sentence.split()) <= set(miniature.words())
    assert [question.question for question in miniature.questions(world)["test"]]


def test_asides_and_other_facts_that_cannot_be():
    with pytest.raises(InputError, match="world.asides: 9 in world nq, which has 6"):
        miniature.facts(WORLDS["nq"].model_copy(update={"asides": 9}))
    every = len(miniature.FIRST_NAMES) * len(miniature.LAST_NAMES)
    with pytest.raises(InputError, match="world.other_facts: every name"):
        miniature.facts(WORLDS["nq"].model_copy(update={"people": every, "other_facts": 1}))


# ------------------------------------------------------------------ what is pretrained on


def test_fresh_facts_are_no_evaluation_world_s():
    tested = {(fact.title, fact.value) for world in WORLDS.values() for fact in miniature.facts(world)}
    values = {value for _, value in tested}
    rng = np.random.default_rng(0)
    drawn = [(fact.title, fact.value) for _ in range(1500) for fact in miniature.fresh_facts(rng, 5)]
    assert sum(pair in tested for pair in drawn) == 0
    assert np.mean([value in values for _, value in drawn]) < 0.005  # of 4,410,000 values, 2,640 are tested


@pytest.mark.parametrize("count", [1, 2, 5])
def test_fresh_facts_are_of_one_world_whose_entities_share_names(count):
    rng = np.random.default_rng(1)
    entities = []
    for _ in range(50):
        told = miniature.fresh_facts(rng, count)
        assert len(told) == count == len({fact.value for fact in told}) == len({fact.question for fact in told})
        assert len({fact.title.startswith("the ") for fact in told}) == 1
        entities.append(len({fact.title for fact in told}))
    assert max(entities) <= 3 and (count == 1 or max(entities) > 1)


def test_facts_without_asides_are_short():
    rng = np.random.default_rng(2)
    assert all(len(fact.text.split()) < 20 for fact in miniature.fresh_facts(rng, 5, asides=0))


def test_an_article_is_about_one_entity():
    rng = np.random.default_rng(3)
    for _ in range(20):
        text = miniature.fresh_article(rng)
        assert set(text.split()) <= set(miniature.words()) and len(text.split()) > 30
    assert miniature.fresh_article(np.random.default_rng(4)) == miniature.fresh_article(np.random.default_rng(4))


def test_a_tagger_trained_on_few_sentences_finds_the_nouns(tmp_path):
    from attention_distillation.analysis import token_analysis

    assert miniature.train_tagger(str(tmp_path / "tagger"), sentences=120) > 0.98
    asked = ["where did ada berg come into this world", "what was the spouse of olga kern known as"]
    spans = token_analysis.nouns(asked, "world", str(tmp_path / "tagger"))
    found = [[text[start:stop] for start, stop in marked] for text, marked in zip(asked, spans, strict=True)]
    assert found == [["ada", "berg", "world"], ["spouse", "olga", "kern"]]
