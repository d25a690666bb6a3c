"""EM and F1 as SQuAD defines them (torchmetrics), HR@k by DPR's answer matching."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache

import regex

_TOKEN = regex.compile(r"([\p{L}\p{N}\p{M}]+)|([^\p{Z}\p{C}])", regex.IGNORECASE | regex.UNICODE | regex.MULTILINE)


@lru_cache(maxsize=20_000)
def dpr_tokens(text: str) -> tuple[str, ...]:
    """Words and marks of a text in lower case, decomposed by Unicode's NFD, as DPR's tokenizer splits them."""
    return tuple(match.group().lower() for match in _TOKEN.finditer(unicodedata.normalize("NFD", text)))


def has_answer(text: str, answers: Sequence[str]) -> bool:
    """Whether the text holds one of the answers as a sequence of whole tokens."""
    tokens = dpr_tokens(text)
    for answer in answers:
        wanted = dpr_tokens(answer)
        size = len(wanted)
        if size and any(tokens[start : start + size] == wanted for start in range(len(tokens) - size + 1)):
            return True
    return False


def exact_match_and_f1(prediction: str, answers: Sequence[str]) -> tuple[int, float]:
    """EM (0 or 1) and F1 (0 to 1), the best over the answers, as in SQuAD's script (version 1.1)."""
    em, f1 = _squad(prediction, answers)
    # Where both texts hold nothing but articles and punctuation, torchmetrics gives F1 1, as SQuAD 2 does; 1.1 gives 0.
    nothing_left, _ = _squad(prediction, [""])
    return em, 0.0 if nothing_left else f1


def _squad(prediction: str, answers: Sequence[str]) -> tuple[int, float]:
    from torchmetrics.functional.text import squad

    target = {"id": "0", "answers": {"text": list(answers), "answer_start": [0] * len(answers)}}
    scores = squad([{"id": "0", "prediction_text": prediction}], [target])
    return int(scores["exact_match"] > 0), float(scores["f1"]) / 100


def hit(texts: Sequence[str], answers: Sequence[str]) -> int:
    """1 if one of the retrieved passages' texts holds an answer (HR@k of one question)."""
    return int(any(has_answer(text, answers) for text in texts))
