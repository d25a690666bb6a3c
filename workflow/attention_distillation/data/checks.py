"""What is no fault in passages and questions, and yet worth a warning: counted for the log and a ``facts.json``."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator

from .. import metrics
from ..records import Passage, Question

# ------------------------------------------------------------------ passages


class Lengths:
    """How many passages have how many words: what of them is cut is asked later, when the limits are known."""

    def __init__(self) -> None:
        self._counts: Counter = Counter()

    def of(self, passages: Iterable[Passage]) -> Iterator[Passage]:
        """The same passages, counted as they go by."""
        for passage in passages:
            self._counts[len(passage.text.split())] += 1
            yield passage

    def facts(self) -> dict[str, int]:
        """Passages by their words."""
        return {str(words): count for words, count in sorted(self._counts.items())}


def over_limits(words: dict[str, int], limits: dict[str, int]) -> dict[str, dict]:
    """For each limit in tokens, the passages that have more words: a token holds a word at most.

    Args:
        words: of :meth:`Lengths.facts`.
        limits: by config key.

    Returns:
        by config key ``limit, passages, cut`` and ``read``, the largest share of the cut passages' words that is read.
    """
    facts = {}
    for key, limit in limits.items():
        long = {int(length): count for length, count in words.items() if int(length) > limit}
        cut, held = sum(long.values()), sum(length * count for length, count in long.items())
        read = round(cut * limit / held, 4) if cut else 1.0
        facts[key] = {"limit": limit, "passages": sum(words.values()), "cut": cut, "read": read}
    return facts


def length_warnings(facts: dict[str, dict]) -> list[str]:
    """For the log."""
    return [
        f"{row['cut']:,} of {row['passages']:,} passages have more words than {key} ({row['limit']} tokens): at most "
        f"{100 * row['read']:.3g} % of their words are read, and HR@k counts answers in all of them; split long "
        "passages or raise the limit."
        for key, row in facts.items()
        if row["cut"]
    ]


# ------------------------------------------------------------------ questions


def question_facts(splits: dict[str, list[Question]]) -> dict[str, int | dict]:
    """Counts of what may spoil a score, over the questions of all splits (of ``train``, ``dev``, ``test``)."""
    every = [question for questions in splits.values() for question in questions]
    trained = {_asked(question) for question in splits["train"]}
    return {
        "questions": {split: len(questions) for split, questions in splits.items()},
        "trained_on": {
            split: sum(_asked(question) in trained for question in splits[split]) for split in ("dev", "test")
        },
        "answers_without_words": sum(any(map(_no_words, question.answers)) for question in every),
        "no_answer_with_words": sum(all(map(_no_words, question.answers)) for question in every),
        "target_is_no_answer": sum(bool(q.target) and q.target not in q.answers for q in every),
        "without_spaces": sum(any(map(metrics.without_spaces, question.answers)) for question in every),
    }


def _asked(question: Question) -> str:
    return " ".join(question.question.casefold().split())


def _no_words(answer: str) -> bool:
    """Whether SQuAD's normalisation or DPR's tokens leave nothing of an answer."""
    if not metrics.dpr_tokens(answer):
        return True
    letters = "".join(filter(str.isalnum, answer.lower()))
    return bool(re.fullmatch(r"(a|an|the)*", letters)) and bool(metrics.exact_match_and_f1("", [answer])[0])


def question_warnings(facts: dict) -> list[str]:
    """For the log."""
    total = sum(facts["questions"].values())
    warnings = []
    for split, count in facts["trained_on"].items():
        if count:
            warnings.append(
                f"{count:,} of {facts['questions'][split]:,} {split} questions are trained on too; what they score is "
                "no measure. Take them out of train."
            )
    if facts["answers_without_words"]:
        warnings.append(
            f"{facts['answers_without_words']:,} of {total:,} questions have an answer of articles and marks alone, "
            f"which no score counts; {facts['no_answer_with_words']:,} have no other."
        )
    if facts["target_is_no_answer"]:
        warnings.append(
            f"{facts['target_is_no_answer']:,} of {total:,} questions train on a target that is none of their answers."
        )
    if facts["without_spaces"]:
        warnings.append(
            f"{facts['without_spaces']:,} of {total:,} questions have an answer in a script without spaces between "
            "words (Chinese, Japanese, Thai …); HR@k and F1 take its characters for words."
        )
    return warnings
