"""The index against sorting all scores, and shards against the whole."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch

from attention_distillation.data import miniature
from attention_distillation.files import InputError
from attention_distillation.records import read_retrieved, retrieved_facts
from attention_distillation.retrieval import index
from attention_distillation.settings import Retrieval


def vectors(rows: int, size: int = 16, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, size)).astype(np.float32)


def whole_numbers(rows: int, seed: int = 0) -> np.ndarray:
    """Few different vectors of small whole numbers: products are exact and ties are everywhere."""
    return np.random.default_rng(seed).integers(-1, 2, (rows, 4)).astype(np.float32)


def split(matrix: np.ndarray, shards: int) -> list[np.ndarray]:
    bounds = [index.shard_bounds(len(matrix), shard, shards) for shard in range(shards)]
    return [matrix[start:stop] for start, stop in bounds]


# ------------------------------------------------------------------ shards


@pytest.mark.parametrize(("passages", "shards"), [(10, 1), (10, 3), (7, 7), (21_015_324, 16), (3, 5)])
def test_shards_cover_the_corpus_evenly(passages, shards):
    bounds = [index.shard_bounds(passages, shard, shards) for shard in range(shards)]
    assert bounds[0][0] == 0 and bounds[-1][1] == passages
    assert all(a[1] == b[0] for a, b in zip(bounds, bounds[1:], strict=False))
    sizes = [stop - start for start, stop in bounds]
    assert max(sizes) - min(sizes) <= 1


@pytest.fixture(scope="module")
def embedded(tmp_path_factory):
    """The world's passages, embedded whole and in shards."""
    folder = tmp_path_factory.mktemp("corpus")
    _, corpus = tiny.corpus_files(folder)
    encoder = tiny.bert().passage

    def embed(name, bounds, dtype="float32", batch_tokens=600):
        index.embed_shard(
            encoder, corpus, bounds, folder / name, batch_tokens=batch_tokens, dtype=dtype, progress=False
        )
        return folder / name

    return corpus, encoder, embed


def test_shards_hold_what_the_whole_holds_and_what_embedding_directly_gives(embedded):
    corpus, encoder, embed = embedded
    size = len(corpus)
    (whole,) = index.open_shards([embed("whole.npy", (0, size))])
    paths = [embed(f"shard-{n}.npy", index.shard_bounds(size, n, 4)) for n in range(4)]
    parts = index.open_shards(paths)
    assert whole.dtype == np.float32 and [len(part) for part in parts] == [7, 8, 7, 8]
    assert np.allclose(np.concatenate(parts), whole, atol=1e-5)
    assert np.allclose(whole, encoder.embed(corpus[range(size)]), atol=1e-5)
    assert isinstance(whole, np.memmap) and not whole.flags.writeable


@pytest.mark.parametrize("block", [1, 7, 29])
def test_a_shard_is_the_same_whatever_block_it_is_made_in(monkeypatch, embedded, block):
    corpus, _, embed = embedded
    (whole,) = index.open_shards([embed("at-once.npy", (3, len(corpus)))])
    monkeypatch.setattr(index, "BLOCK_ROWS", block)
    (made,) = index.open_shards([embed(f"block-{block}.npy", (3, len(corpus)))])
    assert made.shape == whole.shape and np.allclose(made, whole, atol=1e-5)


def test_half_precision_shards(embedded):
    corpus, _, embed = embedded
    full, half = index.open_shards([embed("a.npy", (0, 30)), embed("b.npy", (0, 30), dtype="float16")])
    assert half.dtype == np.float16 and half.nbytes * 2 == full.nbytes
    assert np.allclose(half, full, rtol=1e-3, atol=1e-3)
    found, rows = index.ExactIndex([half]).search(np.asarray(full[:3]), 5)
    assert found.dtype == np.float32
    assert (rows == tiny.naive_search(np.asarray(half), np.asarray(full[:3]), 5)[1]).all()


def test_more_shards_than_passages(embedded):
    _, encoder, embed = embedded
    shards = index.open_shards([embed(f"few-{n}.npy", index.shard_bounds(2, n, 3)) for n in range(3)])
    assert sorted(map(len, shards)) == [0, 1, 1]
    assert index.ExactIndex(shards).search(vectors(4, encoder.size), 2)[1].shape == (4, 2)


# ------------------------------------------------------------------ exact search


