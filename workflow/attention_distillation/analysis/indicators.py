"""What can be known of a signal before anything is trained on it: :func:`indicators`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from tqdm import tqdm

from ..models.readers import Reader
from ..settings import Distillation
from ..training import measuring, signals
from ..training.context import Material, in_prompt_order, rng_of, target_answer
from ..training.signals import Shown


@torch.no_grad()
def shown_batches(
    reader: Reader, material: Material, distillation: Distillation, questions: int, batch_size: int, seed: int
) -> list[Shown]:
    """Training questions with the passages that the initial retriever finds, read once, with attention recorded."""
    train, retrieved = material.questions["train"], material.retrieved["train"]
    count = min(questions, len(train))
    chosen = rng_of(seed, 8).permutation(len(train))[:count]
    batches = []
    for rows in tqdm([chosen[at : at + batch_size] for at in range(0, count, batch_size)], unit="batch", mininterval=5):
        passages = in_prompt_order(retrieved[rows], distillation.passage_order, rng_of(seed, 9))
        asked, texts = [train[row] for row in rows], material.texts(passages)
        answers = [target_answer(question, seed) for question in asked]
        encoded = reader.encode([question.question for question in asked], texts, answers).to(reader.device)
        output = reader(encoded, record=True, value_norm=distillation.value_norm)
        batches.append(Shown(reader, encoded, output, asked, answers, rows, passages, texts, distillation, seed))
    return batches


def indicators(signal: str, batches: Sequence[Shown]) -> dict[str, float]:
    """Numbers that might tell whether a signal teaches, each a mean over questions.

    Places, layers and spread are measured on the first half of the batches, the indicators on the second.

    Returns:
        ``picks``, how often the passage with the largest score bears an answer; ``chance``, how often one drawn at
        random does; ``mass``, the target's share on passages that bear one (these three where some do and some do not,
        NaN where there is no such question); ``entropy`` of the target over log k; ``noise``, how far it is from 1
        where no passage bears an answer; ``nothing_found``, the share of such questions; ``questions``.
    """
    half = (len(batches) + 1) // 2
    measured = measuring.measure(signal, batches[:half])
    judged = [replace(shown, measured=measured) for shown in batches[half:] or batches]
    bears = torch.cat([shown.bears for shown in judged])
    scores = torch.cat([signals.SIGNALS[signal](shown) for shown in judged])
    target = signals.distribution(scores, judged[0].tau)
    tells, nothing = bears.any(1) & ~bears.all(1), ~bears.any(1)
    entropy = torch.special.entr(target).sum(1) / math.log(bears.shape[1])
    share = bears.float().mean(1)
    level = (scores == scores[:, :1]).all(1)  # no passage is picked: any is as likely
    picked = bears.gather(1, scores.argmax(1, keepdim=True))[:, 0].float()
    each = {
        "picks": (torch.where(level, share, picked), tells),
        "chance": (share, tells),
        "mass": ((target * bears).sum(1), tells),
        "entropy": (entropy, torch.ones_like(tells)),
        "noise": (1 - entropy, nothing),
        "nothing_found": (nothing.float(), torch.ones_like(tells)),
    }
    means = {name: float(values[of].mean()) if of.any() else math.nan for name, (values, of) in each.items()}
    return {**means, "questions": len(bears)}
