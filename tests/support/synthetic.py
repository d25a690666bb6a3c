"""A results folder made up without any model: every file that the analysis side reads, with planted effects.

Answer-related attention of an experiment is ``exp(strength * similarity)`` with noise, so a stronger experiment has
higher means and higher Spearman values; an instance's own level moves both targets' similarity to attention alike.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from attention_distillation.records import dump_schema
from attention_distillation.reporting.labels import published

VERSIONS = {"numpy": "2.4", "torch": "2.13"}


@dataclass(frozen=True)
class Effect:
    """What an experiment is made to show: attention's pull to answer and question tokens, EM, HR@5."""

    answer: float
    question: float
    em: float
    hit: float


EFFECTS = {
    "checkpoint": Effect(1.0, 0.6, 0.30, 0.60),
    "off_the_shelf": Effect(0.2, 0.2, 0.15, 0.10),
    "step1": Effect(2.0, 2.0, 0.50, 0.60),
    "step2": Effect(2.6, 2.2, 0.70, 0.85),
    "atlas": Effect(3.0, 1.0, 0.80, 0.90),
    "perplexity": Effect(0.0, 0.0, 0.40, 0.70),
}
TITLES = published()["experiments"]
DATASET_TITLES = published()["datasets"]


def labels(datasets=("nq", "triviaqa"), seeds=(0,), scale="miniature") -> dict:
    """Labels as module ``labels`` gives them for a run."""
    return {
        "scale": scale,
        "seeds": list(seeds),
        "experiments": dict(TITLES),
        "datasets": {name: DATASET_TITLES.get(name, name.title()) for name in datasets},
        "decoder_only": ["checkpoint", "off_the_shelf", "step1", "step2"],
        "k": 5,
        "reading": {"unit": "passage", "similarity": "max", "attention": "share"},
    }


def dump_table(generator, effect: Effect, instances: int, passages: int = 5, tokens: int = 60, origin=None) -> pa.Table:
    """One run's dump; every tenth question has no noun (null similarity)."""
    shape = (instances, passages, tokens)
    instance, passage, token = (axis.reshape(-1) for axis in np.indices(shape))
    size = instance.size
    answer, question = generator.beta(0.4, 2.0, (2, size))  # skewed, so that near tokens differ
    level = generator.normal(0, 1.0, instances)[instance]
    pull = (1 + level) * (effect.answer * answer + effect.question * question)
    attention = np.exp(pull + generator.normal(0, 0.7, size)) * 1e-3
    nouns = instance % 10 != 9
    schema = dump_schema().with_metadata({"provenance": json.dumps(origin or {})})
    columns = [
        instance * 2,
        passage,
        instance * passages + passage,
        token,
        np.full(size, "word"),
        attention,
        [[cosine] for cosine in answer],
        [[cosine] if noun else None for cosine, noun in zip(question, nouns, strict=True)],
        np.where(token < 3, "title", "text"),
        passage == instance % passages,
    ]
    return pa.table(
        [
            pa.array(c, f.type) if isinstance(c, list) else pa.array(c).cast(f.type)
            for c, f in zip(columns, schema, strict=True)
        ],
        schema=schema,
    )


def make(
    root: Path,
    datasets=("nq", "triviaqa"),
    experiments=tuple(EFFECTS),
    seeds=(0,),
    instances: int = 40,
    questions: int = 120,
    tokens: int = 60,
    effects: dict[str, Effect] = EFFECTS,
) -> dict[str, list[Path]]:
    """Write a whole results folder; returns the paths by file name."""
    made: dict[str, list[Path]] = {}
    for d, dataset in enumerate(datasets):
        difficulty = np.random.default_rng(d).uniform(size=questions)
        for e, experiment in enumerate(experiments):
            for seed in seeds:
                generator = np.random.default_rng([d, e, seed])
                effect = effects[experiment]
                origin = {
                    "config_hash": "abc123def456", "device": "cpu", "nouns": "content_words", "python": "3.11",
                    "versions": VERSIONS, "dataset": dataset, "experiment": experiment, "seed": seed,
                }  # fmt: skip
                folder = root / dataset / experiment / f"seed{seed}"
                folder.mkdir(parents=True, exist_ok=True)
                table = dump_table(generator, effect, instances, tokens=tokens, origin=origin)
                pq.write_table(table, folder / "attention.parquet")
                luck = 0.7 * difficulty + 0.3 * generator.uniform(size=questions)
                em, hit = luck < effect.em, luck < effect.hit
                f1 = np.clip(em + 0.2 * generator.uniform(size=questions), 0, 1)
                lines = [
                    {
                        "id": f"{dataset}-{i}", "question": "who ?", "answers": ["a"], "prediction": "a",
                        "em": int(em[i]), "f1": float(f1[i]), "hit": int(hit[i]), "passages": [0, 1, 2, 3, 4],
                    }
                    for i in range(questions)
                ]  # fmt: skip
                (folder / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
                metrics = {"em": 100 * em.mean(), "f1": 100 * f1.mean(), "hr_at_5": hit.mean(), "n": questions}
                (folder / "metrics.json").write_text(json.dumps({**metrics, "provenance": origin}))
                names = ["attention.parquet", "predictions.jsonl", "metrics.json"]
                if experiment != "checkpoint":
                    names.append("log.jsonl")
                    steps = np.arange(0, 601, 100)
                    start, end = EFFECTS["checkpoint"].hit, effect.hit
                    curve = (
                        end + (start - end) * np.exp(-steps / 150) + generator.normal(0, 0.02, len(steps)) * (steps > 0)
                    )
                    log = [
                        {
                            "step": int(step), "reader_loss": None, "retriever_loss": 0.1, "hr_at_5": float(hr),
                            "questions_per_second": 9.0, "seconds": float(step),
                        }
                        for step, hr in zip(steps, curve, strict=True)
                    ]  # fmt: skip
                    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
                for name in names:
                    made.setdefault(name, []).append(folder / name)
    return made