@pytest.mark.parametrize("block", [1, 7, 64, 10**6])
@pytest.mark.parametrize("shards", [1, 3])
def test_exact_search_is_sorting_all_scores(monkeypatch, block, shards):
    monkeypatch.setattr(index, "BLOCK_ROWS", block)
    matrix, questions = vectors(130), vectors(9, seed=1)
    found = index.ExactIndex(split(matrix, shards))
    scores, rows = found.search(questions, 6)
    wanted, places = tiny.naive_search(matrix, questions, 6)
    assert len(found) == 130 and scores.dtype == np.float32 and rows.dtype == np.int64
    assert (rows == places).all() and np.allclose(scores, wanted, atol=1e-5)


@pytest.mark.parametrize("block", [1, 5, 8, 64, 10**6])
@pytest.mark.parametrize("k", [1, 3, 10])
def test_of_equal_scores_the_lower_row_comes_first(monkeypatch, block, k):
    monkeypatch.setattr(index, "BLOCK_ROWS", block)
    matrix, questions = whole_numbers(120), whole_numbers(25, seed=1)
    scores, rows = index.ExactIndex(split(matrix, 2)).search(questions, k)
    wanted, places = tiny.naive_search(matrix, questions, k)
    assert (scores == wanted).all()
    assert (rows == places).all()


def test_all_scores_equal():
    matrix = np.ones((50, 4), np.float32)
    assert index.ExactIndex([matrix[:20], matrix[20:]]).search(matrix[:2], 5)[1].tolist() == [[0, 1, 2, 3, 4]] * 2


def test_as_many_as_there_are():
    _, rows = index.ExactIndex(split(vectors(7), 3)).search(vectors(2, seed=1), 7)
    assert (np.sort(rows, 1) == np.arange(7)).all()


def test_a_search_keeps_no_page_of_the_shards(tmp_path, monkeypatch):
    """60 MB on disk: what a search has read of them is not the process's any more."""
    monkeypatch.setattr(index, "BLOCK_ROWS", 2**14)
    np.save(tmp_path / "s.npy", vectors(240_000, 64))
    shards = index.open_shards([tmp_path / "s.npy"])
    index.ExactIndex(shards).search(vectors(1, 64, seed=1), 5)  # what FAISS loads is not counted
    before = _mapped()
    shards[0].sum()
    assert _mapped() - before > 50  # so large would it be
    _, rows = index.ExactIndex(shards).search(vectors(2, 64, seed=1), 5)
    assert _mapped() - before < 10
    assert rows.tolist() == tiny.naive_search(np.asarray(shards[0]), vectors(2, 64, seed=1), 5)[1].tolist()


