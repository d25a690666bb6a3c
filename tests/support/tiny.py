"""A world of a few people, a retriever of one layer and the material of a run: enough to train in a second."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import models
import numpy as np

from attention_distillation.data import miniature
from attention_distillation.data.passages import Passages, write_passages
from attention_distillation.models.pretraining import make_model, make_tokenizer
from attention_distillation.models.retriever import Retriever
from attention_distillation.retrieval import index
from attention_distillation.retrieval.tokens import TokenisedCorpus, tokenise_corpus
from attention_distillation.settings import Pretraining, Retrieval, World
from attention_distillation.training.context import Material

WORLD = World(variant="nq", people=5, train=12, dev=6, test=8, seed=2)
RETRIEVAL = Retrieval(k=3, passage_max_tokens=64, question_max_tokens=24)
SHAPE = Pretraining(hidden_size=32, layers=1, heads=2, steps={}, batch_size={}, learning_rate={})


@lru_cache
def words():
    return make_tokenizer("retriever", None, 0)


def bert(seed: int = 0, dropout: float = 0.0, retrieval: Retrieval = RETRIEVAL) -> Retriever:
    """A retriever with weights large enough that passages are told apart; a fresh one at every call."""
    tokenizer = words()
    model = make_model("retriever", len(tokenizer), SHAPE, tokenizer.pad_token_id, tokenizer.eos_token_id)
    model = models.randomise(model, seed)
    retriever = Retriever.of(model, tokenizer, retrieval).eval()
    for module in retriever.modules():
        if hasattr(module, "p"):
            module.p = dropout
    return retriever


def corpus_files(folder: Path, world: World = WORLD) -> tuple[Path, TokenisedCorpus]:
    """``passages.arrow`` and the tokenised corpus of a world."""
    path, tokens, offsets = folder / "passages.arrow", folder / "tokens.npy", folder / "offsets.npy"
    write_passages(path, miniature.passages(world))
    tokenise_corpus(bert().passage, path, tokens, offsets)
    return path, TokenisedCorpus(tokens, offsets)


def material(folder: Path, encoder: Retriever | None = None) -> Material:
    """All that a run reads, as the rules before training write it."""
    encoder = encoder or bert()
    folder.mkdir(parents=True, exist_ok=True)
    path, tokens = corpus_files(folder)
    shard, bounds = folder / "shard-0.npy", (0, len(tokens))
    index.embed_shard(encoder.passage, tokens, bounds, shard, batch_tokens=2000, progress=False)
    shards = index.open_shards([folder / "shard-0.npy"])
    questions = miniature.questions(WORLD)
    retrieved = {}
    for split, asked in questions.items():
        vectors = encoder.question.embed(encoder.question.tokenise([q.question for q in asked]))
        retrieved[split] = index.ExactIndex(shards).search(vectors, RETRIEVAL.k)[1]
    return Material(Passages(path), questions, retrieved, tokens, shards)


def naive_search(matrix: np.ndarray, questions: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k largest inner products in float64; of equal ones the lower row first."""
    scores = questions.astype(np.float64) @ matrix.astype(np.float64).T
    rows = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, rows, 1), rows
