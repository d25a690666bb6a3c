"""A passage's prompt and its segment map: which token is the passage's own title or text, and which is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...files import InputError
from ...settings import DEFAULT_TEMPLATE, template_pieces
from ..plain_text import plain_text

TEMPLATE, TITLE, TEXT = 0, 1, 2
SEGMENT_NAMES = {TITLE: "title", TEXT: "text"}
MARKS = ("\ufdd2", "\ufdd3")
"""Letters that no text holds: where the prompt and the answer stand in a chat template."""


@dataclass(frozen=True)
class PassagePrompt:
    """``ids`` and ``segment`` (TEMPLATE, TITLE or TEXT), both int64 of the prompt's length.

    ``read`` counts the characters of the passage's text, from its first, that the tokens cover.
    """

    ids: np.ndarray
    segment: np.ndarray
    read: int


def passage_prompts(
    tokenizer, questions: Sequence[str], passages: Sequence[tuple[str, str]], max_tokens: int, *, end: str = "",
    template: str = DEFAULT_TEMPLATE,
) -> list[PassagePrompt]:  # fmt: skip
    """Prompts by the template, each cut to ``max_tokens`` tokens.

    Args:
        tokenizer: a fast tokenizer; it adds no special tokens here.
        questions: one for each passage.
        passages: (title, text); one that is blank has no tokens of its own.
        end: written after the passage, inside the limit only where the passage leaves room.
        template: ``settings.Prompt.template``.

    The copy of the question and the template's words belong to no passage: only title and text count. A question that
    would take more than half of the prompt is cut (:func:`cut_questions`). What is too long is cut at the end of the
    text: what the template has after ``{text}`` stays.

    Raises:
        InputError: the limit leaves no room for a single token of the passage.
    """
    if not len(passages):  # closed book; tokenizers take no empty list
        return []
    pieces = template_pieces(template)
    shown = cut_questions(tokenizer, questions, max_tokens, template)
    prompts, spans = [], []
    for question, (title, text) in zip(questions, passages, strict=True):
        values, prompt, own = {"question": shown[question], "title": title, "text": text}, "", {}
        for letters, name in pieces:
            prompt += letters
            if name is not None:
                own[name] = (len(prompt), len(prompt) + len(values[name]))
                prompt += values[name]
        prompts.append(prompt + end)
        spans.append(own)
    cut_from_end = pieces[-1][1] == "text"
    encoded = plain_text(tokenizer)(
        prompts, add_special_tokens=False, return_offsets_mapping=True,
        **({"truncation": True, "max_length": max_tokens} if cut_from_end else {}),
    )  # fmt: skip
    results = []
    rows = zip(encoded["input_ids"], encoded["offset_mapping"], spans, passages, strict=True)
    for row, offsets, own, passage in rows:
        ids, (begin, stop) = np.asarray(row, dtype=np.int64), np.asarray(offsets, dtype=np.int64).reshape(-1, 2).T
        segment = np.full(len(ids), TEMPLATE)
        for kind, name in ((TITLE, "title"), (TEXT, "text")):
            first, last = own.get(name, (0, 0))
            segment[(np.maximum(begin, first) < np.minimum(stop, last))] = kind
        if (excess := len(ids) - max_tokens) > 0:
            text = np.flatnonzero(segment == TEXT)
            keep = np.delete(np.arange(len(ids)), text[max(0, len(text) - excess) :])
            ids, segment, stop = ids[keep], segment[keep], stop[keep]
        if len(ids) > max_tokens or (not (segment != TEMPLATE).any() and "".join(passage).strip()):
            raise InputError(
                f"prompt.passage_max_tokens: {max_tokens} tokens leave no room for a passage in a prompt; raise it."
            )
        first, last = own.get("text", (0, 0))
        read = max(0, min(int(stop[segment == TEXT].max(initial=0)), last) - first)
        results.append(PassagePrompt(ids, segment, read))
    return results


def cut_questions(
    tokenizer, questions: Sequence[str], max_tokens: int, template: str = DEFAULT_TEMPLATE
) -> dict[str, str]:
    """Each question as prompts show it: whole, or its beginning where it would take more than half of ``max_tokens``.

    One as long as a passage's whole prompt would leave nothing to attend to [choice]. What counts is the question with
    the template's words on both sides of it.
    """
    shown = {question: question for question in questions}
    before, after = around_question(template)
    if before is None:
        return shown
    room = max_tokens // 2
    heads = {text: f"{before}{text}{after}" for text in shown}
    heads = {text: head for text, head in heads.items() if len(head.encode()) > room}  # a token takes a byte or more
    if not heads:
        return shown
    encoded = plain_text(tokenizer)(list(heads.values()), add_special_tokens=False, return_offsets_mapping=True)
    for text, offsets in zip(heads, encoded["offset_mapping"], strict=True):
        if (excess := len(offsets) - room) > 0:
            own = [begin for begin, stop in offsets if stop > len(before) and begin < len(before) + len(text)]
            first_gone = own[-excess] if excess < len(own) else 0  # its letter goes with it, whatever is left of it
            shown[text] = text[: max(0, first_gone - len(before))].rstrip()
    return shown


def around_question(template: str) -> tuple[str | None, str]:
    """The template's words right before and right after ``{question}``; (None, "") where it is not asked."""
    pieces = template_pieces(template)
    for number, (letters, name) in enumerate(pieces):
        if name == "question":
            return letters, pieces[number + 1][0] if number + 1 < len(pieces) else ""
    return None, ""


