"""What is worth a warning is counted, and what is not brings none."""

from __future__ import annotations

import pytest

from attention_distillation.data import checks
from attention_distillation.records import Passage, Question

SOUND = {
    "train": [Question("a", "who is it", ["Ada"], "Ada")],
    "dev": [Question("b", "where is it", ["the Bay"])],
    "test": [Question("c", "when is it", ["1905"])],
}


def test_sound_data_brings_no_warning():
    assert checks.question_warnings(checks.question_facts(SOUND)) == []
    lengths = checks.Lengths()
    list(lengths.of([Passage("1", "", "five words are not much")]))
    assert checks.length_warnings(checks.over_limits(lengths.facts(), {"limit": 5})) == []


@pytest.mark.parametrize(
    ("question", "key", "said"),
    [
        (Question("d", " Who  IS it", ["x"]), "trained_on", "1 of 2 test questions are trained on too"),
        (Question("d", "?", ["The", "!?"]), "no_answer_with_words", "1 of 4 questions have an answer of articles and"),
        (Question("d", "?", ["x"], "y"), "target_is_no_answer", "1 of 4 questions train on a target"),
        (Question("d", "?", ["东京"]), "without_spaces", "1 of 4 questions have an answer in a script without spaces"),
        (Question("d", "?", ["Ada", "\u200b"]), "answers_without_words", "1 of 4 .* 0 have no other"),
    ],
)
def test_each_kind_is_counted(question, key, said):
    facts = checks.question_facts({**SOUND, "test": [*SOUND["test"], question]})
    counted = facts[key]["test"] if isinstance(facts[key], dict) else facts[key]
    assert counted == 1 and facts["questions"] == {"train": 1, "dev": 1, "test": 2}
    [line] = checks.question_warnings(facts)
    import re

    assert re.search(said, line) and "\n" not in line


@pytest.mark.parametrize(
    ("answer", "nothing"),
    [("The", True), ("a an", True), ("!", True), ("t.h.e", True), ("。", False), ("aan", False), ("the x", False),
     ("I", False), ("1", False), ("东", False), ("🙂", False), ("A.", True)],
)  # fmt: skip
def test_an_answer_of_which_nothing_is_left(answer, nothing):
    facts = checks.question_facts({**SOUND, "test": [Question("d", "?", [answer])]})
    assert facts["no_answer_with_words"] == int(nothing)


def test_passages_with_more_words_than_a_limit():
    lengths = checks.Lengths()
    texts = ["word " * 10, "word " * 4, "word " * 30, "wort"]
    assert [p.id for p in lengths.of(Passage(str(n), "", text) for n, text in enumerate(texts))] == ["0", "1", "2", "3"]
    assert lengths.facts() == {"1": 1, "4": 1, "10": 1, "30": 1}
    facts = checks.over_limits(lengths.facts(), {"prompt.passage_max_tokens": 8, "retrieval.passage_max_tokens": 40})
    assert facts["prompt.passage_max_tokens"] == {"limit": 8, "passages": 4, "cut": 2, "read": 0.4}
    [line] = checks.length_warnings(facts)
    assert line.startswith("2 of 4 passages have more words than prompt.passage_max_tokens (8 tokens): at most 40 %")
