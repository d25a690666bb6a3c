"""How much of the retrieved passages their readers see: what is cut, and which hits lie in what nobody reads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from .. import metrics
from ..data.passages import Passages
from ..models.encoder import Encoder
from ..models.readers.prompt import passage_prompts
from ..records import Question

LIMITS = {"reader": "prompt.passage_max_tokens", "retriever": "retrieval.passage_max_tokens"}


def coverage(
    corpus: Passages,
    rows: np.ndarray,
    questions: Sequence[Question],
    tokenizer,
    max_tokens: int,
    encoder: Encoder,
    batch: int = 100,
) -> dict:
    """Passages cut and hits lost, by ``reader`` and ``retriever`` (:data:`LIMITS`).

    Args:
        rows: int64 (questions, k), the corpus rows retrieved for each of the first ``len(rows)`` questions.
        tokenizer, max_tokens: of the reader.
        encoder: of the retriever's passages.

    Returns:
        ``questions``, ``passages`` (questions × k), ``hits`` (those whose text holds an answer) and for each of both
        ``limit``, ``cut`` (passages whose text is not read to its end), ``read`` (share of the text's characters that
        is read) and ``hits_unread`` (hits whose answers lie behind the cut).
    """
    facts = {"questions": len(rows), "passages": int(rows.size), "hits": 0}
    limits = {"reader": max_tokens, "retriever": encoder.max_tokens}
    sums = {name: {"limit": limits[name], "cut": 0, "read": 0, "hits_unread": 0} for name in LIMITS}
    letters = 0
    for start in tqdm(range(0, len(rows), batch), desc="measuring what is read", unit="batch", mininterval=5, delay=5):
        chosen = corpus[rows[start : start + batch].ravel().tolist()]
        passages = list(zip(chosen["title"], chosen["text"], strict=True))
        asked = [q for q in questions[start : start + batch] for _ in range(rows.shape[1])]
        prompts = passage_prompts(tokenizer, [q.question for q in asked], passages, max_tokens)
        seen = {"reader": [prompt.read for prompt in prompts], "retriever": encoder.characters_read(passages)}
        for place, (question, (_, text)) in enumerate(zip(asked, passages, strict=True)):
            hit = metrics.has_answer(text, question.answers)
            facts["hits"] += hit
            letters += len(text)
            for name, sum_ in sums.items():
                read = seen[name][place]
                cut = read < len(text.rstrip())
                sum_["cut"] += cut
                sum_["read"] += read if cut else len(text)
                sum_["hits_unread"] += hit and cut and not metrics.has_answer(text[:read], question.answers)
    for sum_ in sums.values():
        sum_["read"] = round(sum_["read"] / letters, 4) if letters else 1.0
    return {**facts, **sums}


def warnings(facts: dict) -> list[str]:
    """For the log."""
    lines = []
    for name, key in LIMITS.items():
        row = facts[name]
        if row["cut"]:
            lines.append(
                f"{row['cut']:,} of {facts['passages']:,} retrieved passages are cut by {key} ({row['limit']} tokens); "
                f"the {name} reads {100 * row['read']:.1f} % of all their text. {row['hits_unread']:,} of "
                f"{facts['hits']:,} hits lie behind the cut: HR@k counts them, and the {name} does not see them."
            )
    return lines