def start_ids(tokenizer) -> list[int]:
    """The special tokens that the tokenizer puts before a text (``<s>``, ``<|begin_of_text|>``), maybe none."""
    encoded = tokenizer("a", return_special_tokens_mask=True)
    special = encoded["special_tokens_mask"]
    return encoded["input_ids"][: special.index(0) if 0 in special else 0]


def chat_frame(tokenizer) -> tuple[str, str, int | None]:
    """What a chat template puts before the user's turn and between it and the answer, and the token after the answer.

    Raises:
        InputError: the tokenizer has no chat template, or one that changes what the user says.
    """
    name = getattr(tokenizer, "name_or_path", "") or "the reader"
    if not tokenizer.chat_template:
        raise InputError(f"prompt.chat: {name} has no chat template; it is for instruct models. Set 'chat: false'.")
    turns = [{"role": "user", "content": MARKS[0]}]
    options = {"tokenize": False, "enable_thinking": False}  # a template without thinking knows no such word
    asked = tokenizer.apply_chat_template(turns, add_generation_prompt=True, **options)
    answered = tokenizer.apply_chat_template([*turns, {"role": "assistant", "content": MARKS[1]}], **options)
    if asked.count(MARKS[0]) != 1 or answered.count(MARKS[1]) != 1:
        raise InputError(f"prompt.chat: the chat template of {name} does not show a user's turn once, as it is.")
    before, after = asked.split(MARKS[0])
    closing = tokenizer(answered.split(MARKS[1])[1], add_special_tokens=False)["input_ids"]
    end = closing[0] if closing and closing[0] in tokenizer.all_special_ids else None
    return before, after, end


def running_text(tokenizer, before: str, texts: Sequence[str]) -> list[list[int]]:
    """Tokens of texts as they go on after ``before``: some tokenizers cut the first word of a text otherwise."""
    if not len(texts):
        return []
    plain = plain_text(tokenizer)
    head = plain(before, add_special_tokens=False)["input_ids"]
    rows = plain([before + text for text in texts], add_special_tokens=False)["input_ids"]
    if all(row[: len(head)] == head for row in rows):
        return [row[len(head) :] for row in rows]
    marks_words = tokenizer.convert_ids_to_tokens(plain("a", add_special_tokens=False)["input_ids"])[0][0] == "▁"

    def alone(text: str) -> list[int]:
        """Where a token reaches over the seam; a tokenizer that marks a text's first word itself needs no space."""
        own = text.removeprefix(" ") if marks_words else text
        return plain(own, add_special_tokens=False)["input_ids"]

    return [
        row[len(head) :] if row[: len(head)] == head else alone(text) for row, text in zip(rows, texts, strict=True)
    ]


# ------------------------------------------------------------------ positions


def require_context(config, passages: int, max_tokens: int, rest: int) -> None:
    """See that a decoder-only reader's positions suffice for ``passages`` prompts and ``rest`` more tokens.

    Args:
        config: of a transformers model; one with ALiBi takes any length.
        rest: the sequence's start, what stands between prompts and answer, and the answer.

    Raises:
        InputError: they do not.
    """
    limit = getattr(config, "max_position_embeddings", None) or getattr(config, "max_seq_len", None)
    needed = passages * max_tokens + rest
    if limit and needed > limit and not (config.is_encoder_decoder or getattr(config, "alibi", False)):
        raise InputError(
            f"models.reader: {config.name_or_path} has {limit} positions, and {passages} passages of {max_tokens} "
            f"tokens with the answer may take {needed}; lower prompt.passage_max_tokens or retrieval.k."
        )


def windows(config) -> tuple[int, int, int]:
    """How many layers see only their last tokens, of how many with attention, and how many tokens those see (0: all).

    Args:
        config: of a transformers decoder-only model.
    """
    kinds = getattr(config, "layer_types", None) or []
    window = getattr(config, "sliding_window", None) or getattr(config, "attention_chunk_size", None) or 0
    near = [kind for kind in kinds if "sliding" in kind or "chunked" in kind]
    layers = len(kinds) or config.num_hidden_layers
    if not kinds and window and getattr(config, "use_sliding_window", True):
        return layers, layers, window
    return len(near), layers, window if near else 0
