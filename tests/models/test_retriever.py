"""The retriever against naive pooling, and the corpus's token rows against tokenising directly."""

from __future__ import annotations

import os

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

from attention_distillation.data.passages import write_passages
from attention_distillation.models.retriever import (
    Retriever,
    TokenisedCorpus,
    length_batches,
    pad,
    passage_text,
    tokenise_corpus,
)
from attention_distillation.records import Passage

TEXTS = ["ada bay", "where did ada bay die ?", "axel abel married a singer called amber arrow azure .", "abel"]


@pytest.fixture(scope="module")
def encoder():
    return tiny.bert()


# ------------------------------------------------------------------ vectors


def test_a_vector_is_the_mean_over_the_text_s_own_tokens(encoder):
    rows = encoder.tokenise(TEXTS, 64)
    with torch.no_grad():
        for row, vector in zip(rows, encoder(rows), strict=True):
            hidden = encoder.model(input_ids=torch.tensor(row[None].astype(np.int64))).last_hidden_state[0]
            assert torch.allclose(vector, hidden.sum(0) / len(row), atol=1e-5)


def test_vectors_are_not_normalised(encoder):
    norms = np.linalg.norm(encoder.embed(encoder.tokenise(TEXTS, 64)), axis=1)
    assert np.ptp(norms) > 0.01


@pytest.mark.parametrize("budget", [1, 12, 10_000])
def test_neither_padding_nor_batch_nor_order_changes_a_vector(encoder, budget):
    rows = encoder.tokenise(TEXTS, 64)
    alone = np.concatenate([encoder.embed([row]) for row in rows])
    assert np.allclose(encoder.embed(rows, budget), alone, atol=1e-5)
    assert np.allclose(encoder.embed(rows[::-1], budget)[::-1], alone, atol=1e-5)


def test_padding_tokens_are_masked_whatever_they_are(encoder):
    rows = encoder.tokenise(TEXTS, 64)
    ids, mask = pad(rows, 7, "cpu")
    assert ids.dtype == mask.dtype == torch.int64 and ids.shape == (4, max(map(len, rows)))
    wide, wider = pad(rows, 7, "cpu", 64), encoder.eval()(rows, 64)
    assert wide[0].shape == (4, 64) and torch.allclose(wider, encoder(rows), atol=1e-5)
    assert (wide[0][:, : ids.shape[1]] == ids).all() and (wide[1].sum(1) == mask.sum(1)).all()
    assert (ids[mask == 0] == 7).all() and mask.sum(1).tolist() == [len(row) for row in rows]
    assert [ids[n, : len(row)].tolist() for n, row in enumerate(rows)] == [row.tolist() for row in rows]


def test_special_tokens_frame_a_text_and_long_ones_are_cut(encoder):
    (row,) = encoder.tokenise(["ada bay " * 40], 16)
    names = encoder.tokenizer.convert_ids_to_tokens(row.tolist())
    assert len(row) == 16 and names[0] == "[CLS]" and names[-1] == "[SEP]"


def test_embedding_is_without_dropout_while_the_retriever_is_trained():
    encoder = tiny.bert(dropout=0.5)
    rows = encoder.tokenise(TEXTS, 64)
    still = encoder.embed(rows)
    encoder.train()
    assert (encoder.embed(rows) == still).all() and encoder.training and encoder.model.training
    with torch.no_grad():
        assert not np.allclose(encoder(rows).numpy(), still, atol=1e-3)  # the loss does see dropout


def test_gradient_reaches_questions_and_passages(encoder):
    questions, passages = encoder(encoder.tokenise(TEXTS[:1], 9)), encoder(encoder.tokenise(TEXTS[1:], 9))
    (questions @ passages.T).sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.model.parameters())
    encoder.zero_grad(set_to_none=True)


