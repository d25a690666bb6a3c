"""EM, F1 and HR@k against their published definitions, written out here again."""

from __future__ import annotations

import re
import string
import unicodedata

import pytest
import regex
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from attention_distillation.metrics import dpr_tokens, exact_match_and_f1, has_answer, hit, without_spaces

# ------------------------------------------------------------------ SQuAD 1.1, by its paper and script


def squad_words(text: str) -> list[str]:
    """Lower case, then no ASCII punctuation, then no whole-word articles, then split at white space."""
    kept = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", kept).split()


def squad_em(prediction: str, answer: str) -> int:
    return int(squad_words(prediction) == squad_words(answer))


def squad_f1(prediction: str, answer: str) -> float:
    """Overlap of the two bags of words; nothing in common, and so nothing at all, is 0."""
    predicted, wanted = squad_words(prediction), squad_words(answer)
    left, common = list(wanted), 0
    for word in predicted:
        if word in left:
            left.remove(word)
            common += 1
    if common == 0:
        return 0.0
    precision, recall = common / len(predicted), common / len(wanted)
    return 2 * precision * recall / (precision + recall)


def check(prediction: str, answers: list[str]) -> None:
    em, f1 = exact_match_and_f1(prediction, answers)
    assert em == max(squad_em(prediction, answer) for answer in answers)
    assert f1 == pytest.approx(max(squad_f1(prediction, answer) for answer in answers), abs=1e-6)
    assert isinstance(em, int) and isinstance(f1, float)


TYPED = [
    # prediction, answers, EM, F1: worked out by hand
    ("Paris", ["Paris"], 1, 1.0),
    ("the Eiffel Tower!", ["Eiffel  tower"], 1, 1.0),
    ("London", ["Paris"], 0, 0.0),
    ("", ["Paris"], 0, 0.0),
    ("in the city of Paris", ["Paris"], 0, 2 * (1 / 4) * 1 / (1 / 4 + 1)),
    ("New York City", ["York"], 0, 0.5),
    ("York York", ["York"], 0, 2 * 0.5 / 1.5),  # a word counts as often as both hold it
    ("U.S.A.", ["usa"], 1, 1.0),  # punctuation goes without leaving a space
    ("twenty-one", ["twenty one"], 0, 0.0),
    ("theatre", ["atre"], 0, 0.0),  # no article inside a word
    ("an-other a.b", ["another ab"], 1, 1.0),
    ("A", ["the"], 1, 0.0),  # nothing is left of either: EM 1, F1 0 by version 1.1
    ("", ["!?"], 1, 0.0),
    ("", ["The", "Paris"], 1, 0.0),
    ("the", ["Paris", "a the"], 1, 0.0),
    ("Zürich", ["ZÜRICH"], 1, 1.0),
    ("Zürich", ["Zurich"], 0, 0.0),
    ("Zürich", [unicodedata.normalize("NFD", "Zürich")], 0, 0.0),  # SQuAD does not normalise Unicode
    ("“Hamlet”", ["Hamlet"], 0, 0.0),  # only ASCII punctuation is dropped
    ("東京\u3000都", ["東京 都"], 1, 1.0),
    ("1,905", ["1905"], 1, 1.0),
    ("$5", ["5"], 1, 1.0),
    ("Bach", ["Mozart", "J. S. Bach", "Bach"], 1, 1.0),
    ("Johann Bach", ["Mozart", "Johann Sebastian Bach"], 0, 0.8),
    ("a\tb\nc", ["b c"], 1, 1.0),
    ("İstanbul", ["i̇stanbul"], 1, 1.0),
    ("STRASSE", ["straße"], 0, 0.0),  # lower(), not casefold()
]


@pytest.mark.parametrize(("prediction", "answers", "em", "f1"), TYPED)
def test_em_and_f1_by_hand(prediction, answers, em, f1):
    assert exact_match_and_f1(prediction, answers) == (em, pytest.approx(f1, abs=1e-6))
    check(prediction, answers)


PIECES = st.sampled_from(
    ["a", "an", "the", "The", "A", " ", "  ", "\t", "\n", "\u00a0", "\u3000", "-", "'", ".", "“", "’", "_", "the."]
    + ["Bach", "bach", "ü", "u\u0308", "ß", "İ", "東京", "🙂", "1905", "1,905", "theatre", "can", "x"]
)
TEXT = st.lists(PIECES, max_size=8).map("".join) | st.text(max_size=12)


@settings(max_examples=300, deadline=None)
@given(TEXT, st.lists(TEXT, min_size=1, max_size=4))
def test_em_and_f1_are_squads(prediction, answers):
    assume(not without_spaces(prediction))
    check(prediction, answers)


@settings(max_examples=60, deadline=None)
@given(TEXT, st.lists(TEXT, min_size=1, max_size=4))
def test_more_answers_never_score_lower_and_order_does_not_matter(prediction, answers):
    one, all_ = exact_match_and_f1(prediction, answers[:1]), exact_match_and_f1(prediction, answers)
    assert all_[0] >= one[0] and all_[1] >= one[1] - 1e-7
    assert exact_match_and_f1(prediction, answers[::-1]) == all_


# ------------------------------------------------------------------ DPR's matching

ALPHA_NUM, NON_WHITE_SPACE = r"[\p{L}\p{N}\p{M}]+", r"[^\p{Z}\p{C}]"


def dpr_words(text: str) -> list[str]:
    """SimpleTokenizer's words in lower case: of the text in NFD."""
    pattern = f"({ALPHA_NUM})|({NON_WHITE_SPACE})"
    flags = regex.IGNORECASE + regex.UNICODE + regex.MULTILINE
    return [found.group().lower() for found in regex.finditer(pattern, unicodedata.normalize("NFD", text), flags)]