def _mapped() -> float:
    """Pages of files that this process holds, MB."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("RssFile"))


def test_search_does_not_change_the_shards():
    matrix = vectors(20)
    matrix.flags.writeable = False
    index.ExactIndex([matrix]).search(vectors(3, seed=1), 5)


# ------------------------------------------------------------------ what the settings ask for


def test_more_passages_than_the_corpus_has():
    with pytest.raises(InputError, match=r"retrieval\.k: 5 passages are asked for, and the corpus has 4; lower k"):
        index.build([vectors(2), vectors(2)], Retrieval(k=5))


def test_the_matrix_in_memory_is_the_same_up_to_bfloat16():
    matrix, questions = vectors(200), vectors(20, seed=1)
    found = index.build(split(matrix, 3), Retrieval(k=5), "cpu")
    assert isinstance(found, index.ExactIndex)
    dense = index.TorchIndex(split(matrix, 3), "cpu")
    scores, rows = dense.search(questions, 5)
    assert len(dense) == 200 and scores.dtype == np.float32 and rows.dtype == np.int64
    assert index.recall(dense, found, questions, 5) > 0.9
    assert np.allclose(scores, found.search(questions, 5)[0], atol=0.15)


@pytest.mark.parametrize("rows", [3, 32, 33, 5000])
@pytest.mark.parametrize("asked", [1, 7, 64, 130])
def test_search_by_groups_is_exact_search_over_the_rounded_matrix(monkeypatch, rows, asked):
    """Blocks, batches of questions and the last group are cut short."""
    monkeypatch.setattr(index, "BLOCK_SCORES", 2**15)
    monkeypatch.setattr(index, "GEMV_ELEMENTS", 2**15)
    matrix, questions = vectors(rows, seed=2), vectors(asked, seed=3)
    rounded = torch.from_numpy(matrix).bfloat16().float().numpy()
    scores, places = index.TorchIndex(split(matrix, 2), "cpu").search(questions, 3)
    wanted, expected = index.ExactIndex(split(rounded, 2)).search(questions, 3)
    assert (places == expected).all() and np.allclose(scores, wanted, atol=1e-5)


def test_search_by_groups_gives_the_lower_of_equal_rows_and_no_padding():
    matrix = whole_numbers(100)
    scores, rows = index.TorchIndex([matrix], "cpu").search(whole_numbers(20, seed=1), 5)
    wanted, places = tiny.naive_search(matrix, whole_numbers(20, seed=1), 5)
    assert (scores == wanted).all() and (rows == places).all()
    worst = -np.ones((40, 4), np.float32)  # every real score is below the padding's zero
    assert index.TorchIndex([worst], "cpu").search(np.ones((1, 4), np.float32), 5)[1].tolist() == [[0, 1, 2, 3, 4]]


def test_bfloat16_scores_that_tie_do_not_decide_the_order():
    """Scores near 1 that differ by a thousandth are one number in bfloat16."""
    matrix = np.zeros((20000, 64), np.float32)
    matrix[:, 0] = 0.5
    draw = np.random.default_rng(0)
    for place, row in enumerate(draw.permutation(20000)[:20]):
        matrix[row, 1] = (40 - place) / 64  # held exactly
    question = np.zeros((1, 64), np.float32)
    question[0, 0], question[0, 1] = 2, 0.03
    scores, rows = index.TorchIndex([matrix], "cpu").search(question, 5)
    wanted, places = tiny.naive_search(matrix, question, 5)
    assert len(np.unique(torch.from_numpy(wanted).bfloat16().float())) < 5
    assert (rows == places).all() and np.allclose(scores, wanted)


def test_compressed_search_and_its_recall():
    centres = vectors(40, size=32, seed=3)
    matrix = (centres[np.arange(800) % 40] + 0.3 * vectors(800, size=32)).astype(np.float32)
    questions = matrix[:40] + 0.1 * vectors(40, size=32, seed=4)
    exact = index.ExactIndex([matrix])
    few, many = (
        index.build(split(matrix, 3), Retrieval(k=5, index="ivfpq", lists=16, probes=probes, code_bytes=16))
        for probes in (1, 16)
    )
    assert len(many) == 800
    recalls = [index.recall(found, exact, questions, 5) for found in (few, many)]
    assert 0 <= recalls[0] <= recalls[1] <= 1 and recalls[1] > 0.5
    assert index.recall(exact, exact, questions, 5) == 1.0
    again = index.build(split(matrix, 2), Retrieval(k=5, index="ivfpq", lists=16, probes=16, code_bytes=16))
    assert (again.search(questions, 5)[1] == many.search(questions, 5)[1]).all()  # the same from other shards


def test_an_approximate_index_tells_its_recall_with_what_it_found(tmp_path, capsys):
    matrix, retriever = vectors(400, size=32), tiny.bert()
    texts = [question.question for question in miniature.questions(tiny.WORLD)["train"]]
    questions = retriever.question.embed(retriever.question.tokenise(texts))
    told = {}
    for kind in ("exact", "ivfpq"):
        settings, path = Retrieval(k=5, index=kind, lists=4, probes=1, code_bytes=8), tmp_path / f"{kind}.parquet"
        found = index.build(split(matrix, 2), settings)
        index.retrieve(found, split(matrix, 2), retriever, texts, settings, path)
        assert (read_retrieved(path, 400) == found.search(questions, 5)[1]).all()
        told[kind] = retrieved_facts(path)
    assert told["exact"] == {"retriever": retriever.facts()} and told["exact"]["retriever"]["similarity"] == "dot"
    assert 0 < told["ivfpq"]["recall_against_exact"] < 1
    assert "of the exact 5 nearest" in capsys.readouterr().err


def test_lists_too_short_for_k_give_no_row_that_the_corpus_lacks():
    matrix = vectors(300)
    found = index.build([matrix], Retrieval(k=5, index="ivfpq", lists=256, probes=1, code_bytes=8))
    scores, rows = found.search(vectors(50, seed=2), 5)
    assert rows.min() >= 0 and rows.max() < 300 and np.isfinite(scores).all()


@pytest.mark.parametrize(
    ("rows", "retrieval", "said"),
    [
        (200, {"lists": 16}, r"ivfpq needs 256 passages or more; use 'exact'"),
        (500, {"lists": 600}, r"ivfpq needs 600 passages or more"),
        (300, {"code_bytes": 5}, r"retrieval\.code_bytes: 5 does not divide the 16 values of a vector"),
    ],
)
def test_what_compression_cannot_do(rows, retrieval, said):
    with pytest.raises(InputError, match=said):
        index.build([vectors(rows)], Retrieval(k=5, index="ivfpq", **{"code_bytes": 8, **retrieval}))
