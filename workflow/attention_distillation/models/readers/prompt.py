"""A passage's prompt and its segment map: which token is the passage's own title or text, and which is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...files import InputError
from ..plain_text import plain_text

TEMPLATE, TITLE, TEXT = 0, 1, 2
ANSWER_HEAD_TOKENS = 8
"""More than ``answer:`` takes in any tokenizer."""
SEGMENT_NAMES = {TITLE: "title", TEXT: "text"}
QUESTION, AFTER = "question: ", " title: "
"""What stands before a prompt's question and after it."""


@dataclass(frozen=True)
class PassagePrompt:
    """``ids`` and ``segment`` (TEMPLATE, TITLE or TEXT), both int64 of the prompt's length.

    ``read`` counts the characters of the passage's text, from its first, that the tokens cover.
    """

    ids: np.ndarray
    segment: np.ndarray
    read: int


def passage_prompts(
    tokenizer, questions: Sequence[str], passages: Sequence[tuple[str, str]], max_tokens: int, *, end: str = ""
) -> list[PassagePrompt]:
    """Prompts ``question: {Q} title: {title} context: {text}``, each cut to ``max_tokens`` tokens.

    Args:
        tokenizer: a fast tokenizer; it adds no special tokens here.
        questions: one for each passage.
        passages: (title, text).
        end: written after the passage, inside the limit only where the passage leaves room.

    The copy of the question and the template's words belong to no passage: only title and text count. A question that
    would take more than half of the prompt is cut (:func:`cut_questions`).

    Raises:
        InputError: the limit leaves no room for a single token of the passage.
    """
    prompts, spans = [], []
    shown = cut_questions(tokenizer, questions, max_tokens)
    for question, (title, text) in zip(questions, passages, strict=True):
        head = f"{QUESTION}{shown[question]}{AFTER}"
        middle = f"{head}{title} context: "
        prompts.append(f"{middle}{text}{end}")
        spans.append(((len(head), len(head) + len(title)), (len(middle), len(middle) + len(text))))
    if not prompts:  # closed book; tokenizers take no empty list
        return []
    encoded = plain_text(tokenizer)(
        prompts, add_special_tokens=False, truncation=True, max_length=max_tokens, return_offsets_mapping=True
    )
    results = []
    for ids, offsets, (title, text) in zip(encoded["input_ids"], encoded["offset_mapping"], spans, strict=True):
        begin, stop = np.asarray(offsets, dtype=np.int64).reshape(-1, 2).T
        segment = np.full(len(ids), TEMPLATE)
        for kind, (first, last) in ((TITLE, title), (TEXT, text)):
            segment[(np.maximum(begin, first) < np.minimum(stop, last))] = kind
        if not (segment != TEMPLATE).any():
            raise InputError(
                f"prompt.passage_max_tokens: {max_tokens} tokens leave no room for a passage in a prompt; raise it."
            )
        read = max(0, min(int(stop.max(initial=0)), text[1]) - text[0])
        results.append(PassagePrompt(np.asarray(ids), segment, read))
    return results


def cut_questions(tokenizer, questions: Sequence[str], max_tokens: int) -> dict[str, str]:
    """Each question as prompts show it: whole, or its beginning where it would take more than half of ``max_tokens``.

    One as long as a passage's whole prompt would leave nothing to attend to [choice].
    """
    shown = {question: question for question in questions}
    room = max_tokens // 2
    heads = {text: f"{QUESTION}{text}{AFTER}" for text in shown}
    heads = {text: head for text, head in heads.items() if len(head.encode()) > room}  # a token takes a byte or more
    if not heads:
        return shown
    encoded = plain_text(tokenizer)(list(heads.values()), add_special_tokens=False, return_offsets_mapping=True)
    for text, offsets in zip(heads, encoded["offset_mapping"], strict=True):
        if (excess := len(offsets) - room) > 0:
            own = [begin for begin, stop in offsets if stop > len(QUESTION) and begin < len(QUESTION) + len(text)]
            first_gone = own[-excess] if excess < len(own) else 0  # its letter goes with it, whatever is left of it
            shown[text] = text[: max(0, first_gone - len(QUESTION))].rstrip()
    return shown


def require_context(config, passages: int, max_tokens: int, answer_tokens: int) -> None:
    """See that a decoder-only reader's positions suffice for ``passages`` prompts, ``answer:`` and the answer.

    Args:
        config: of a transformers model; one with ALiBi takes any length.

    Raises:
        InputError: they do not.
    """
    limit = getattr(config, "max_position_embeddings", None)
    needed = passages * max_tokens + ANSWER_HEAD_TOKENS + answer_tokens
    if limit and needed > limit and not (config.is_encoder_decoder or getattr(config, "alibi", False)):
        raise InputError(
            f"models.reader: {config.name_or_path} has {limit} positions, and {passages} passages of {max_tokens} "
            f"tokens with the answer may take {needed}; lower prompt.passage_max_tokens or retrieval.k."
        )