def dpr_has_answer(text: str, answers: list[str]) -> bool:
    """DPR's loop, but for an answer of no words: there DPR says yes to every passage, and we say no."""
    words = dpr_words(text)
    for answer in answers:
        wanted = dpr_words(answer)
        for start in range(len(words) - len(wanted) + 1):
            if wanted and words[start : start + len(wanted)] == wanted:
                return True
    return False


HITS = [
    ("Bach was born in Eisenach.", ["Eisenach"], True),
    ("Bach was born in EISENACH.", ["eisenach"], True),
    ("Bach was born in Eisenacher Land", ["Eisenach"], False),  # whole words only
    ("the U.S. Army", ["US Army"], False),  # punctuation is a word of its own
    ("the U.S. Army", ["U.S. Army"], True),
    ("the U . S . Army", ["u.s. army"], True),
    ("Zürich", [unicodedata.normalize("NFD", "Zürich")], True),
    ("Zürich", ["Zurich"], False),
    ("in 1,905 years", ["1905"], False),
    ("in 1,905 years", ["1 , 905"], True),
    ("New\u00a0York\tCity", ["new york city"], True),
    ("York New", ["New York"], False),  # in order
    ("New big York", ["New York"], False),  # and without a gap
    ("the city of 東京都", ["東京"], False),  # no white space, so one word
    ("the end is Paris", ["Paris"], True),
    ("Paris is the start", ["Paris"], True),
    ("anything", [""], False),
    ("anything", ["\u200b"], False),
    ("", ["Paris"], False),
    ("x", ["x y z"], False),
    ("snake_case", ["snake"], True),  # the underscore is no letter
    ("nothing here", ["no", "here"], True),
    ("ﬁnd", ["find"], False),  # NFD, not NFKD
    ("🙂 yes", ["🙂"], True),
]


@pytest.mark.parametrize(("text", "answers", "found"), HITS)
def test_has_answer_by_hand(text, answers, found):
    assert has_answer(text, answers) is found
    assert dpr_has_answer(text, answers) is found


WORDS = st.lists(PIECES | st.just(" "), max_size=12).map("".join) | st.text(max_size=15)


@settings(max_examples=300, deadline=None)
@given(WORDS, st.lists(WORDS, min_size=1, max_size=3))
def test_has_answer_is_dprs(text, answers):
    assert list(dpr_tokens(text)) == dpr_words(text)
    assume(not without_spaces(text))
    assert has_answer(text, answers) is dpr_has_answer(text, answers)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["Bach", "ü", "1", "東京", ",", "The"]), min_size=1, max_size=8), st.data())
def test_a_span_of_a_text_is_found_in_it(words, data):
    start = data.draw(st.integers(0, len(words) - 1))
    stop = data.draw(st.integers(start + 1, len(words)))
    assert has_answer(" ".join(words), ["no such", " ".join(words[start:stop]).upper()])


# ------------------------------------------------------------------ scripts without spaces

CHARACTERS = [
    ("东京是日本的首都。", ["东京"], True),
    ("东京是日本的首都。", ["京东"], False),
    ("東京都は日本の首都であり、NHK放送センターがある。", ["NHK"], True),
    ("東京都は日本の首都であり、NHK放送センターがある。", ["センター"], True),
    ("東京都は日本の首都であり、NHK放送センターがある。", ["ンタ", "日本国"], True),
    ("กรุงเทพมหานครเป็นเมืองหลวงของประเทศไทย", ["เมืองหลวง"], True),
    ("กรุงเทพมหานครเป็นเมืองหลวงของประเทศไทย", ["เมือ"], True),
    ("กำ", ["ก"], True),
    ("がある", ["か"], False),  # a mark belongs to its letter, in NFD too
    ("首都（1868年）", ["868"], False),  # a number is one word still
    ("서울은 한국의 수도", ["서울"], False),  # Korean writes spaces
    ("Tokyo (東京都) is the capital", ["東京"], False),  # a text with spaces is read as published
]


@pytest.mark.parametrize(("text", "answers", "found"), CHARACTERS)
def test_characters_are_words_where_a_script_writes_no_spaces(text, answers, found):
    assert has_answer(text, answers) is found


@pytest.mark.parametrize(
    ("prediction", "answers", "em", "f1"),
    [
        ("日本东京", ["东京"], 0, 2 * (2 / 4) / (2 / 4 + 1)),
        ("东京。", ["东京"], 0, 1.0),
        ("东京", ["Tokyo", "东京"], 1, 1.0),
        ("Tokyo", ["东京"], 0, 0.0),
        ("大阪", ["东京"], 0, 0.0),
    ],
)
def test_f1_of_characters(prediction, answers, em, f1):
    assert exact_match_and_f1(prediction, answers) == (em, pytest.approx(f1, abs=1e-6))


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("东京日本首都กเかガーa1 。"), max_size=12), st.data())
def test_a_piece_of_a_text_without_spaces_is_found_in_it(text, data):
    tokens = dpr_tokens(text, True)
    assume(without_spaces(text))
    start = data.draw(st.integers(0, len(tokens) - 1))
    stop = data.draw(st.integers(start + 1, len(tokens)))
    assert "".join(tokens) == unicodedata.normalize("NFD", text).replace(" ", "").lower()
    assume("a" not in tokens[start:stop] and "1" not in text)  # joined, two such words would be another
    assert has_answer(text, ["".join(tokens[start:stop])])


def test_hit_is_one_if_any_passage_holds_an_answer():
    texts = ["Bach was born in Eisenach.", "He died in Leipzig."]
    assert hit(texts, ["Leipzig"]) == 1 and hit(texts, ["Weimar", "Eisenach"]) == 1
    assert hit(texts, ["Weimar"]) == 0 and hit([], ["Bach"]) == 0
