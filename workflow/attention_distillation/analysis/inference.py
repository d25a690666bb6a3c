"""A trained reader's answers from the retrieved passages, and the attention dump behind Tables 2 to 4."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from tqdm import tqdm

from .. import metrics
from ..models.readers import Reader
from ..models.readers.prompt import SEGMENT_NAMES
from ..settings import Analysis, Distillation
from ..training.context import Material, context_rows, rng_of
from ..training.signals import TOKEN_DISTRIBUTIONS
from . import token_analysis


def length_order(material: Material, rows: np.ndarray, split: str = "test") -> np.ndarray:
    """Question numbers ordered by the length of their prompts, so that batches pad little."""
    questions = material.questions[split]
    sizes = [
        sum(len(title) + len(text) for title, text in texts) + len(question.question)
        for texts, question in zip(material.texts(rows), questions, strict=True)
    ]
    return np.argsort(sizes, kind="stable")


def predict(
    reader: Reader,
    material: Material,
    distillation: Distillation,
    *,
    batch_size: int,
    seed: int,
    gold: np.ndarray | None = None,
    split: str = "test",
) -> list[dict]:
    """Greedy answers to every question of a split, scored; a row each, in the split's order.

    Each row: ``id, question, answers, prediction, em`` (0 or 1), ``f1`` (0 to 1), ``hit`` (0 or 1), ``passages``.
    """
    questions = material.questions[split]
    retrieved = material.retrieved[split]
    shown = context_rows(retrieved, questions, material, distillation, rng_of(seed, 5), gold)
    predictions: dict[int, str] = {}
    order = length_order(material, shown, split)
    for start in tqdm(range(0, len(order), batch_size), desc="answering", unit="batch", mininterval=5):
        rows = order[start : start + batch_size]
        encoded = reader.encode([questions[row].question for row in rows], material.texts(shown[rows]))
        predictions.update(zip(rows.tolist(), reader.generate(encoded), strict=True))
    lines = []
    for row, (question, texts) in enumerate(zip(questions, material.texts(retrieved), strict=True)):
        em, f1 = metrics.exact_match_and_f1(predictions[row], question.answers)
        lines.append(
            {
                "id": question.id,
                "question": question.question,
                "answers": question.answers,
                "prediction": predictions[row],
                "em": em,
                "f1": round(f1, 6),
                "hit": metrics.hit([text for _, text in texts], question.answers),
                "passages": retrieved[row].tolist(),
            }
        )
    return lines


def summary(lines: list[dict]) -> dict:
    """``em`` and ``f1`` (0 to 100), ``hr_at_5`` (0 to 1) and ``n`` of predictions."""
    return {
        "em": 100 * float(np.mean([line["em"] for line in lines])),
        "f1": 100 * float(np.mean([line["f1"] for line in lines])),
        "hr_at_5": float(np.mean([line["hit"] for line in lines])),
        "n": len(lines),
    }


def dump(
    reader: Reader,
    material: Material,
    distillation: Distillation,
    analysis: Analysis,
    kind: str,
    *,
    batch_size: int,
    seed: int,
    tagger: str | None = None,
    gold: np.ndarray | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """Token records of sampled test questions, a batch at a time: the columns of ``attention.parquet``.

    Args:
        kind: ``attention`` (eq. 1) or ``perplexity`` (the token-level distribution that ``analysis`` names).
        seed: draws the sample; equal seeds give equal samples in every experiment.
        tagger: the directory of a world's own tagger.
    """
    questions = material.questions["test"]
    sample = np.sort(rng_of(seed, 6).permutation(len(questions))[: analysis.instances])
    asked = [questions[row] for row in sample]
    prompts = context_rows(material.retrieved["test"], questions, material, distillation, rng_of(seed, 5), gold)
    shown = prompts[sample]  # the very prompts that predict() answered
    spans = token_analysis.nouns([question.question for question in asked], analysis.nouns, tagger)
    table = reader.model.get_input_embeddings().weight.detach().float().cpu().numpy()
    reader.requires_grad_(kind == "perplexity" and analysis.token_distribution == "gradient").eval()
    for start in tqdm(range(0, len(sample), batch_size), desc="dumping attention", unit="batch", mininterval=5):
        part = slice(start, start + batch_size)
        batch = asked[part]
        answers = [question.target or question.answers[0] for question in batch]
        texts = material.texts(shown[part])
        encoded = reader.encode([q.question for q in batch], texts, answers).to(reader.device)
        if kind == "attention":
            with torch.inference_mode():
                values = reader(encoded, record=True, value_norm=distillation.value_norm).token_attention
        else:
            values = TOKEN_DISTRIBUTIONS[analysis.token_distribution](reader, encoded, analysis.tau_token)
        ids = encoded.ids.flatten(1).cpu().numpy()
        passage, segment, values = encoded.passage.cpu().numpy(), encoded.segment.cpu().numpy(), values.cpu().numpy()
        for number, question in enumerate(batch):
            nouns = _noun_ids(reader, question.question, spans[start + number])
            own = np.flatnonzero(passage[number] >= 0)
            bears = np.array([metrics.hit([text], question.answers) for _, text in texts[number]], dtype=bool)
            tokens = ids[number, own]
            yield {
                "instance": np.full(len(own), sample[start + number], dtype=np.int32),
                "passage": passage[number, own].astype(np.int8),
                "passage_row": shown[start + number][passage[number, own]],
                "token": _places(passage[number, own]),
                "token_text": np.asarray(reader.tokenizer.convert_ids_to_tokens(tokens.tolist()), dtype=object),
                "attention": values[number, own].astype(np.float32),
                "similarity_answer": _similarity(table, tokens, reader.words(answers[number])[0]),
                "similarity_question": _similarity(table, tokens, nouns),
                "segment": np.asarray([SEGMENT_NAMES[kind] for kind in segment[number, own]], dtype=object),
                "answer_bearing": bears[passage[number, own]],
            }  # fmt: skip


def _places(passage: np.ndarray) -> np.ndarray:
    """Position of each token within its passage; tokens of a passage stand together."""
    starts = np.r_[0, np.flatnonzero(np.diff(passage)) + 1] if len(passage) else np.zeros(0, int)
    return (np.arange(len(passage)) - np.repeat(starts, np.diff(np.r_[starts, len(passage)]))).astype(np.int16)


def _noun_ids(reader: Reader, question: str, spans: list[tuple[int, int]]) -> list[int]:
    """Tokens of the question that overlap one of its nouns."""
    return [
        token
        for token, (begin, end) in zip(*reader.words(question), strict=True)
        if any(begin < stop and end > start for start, stop in spans)
    ]


def _similarity(table: np.ndarray, tokens: np.ndarray, targets: list[int]) -> np.ndarray:
    """(T, M) similarity of tokens to target tokens, by the reader's input embeddings."""
    unique, places = np.unique(tokens, return_inverse=True)
    return token_analysis.cosines(table[unique], table[targets]).astype(np.float32)[places]
