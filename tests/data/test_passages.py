"""The corpus: what is written is read, in order and here and there, and memory does not keep it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attention_distillation.data.inputs import SEEN, read_passages
from attention_distillation.data.passages import Passages, give_back, iterate_passages, write_passages
from attention_distillation.files import write_jsonl
from attention_distillation.records import Passage

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
FULL = TEXTS.filter(SEEN.search)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.builds(Passage, FULL, TEXTS, FULL), min_size=1, max_size=8, unique_by=lambda p: p.id), st.booleans())
def test_passages_survive_writing(passages, small_batches):
    with tempfile.TemporaryDirectory() as folder:
        source, path = Path(folder) / "p.jsonl", Path(folder) / "passages.arrow"
        write_jsonl(source, [vars(passage) for passage in passages])
        assert list(read_passages(source)) == passages
        assert write_passages(path, iter(passages), batch=2 if small_batches else 100) == len(passages)
        corpus = Passages(path)
        assert [Passage(**row) for row in corpus] == passages


def test_the_corpus_is_memory_mapped_not_read(tmp_path):
    write_passages(tmp_path / "p.arrow", (Passage(str(i), "", "word " * 50) for i in range(5000)), batch=500)
    before = pa.total_allocated_bytes()
    corpus = Passages(tmp_path / "p.arrow")
    assert corpus[4321]["id"] == "4321" and len(corpus) == 5000
    assert pa.total_allocated_bytes() - before < (tmp_path / "p.arrow").stat().st_size / 4


def resident(path: Path) -> int:
    """Bytes of a mapped file that count as this process's own."""
    maps = Path("/proc/self/smaps").read_text("utf-8").split(str(path))[1:]
    return sum(int(part.split("Rss:")[1].split()[0]) * 1024 for part in maps)


def test_what_was_read_does_not_stay_in_memory(tmp_path):
    path = tmp_path / "p.arrow"
    write_passages(path, (Passage(str(i), "", "word " * 100) for i in range(20_000)), batch=500)
    corpus = Passages(path)
    found = [corpus[list(range(row, row + 5))]["id"][0] for row in range(0, 20_000, 5)]
    assert found == [str(row) for row in range(0, 20_000, 5)]
    assert path.stat().st_size > 10e6 and resident(path) < 4e6
    left = corpus[[3, 19_999]]
    assert left["id"] == ["3", "19999"] and corpus[7]["text"] == "word " * 100
    with pytest.raises(IndexError):
        corpus[20_000]


@pytest.mark.parametrize("batch", [1, 3, 4, 100])
def test_passages_one_after_another(tmp_path, batch):
    passages = [Passage(str(n), f"t{n}", f"text {n}") for n in range(10)]
    write_passages(tmp_path / "p.arrow", passages, batch=4)
    parts = list(iterate_passages(tmp_path / "p.arrow", batch))
    assert [pair for part in parts for pair in part] == [(p.title, p.text) for p in passages]
    assert max(map(len, parts)) == min(batch, 4)


def test_pages_that_were_given_back_are_read_again(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(100_000))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    part = mapped[500:600]
    total = mapped.sum()
    give_back(mapped)
    give_back(np.arange(3))  # nothing is mapped: nothing to do
    assert mapped.sum() == total and part.tolist() == list(range(500, 600))
