"""What is read of the retrieved passages, against counting words by hand."""

from __future__ import annotations

import models
import numpy as np
import pytest
import tiny

from attention_distillation.analysis import coverage
from attention_distillation.data.passages import Passages, write_passages
from attention_distillation.models.readers.prompt import passage_prompts
from attention_distillation.records import Passage, Question
from attention_distillation.settings import Retrieval

WORDS = ["ada", "bay", "died", "near", "autumn", "amber", "arrow", "azure", "acorn", "abel"]
ROWS = [
    Passage("0", "bay", "ada bay died ."),
    Passage("1", "bay", " ".join([*WORDS, "axel"])),  # the answer is its last word
    Passage("2", "bay", " ".join(["axel", *WORDS])),  # and here its first
]
ASKED = [Question("q", "who was it", ["axel"])]


@pytest.fixture
def corpus(tmp_path):
    write_passages(tmp_path / "p.arrow", ROWS)
    return Passages(tmp_path / "p.arrow")


def measure(corpus, reader: int, retriever: int) -> dict:
    encoder = tiny.bert(retrieval=Retrieval(passage_max_tokens=retriever)).passage
    tokenizer = models.tokenizer("falcon_alibi")
    return coverage.coverage(corpus, np.array([[0, 1, 2]]), ASKED, tokenizer, reader, encoder)


def test_nothing_is_cut_where_there_is_room(corpus):
    facts = measure(corpus, 60, 60)
    assert (facts["questions"], facts["passages"], facts["hits"]) == (1, 3, 2)
    for name in ("reader", "retriever"):
        assert facts[name] == {"limit": 60, "cut": 0, "read": 1.0, "hits_unread": 0}
    assert coverage.warnings(facts) == []


def test_what_lies_behind_the_cut_is_counted(corpus):
    template = 11  # question : who was it title : bay context :, and the text's four words
    facts = measure(corpus, template + 3, 3 + 4)  # [CLS] bay … [SEP] and four words
    letters = [len(row.text) for row in ROWS]
    read = [letters[0], len(" ".join(WORDS[:4])), len(" ".join(["axel", *WORDS[:3]]))]
    for name in ("reader", "retriever"):
        assert facts[name]["cut"] == 2 and facts[name]["hits_unread"] == 1
        assert facts[name]["read"] == pytest.approx(sum(read) / sum(letters), abs=1e-4)
    first, second = coverage.warnings(facts)
    assert first.startswith(
        "2 of 3 retrieved passages are cut by prompt.passage_max_tokens (14 tokens); the reader reads"
    )
    assert "1 of 2 hits lie behind the cut" in first and "retrieval.passage_max_tokens" in second


@pytest.mark.parametrize("limit", [12, 14, 18, 60])
def test_a_prompt_says_how_much_of_the_text_it_covers(limit):
    made = models.tokenizer("falcon_alibi", byte_level=True)
    text = "Zürich liegt am See ."
    [prompt] = passage_prompts(made, ["a"], [("b", text)], limit + 20, end="\n")
    covered = made.decode(prompt.ids[prompt.segment == 2])
    assert covered.strip("\ufffd").strip() == text[: prompt.read].strip() or "\ufffd" in covered
    assert (prompt.read == len(text)) == (covered.strip() == text)
