"""The index between two refreshes: whose it is, what is on the disk, and what is held at a time."""

from __future__ import annotations

import weakref

import pytest
import tiny
import torch
from runs import stop_at, trainer

from attention_distillation.files import InputError, read_json
from attention_distillation.retrieval import index


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    torch.set_num_threads(1)
    return tiny.material(tmp_path_factory.mktemp("material"))


@pytest.fixture
def embedded(monkeypatch):
    """Counts shards that are embedded."""
    calls, embed = [], index.embed_shard
    monkeypatch.setattr(
        index, "embed_shard", lambda *given, **options: calls.append(given[3]) or embed(*given, **options)
    )
    return calls


def test_the_first_index_is_the_one_that_is_given(material, tmp_path, embedded):
    live = trainer(material, tmp_path).index
    live.refresh(0)
    assert embedded == [] and not live.folder.exists()
    asked = material.questions["dev"]
    tokens = live.retriever.question.tokenise([question.question for question in asked])
    assert (live.search(tokens)[1] == material.retrieved["dev"]).all()


@pytest.mark.parametrize("again", [False, True])
def test_the_old_index_is_gone_before_the_new_one_is_made(material, tmp_path, monkeypatch, again):
    """At paper scale each is 32 GB of the GPU's 80."""
    live = trainer(material, tmp_path).index
    live.refresh(0)
    if again:
        live.refresh(2)
    old, seen = weakref.ref(live.searched), []
    for name in ("build", "embed_shard"):
        made = getattr(index, name)
        monkeypatch.setattr(
            index, name, lambda *given, made=made, **options: seen.append(old() is None) or made(*given, **options)
        )
    live.refresh(4)
    assert seen == [True, True] and live.searched is not None


def test_shards_that_are_whole_are_not_made_again(material, tmp_path, embedded):
    live = trainer(material, tmp_path).index
    live.refresh(2)
    live.refresh(2)
    assert len(embedded) == 1 and read_json(live.folder / "step.json") == {"step": 2}
    live.refresh(4)
    assert len(embedded) == 2 and read_json(live.folder / "step.json") == {"step": 4}


def test_shards_are_unmarked_while_they_are_written(material, tmp_path, monkeypatch):
    live = trainer(material, tmp_path).index
    live.refresh(2)

    def full(*_given, **_options):
        raise OSError("no space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="no space"):
        patch.setattr(index, "embed_shard", full)
        live.refresh(4)
    for step in (2, 4):
        with pytest.raises(InputError, match="the index of step"):
            live.reopen(step, 5)


def test_an_index_that_is_gone_is_missed(material, tmp_path, monkeypatch):
    """No other would give the run that was begun, and none is made in silence."""
    with monkeypatch.context() as patch:
        stop_at(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            trainer(material, tmp_path, save_seconds=1e-9).run()
    (tmp_path / "state.index" / "step.json").unlink()
    with pytest.raises(
        InputError, match="the index of step 2, with which the state of step 3 goes on, .* delete .*state "
    ):
        trainer(material, tmp_path).run()


def test_an_index_without_its_state_is_dropped(material, tmp_path, embedded):
    """A run that starts at step 0 must not take the shards of another's step 2 for its own."""
    live = trainer(material, tmp_path).index
    live.refresh(2)
    trainer(material, tmp_path).run()
    assert len(embedded) == 1 + 3


def test_the_retriever_goes_on_as_it_was(material, tmp_path):
    made = trainer(material, tmp_path, dropout=0.5)
    made.index.refresh(2)
    assert made.retriever.training
    made.retriever.eval()
    made.index.refresh(4)
    assert not made.retriever.training