def test_saved_and_loaded_it_is_the_same(encoder, tmp_path):
    encoder.save(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert "model.safetensors" in names and not any(name.endswith((".bin", ".pt", ".pkl")) for name in names)
    again = Retriever.load(tmp_path).eval()
    rows = again.tokenise(TEXTS, 64)
    assert [row.tolist() for row in rows] == [row.tolist() for row in encoder.tokenise(TEXTS, 64)]
    assert (again.embed(rows) == encoder.embed(rows)).all() and again.size == 32


# ------------------------------------------------------------------ batches


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(0, 50), max_size=60), st.integers(1, 200))
def test_batches_are_a_permutation_within_the_budget(lengths, budget):
    lengths = np.asarray(lengths, dtype=int)
    found = list(length_batches(lengths, budget))
    every = np.concatenate([*(rows for rows, _ in found), np.empty(0, int)])
    assert sorted(every.tolist()) == list(range(len(lengths)))
    for rows, width in found:
        assert len(rows) == 1 or len(rows) * width <= budget
        assert width % 8 == 0 and lengths[rows].max() <= width < max(lengths[rows].max(), 1) + 8
    widths = [width for _, width in found]
    assert widths == sorted(widths, reverse=True)


# ------------------------------------------------------------------ the tokenised corpus


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_the_tokenised_corpus_is_what_tokenising_directly_gives(tmp_path, encoder, batch):
    passages = [Passage(str(i), "" if i % 3 else "ada bay", " ".join(TEXTS[: 1 + i % 4])) for i in range(20)]
    write_passages(tmp_path / "p.arrow", passages)
    tokens, offsets = tmp_path / "tokens.npy", tmp_path / "offsets.npy"
    tokenise_corpus(encoder.tokenizer, tmp_path / "p.arrow", 16, tokens, offsets, batch=batch)
    direct = encoder.tokenise([passage_text(p.title, p.text) for p in passages], 16)
    corpus = TokenisedCorpus(tokens, offsets)
    assert len(corpus) == 20 and corpus.lengths(3, 9).tolist() == [len(row) for row in direct[3:9]]
    assert [row.tolist() for row in corpus[range(20)]] == [row.tolist() for row in direct]
    assert [row.tolist() for row in corpus[[9, 2, 2]]] == [direct[n].tolist() for n in (9, 2, 2)]
    whole = np.load(tokens, allow_pickle=False)
    assert whole.dtype == np.uint16 and (whole == np.concatenate(direct)).all()
    assert np.load(offsets).dtype == np.int64
    assert {path.name for path in tmp_path.iterdir()} == {"p.arrow", "tokens.npy", "offsets.npy"}


def test_a_large_vocabulary_takes_four_bytes_a_token(tmp_path, encoder):
    words = Tokenizer(WordLevel({f"w{number}": number for number in range(2**16 + 1)}))
    words.pre_tokenizer = WhitespaceSplit()
    large = PreTrainedTokenizerFast(tokenizer_object=words)
    write_passages(tmp_path / "p.arrow", [Passage("a", "", "w1"), Passage("b", "", "w65536 w3")])
    tokenise_corpus(large, tmp_path / "p.arrow", 16, tmp_path / "t.npy", tmp_path / "o.npy")
    assert np.load(tmp_path / "t.npy").dtype == np.uint32
    assert TokenisedCorpus(tmp_path / "t.npy", tmp_path / "o.npy")[[1]][0].tolist() == [65536, 3]


def test_the_tokens_are_memory_mapped(tmp_path):
    tokens = np.lib.format.open_memmap(tmp_path / "t.npy", mode="w+", dtype=np.uint16, shape=(30_000_000,))
    tokens[-2:] = (5, 6)
    tokens.flush()
    np.save(tmp_path / "o.npy", np.array([0, 29_999_998, 30_000_000]))
    before = _resident()
    corpus = TokenisedCorpus(tmp_path / "t.npy", tmp_path / "o.npy")
    assert corpus[[1]][0].tolist() == [5, 6] and not corpus[[1]][0].flags.writeable
    assert _resident() - before < 20 * 2**20  # of 60 MB


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_passage_without_title_is_its_text():
    assert passage_text("", "text") == "text" and passage_text("Title", "text") == "Title text"
