"""The corpus's token rows against tokenising directly."""

from __future__ import annotations

import os

import numpy as np
import pytest
import tiny

from attention_distillation.data.passages import write_passages
from attention_distillation.models.retriever import Retriever
from attention_distillation.records import Passage
from attention_distillation.retrieval.tokens import TokenisedCorpus, tokenise_corpus
from attention_distillation.settings import Retrieval

TEXTS = ["ada bay", "where did ada bay die ?", "axel abel married a singer called amber arrow azure .", "abel"]


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_the_tokenised_corpus_is_what_tokenising_directly_gives(tmp_path, batch):
    tiny.bert().save(tmp_path / "retriever")
    encoder = Retriever.load(tmp_path / "retriever", Retrieval(passage_max_tokens=16, passage_prompt="abel ")).passage
    passages = [Passage(str(i), "" if i % 3 else "ada bay", " ".join(TEXTS[: 1 + i % 4])) for i in range(20)]
    write_passages(tmp_path / "p.arrow", passages)
    tokens, offsets = tmp_path / "tokens.npy", tmp_path / "offsets.npy"
    tokenise_corpus(encoder, tmp_path / "p.arrow", tokens, offsets, batch=batch)
    texts = [f"abel {p.title} {p.text}" if p.title else f"abel {p.text}" for p in passages]
    direct = [np.asarray(row) for row in encoder.tokenizer(texts, truncation=True, max_length=16)["input_ids"]]
    assert max(map(len, direct)) == 16
    corpus = TokenisedCorpus(tokens, offsets)
    assert len(corpus) == 20 and corpus.lengths(3, 9).tolist() == [len(row) for row in direct[3:9]]
    assert [row.tolist() for row in corpus[range(20)]] == [row.tolist() for row in direct]
    assert [row.tolist() for row in corpus[[9, 2, 2]]] == [direct[n].tolist() for n in (9, 2, 2)]
    whole = np.load(tokens, allow_pickle=False)
    assert whole.dtype == np.uint16 and (whole == np.concatenate(direct)).all()
    assert np.load(offsets).dtype == np.int64
    assert {path.name for path in tmp_path.iterdir()} == {"p.arrow", "tokens.npy", "offsets.npy", "retriever"}


def test_a_large_vocabulary_takes_four_bytes_a_token(tmp_path):
    class Large:
        tokenizer = range(2**16 + 1)

        def passage_text(self, _title, text):
            return text

        def token_lists(self, texts):
            return [[65536, 3] for _ in texts]

    write_passages(tmp_path / "p.arrow", [Passage("a", "", "x"), Passage("b", "", "y")])
    tokenise_corpus(Large(), tmp_path / "p.arrow", tmp_path / "t.npy", tmp_path / "o.npy")
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
