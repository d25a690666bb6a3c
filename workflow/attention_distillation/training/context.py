"""What a reader is shown: questions, their passages, in which order, and what answer it learns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .. import metrics
from ..data.passages import Passages
from ..records import Question, read_questions, read_retrieved
from ..settings import Distillation


@dataclass(frozen=True)
class Material:
    """What a run reads.

    Attributes:
        corpus: passages (:class:`passages.Passages`).
        questions: by split.
        retrieved: passages found by a fixed retriever for each split, int64 (questions, k).
        tokens: the corpus as the retriever's token rows (:class:`retriever.TokenisedCorpus`), to train one.
        shards: embeddings of the corpus by the retriever that the run starts from, to train one.
    """

    corpus: Passages
    questions: dict[str, list[Question]]
    retrieved: dict[str, np.ndarray] = field(default_factory=dict)
    tokens: object = None
    shards: Sequence[np.ndarray] = ()

    def texts(self, rows: np.ndarray) -> list[list[tuple[str, str]]]:
        """(title, text) of passages, for row numbers (questions, k)."""
        if not rows.size:
            return [[] for _ in rows]
        unique, places = np.unique(rows, return_inverse=True)
        read = self.corpus[unique.tolist()]
        pairs = list(zip(read["title"], read["text"], strict=True))
        return [[pairs[place] for place in line] for line in places.reshape(rows.shape)]

    def hit_rate(self, split: str, rows: np.ndarray) -> float:
        """HR@k of the passages ``rows`` (n, k) found for the first n questions of a split."""
        pairs = zip(self.texts(rows), self.questions[split], strict=False)
        return float(np.mean([metrics.hit([text for _, text in texts], asked.answers) for texts, asked in pairs]))

    def hit_rate_of(self, split: str, path: str | Path) -> float:
        """HR@k of a file of retrieved passages."""
        return self.hit_rate(split, read_retrieved(path, len(self.corpus)))


def open_material(
    passages: str,
    questions: dict[str, str],
    retrieved: dict[str, str],
    tokens: object = None,
    shards: Sequence[np.ndarray] = (),
) -> Material:
    """Material from its files.

    Raises:
        InputError: a retrieved passage that the corpus does not have.
    """
    corpus = Passages(passages)
    return Material(
        corpus,
        {split: read_questions(path) for split, path in questions.items()},
        {split: read_retrieved(path, len(corpus)) for split, path in retrieved.items()},
        tokens,
        shards,
    )


def gold_passages(texts: Iterable[str], questions: Sequence[Question]) -> np.ndarray:
    """For each question the first of the corpus's ``texts`` that holds an answer, int64; -1 where none does."""
    gold = np.full(len(questions), -1, dtype=np.int64)
    wanted: dict[tuple[bool, str], list[tuple[int, tuple[str, ...]]]] = {}
    for number, question in enumerate(questions):
        for answer in question.answers:
            for characters in (False, True):
                if tokens := metrics.dpr_tokens(answer, characters):
                    wanted.setdefault((characters, tokens[0]), []).append((number, tokens))
    for row, text in enumerate(texts):
        characters = metrics.without_spaces(text)
        tokens = metrics.dpr_tokens.__wrapped__(text, characters)  # each passage is seen once: nothing to cache
        for place, token in enumerate(tokens):
            for number, answer in wanted.get((characters, token), ()):
                if gold[number] < 0 and tokens[place : place + len(answer)] == answer:
                    gold[number] = row
    return gold


def read_gold(paths) -> np.ndarray | None:
    """Gold passages of a split, where the experiment has them."""
    return np.load(paths[0], allow_pickle=False) if paths else None


def rng_of(*key: int) -> np.random.Generator:
    """The generator of one seed and step."""
    return np.random.default_rng(key)


def target_answer(question: Question, seed: int) -> str:
    """What the reader learns to answer: the dataset's target, else one of the answers drawn by the seed [Atlas]."""
    if question.target:
        return question.target
    key = int.from_bytes(question.id.encode()[-8:], "little")
    return question.answers[int(rng_of(seed, 3, key).integers(len(question.answers)))]


def in_prompt_order(rows: np.ndarray, order: str, rng: np.random.Generator) -> np.ndarray:
    """Retrieved rows (questions, k), best first, in the order that the prompt takes."""
    if order == "reversed":
        return rows[:, ::-1].copy()
    if order == "shuffled":
        return rng.permuted(rows, axis=1)
    return rows


def with_gold(rows: np.ndarray, questions: Sequence[Question], material: Material, gold: np.ndarray) -> np.ndarray:
    """Rows with the answer-bearing passage ``gold`` in the last place, where none of the k holds an answer."""
    forced = rows.copy()
    for number, (question, texts) in enumerate(zip(questions, material.texts(rows), strict=True)):
        if gold[number] >= 0 and not metrics.hit([text for _, text in texts], question.answers):
            forced[number, -1] = gold[number]
    return forced


def context_rows(
    rows: np.ndarray,
    questions: Sequence[Question],
    material: Material,
    distillation: Distillation,
    rng: np.random.Generator,
    gold: np.ndarray | None = None,
) -> np.ndarray:
    """The passages that go into the prompt, in its order: retrieved, with the gold one forced in, or none."""
    if distillation.context == "none":
        return rows[:, :0]
    if distillation.context == "gold":
        rows = with_gold(rows, questions, material, gold)
    return in_prompt_order(rows, distillation.passage_order, rng)
