"""EM and F1 as SQuAD defines them (torchmetrics), HR@k by DPR's answer matching.

Both need spaces between words. In a text that is mostly of a script without them (Chinese, Japanese, Thai …) each
character counts as a word; every other text is read as published.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache

import regex

_TOKEN = regex.compile(r"([\p{L}\p{N}\p{M}]+)|([^\p{Z}\p{C}])", regex.IGNORECASE | regex.UNICODE | regex.MULTILINE)
_RUN = (  # letters of scripts that write no spaces between words
    r"[\p{L}&&[\p{scx=Hani}\p{scx=Hira}\p{scx=Kana}\p{scx=Bopo}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}]]"
)
_LETTER, _UNSPACED = regex.compile(r"\p{L}"), regex.compile(_RUN, regex.V1)
_CHARACTER = regex.compile(rf"({_RUN}\p{{M}}*|(?:(?!{_RUN})[\p{{L}}\p{{N}}\p{{M}}])+)|([^\p{{Z}}\p{{C}}])", regex.V1)


def without_spaces(text: str) -> bool:
    """Whether more than half of a text's letters are of scripts without spaces between words."""
    if text.isascii() or not _UNSPACED.search(text):
        return False
    return 2 * len(_UNSPACED.findall(text)) > len(_LETTER.findall(text))


@lru_cache(maxsize=20_000)
def dpr_tokens(text: str, characters: bool = False) -> tuple[str, ...]:
    """Words and marks of a text in lower case, decomposed by Unicode's NFD, as DPR's tokenizer splits them.

    With ``characters``, letters of scripts without spaces are a token each.
    """
    form = _CHARACTER if characters else _TOKEN
    return tuple(match.group().lower() for match in form.finditer(unicodedata.normalize("NFD", text)))


def has_answer(text: str, answers: Sequence[str]) -> bool:
    """Whether the text holds one of the answers as a sequence of whole tokens; the text's script says of which."""
    characters = without_spaces(text)
    tokens = dpr_tokens(text, characters)
    for answer in answers:
        wanted = dpr_tokens(answer, characters)
        size = len(wanted)
        if size and any(tokens[start : start + size] == wanted for start in range(len(tokens) - size + 1)):
            return True
    return False


def exact_match_and_f1(prediction: str, answers: Sequence[str]) -> tuple[int, float]:
    """EM (0 or 1) and F1 (0 to 1), the best over the answers, as in SQuAD's script (version 1.1).

    Where prediction and answer are both :func:`without_spaces`, F1 is that of their characters.
    """
    em, f1 = _squad(prediction, answers)
    # Where both texts hold nothing but articles and punctuation, torchmetrics gives F1 1, as SQuAD 2 does; 1.1 gives 0.
    nothing_left, _ = _squad(prediction, [""])
    f1 = 0.0 if nothing_left else f1
    if without_spaces(prediction) and (alike := [answer for answer in answers if without_spaces(answer)]):
        f1 = max(f1, _squad(_spaced(prediction), [_spaced(answer) for answer in alike])[1])
    return em, f1


def _spaced(text: str) -> str:
    """A text's characters and words with spaces between them, without its marks."""
    parts = _CHARACTER.finditer(unicodedata.normalize("NFD", text))
    return " ".join(match.group(1) for match in parts if match.group(1))


def _squad(prediction: str, answers: Sequence[str]) -> tuple[int, float]:
    from torchmetrics.functional.text import squad

    target = {"id": "0", "answers": {"text": list(answers), "answer_start": [0] * len(answers)}}
    scores = squad([{"id": "0", "prediction_text": prediction}], [target])
    return int(scores["exact_match"] > 0), float(scores["f1"]) / 100


def hit(texts: Sequence[str], answers: Sequence[str]) -> int:
    """1 if one of the retrieved passages' texts holds an answer (HR@k of one question)."""
    return int(any(has_answer(text, answers) for text in texts))
