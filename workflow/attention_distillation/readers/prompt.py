"""A passage's prompt and its segment map: which token is the passage's own title or text, and which is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..records import InputError

TEMPLATE, TITLE, TEXT = 0, 1, 2
ANSWER_HEAD_TOKENS = 8
"""More than ``answer:`` takes in any tokenizer."""
SEGMENT_NAMES = {TITLE: "title", TEXT: "text"}


@dataclass(frozen=True)
class PassagePrompt:
    """``ids`` and ``segment`` (TEMPLATE, TITLE or TEXT), both int64 of the prompt's length."""

    ids: np.ndarray
    segment: np.ndarray


def passage_prompts(
    tokenizer, questions: Sequence[str], passages: Sequence[tuple[str, str]], max_tokens: int, *, end: str = ""
) -> list[PassagePrompt]:
    """Prompts ``question: {Q} title: {title} context: {text}``, each cut to ``max_tokens`` tokens.

    Args:
        tokenizer: a fast tokenizer; it adds no special tokens here.
        questions: one for each passage.
        passages: (title, text).
        end: written after the passage, inside the limit only where the passage leaves room.

    The copy of the question and the template's words belong to no passage: only title and text count.

    Raises:
        InputError: the question leaves no room for a single token of the passage.
    """
    prompts, spans = [], []
    for question, (title, text) in zip(questions, passages, strict=True):
        head = f"question: {question} title: "
        middle = f"{head}{title} context: "
        prompts.append(f"{middle}{text}{end}")
        spans.append(((len(head), len(head) + len(title)), (len(middle), len(middle) + len(text))))
    if not prompts:  # closed book; tokenizers take no empty list
        return []
    encoded = tokenizer(
        prompts, add_special_tokens=False, truncation=True, max_length=max_tokens, return_offsets_mapping=True
    )
    results = []
    for ids, offsets, (title, text), question in zip(
        encoded["input_ids"], encoded["offset_mapping"], spans, questions, strict=True
    ):
        begin, stop = np.asarray(offsets, dtype=np.int64).reshape(-1, 2).T
        segment = np.full(len(ids), TEMPLATE)
        for kind, (first, last) in ((TITLE, title), (TEXT, text)):
            segment[(np.maximum(begin, first) < np.minimum(stop, last))] = kind
        if not (segment != TEMPLATE).any():
            raise InputError(
                f"prompt.passage_max_tokens: {max_tokens} tokens leave no room for a passage after the question "
                f"'{question[:60]}'; raise it or drop the question."
            )
        results.append(PassagePrompt(np.asarray(ids), segment))
    return results


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


def longest_question(tokenizer, questions: Sequence[str], max_tokens: int) -> int:
    """Tokens of the longest prompt without its passage.

    Raises:
        InputError: a question that leaves no room for a passage.
    """
    heads = tokenizer([f"question: {question} title: context: " for question in questions], add_special_tokens=False)
    sizes = [len(ids) for ids in heads["input_ids"]]
    worst = int(np.argmax(sizes))
    if sizes[worst] + 2 > max_tokens:  # a token of the passage, and the end that T5 adds
        raise InputError(
            f"prompt.passage_max_tokens: {max_tokens} tokens leave no room for a passage after the question "
            f"'{questions[worst][:60]}' ({sizes[worst]} tokens with the template); raise it or drop the question."
        )
    return sizes[worst]
