"""A plain encoder (Contriever's and the miniature's kind) against pooling written out; batches of like length."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attention_distillation.files import InputError
from attention_distillation.models.encoder import length_batches, pad
from attention_distillation.models.retriever import Retriever
from attention_distillation.settings import Retrieval

TEXTS = ["ada bay", "where did ada bay die ?", "axel abel married a singer called amber arrow azure .", "abel"]


@pytest.fixture(scope="module")
def encoder():
    return tiny.bert().passage


def transformer(encoder):
    return encoder.model[0].model


# ------------------------------------------------------------------ vectors


def test_vectors_are_those_of_the_plain_formula_to_the_last_bit(encoder):
    """The sum of the last states under the mask over the number of tokens; attention sees the mask alone."""
    rows = encoder.tokenise(TEXTS)
    for width in (None, 64):
        ids, mask = pad(rows, encoder.tokenizer.pad_token_id, "cpu", width)
        with torch.no_grad():
            hidden = transformer(encoder)(input_ids=ids, attention_mask=mask[:, None, None].bool()).last_hidden_state
            plain = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            assert torch.equal(encoder(rows, width), plain)
            hidden = transformer(encoder)(input_ids=ids[1:2, : len(rows[1])], attention_mask=None).last_hidden_state
            assert torch.equal(encoder(rows[1:2]), hidden.sum(1) / len(rows[1]))


def test_a_vector_is_the_mean_over_the_text_s_own_tokens(encoder):
    rows = encoder.tokenise(TEXTS)
    with torch.no_grad():
        for row, vector in zip(rows, encoder(rows), strict=True):
            hidden = transformer(encoder)(input_ids=torch.tensor(row[None].astype(np.int64))).last_hidden_state[0]
            assert torch.allclose(vector, hidden.sum(0) / len(row), atol=1e-5)


def test_vectors_are_not_normalised(encoder):
    norms = np.linalg.norm(encoder.embed(encoder.tokenise(TEXTS)), axis=1)
    assert np.ptp(norms) > 0.01


@pytest.mark.parametrize("budget", [1, 12, 10_000])
def test_neither_padding_nor_batch_nor_order_changes_a_vector(encoder, budget):
    rows = encoder.tokenise(TEXTS)
    alone = np.concatenate([encoder.embed([row]) for row in rows])
    assert np.allclose(encoder.embed(rows, budget), alone, atol=1e-5)
    assert np.allclose(encoder.embed(rows[::-1], budget)[::-1], alone, atol=1e-5)


def test_padding_tokens_are_masked_whatever_they_are(encoder):
    rows = encoder.tokenise(TEXTS)
    ids, mask = pad(rows, 7, "cpu")
    assert ids.dtype == mask.dtype == torch.int64 and ids.shape == (4, max(map(len, rows)))
    wide, wider = pad(rows, 7, "cpu", 64), encoder(rows, 64)
    assert wide[0].shape == (4, 64) and torch.allclose(wider, encoder(rows), atol=1e-5)
    assert (wide[0][:, : ids.shape[1]] == ids).all() and (wide[1].sum(1) == mask.sum(1)).all()
    assert (ids[mask == 0] == 7).all() and mask.sum(1).tolist() == [len(row) for row in rows]
    assert [ids[n, : len(row)].tolist() for n, row in enumerate(rows)] == [row.tolist() for row in rows]


def test_special_tokens_frame_a_text_and_long_ones_are_cut(tmp_path):
    tiny.bert().save(tmp_path)
    encoder = Retriever.load(tmp_path, Retrieval(passage_max_tokens=16)).passage
    (row,) = encoder.tokenise(["ada bay " * 40])
    names = encoder.tokenizer.convert_ids_to_tokens(row.tolist())
    assert len(row) == 16 and names[0] == "[CLS]" and names[-1] == "[SEP]"


def test_embedding_is_without_dropout_while_the_retriever_is_trained():
    retriever = tiny.bert(dropout=0.5)
    encoder = retriever.passage
    rows = encoder.tokenise(TEXTS)
    still = encoder.embed(rows)
    retriever.train()
    assert (encoder.embed(rows) == still).all() and transformer(encoder).training
    with torch.no_grad():
        assert not np.allclose(encoder(rows).numpy(), still, atol=1e-3)  # the loss does see dropout


def test_gradient_reaches_questions_and_passages():
    retriever = tiny.bert()
    question, passage = retriever.question, retriever.passage
    scores = question(question.tokenise(TEXTS[:1])) @ passage(passage.tokenise(TEXTS[1:])).T
    scores.sum().backward()
    assert all(parameter.grad is not None for parameter in retriever.parameters())


def test_random_weights_are_those_of_a_fresh_model():
    retriever = tiny.bert()
    trained = {key: value.clone() for key, value in retriever.state_dict().items()}
    retriever.randomise(0)
    torch.manual_seed(0)
    fresh = type(transformer(retriever.passage))(transformer(retriever.passage).config, add_pooling_layer=False)
    for key, value in fresh.state_dict().items():
        assert torch.equal(value, transformer(retriever.passage).state_dict()[key])
    assert any(not torch.equal(value, trained[key]) for key, value in retriever.state_dict().items())


def test_lengths_are_the_configs_the_directorys_or_those_of_the_plain(tmp_path):
    plain = Retriever.of(transformer(tiny.bert().passage), tiny.words())
    assert (plain.question.max_tokens, plain.passage.max_tokens) == (40, 200)  # Atlas's
    plain.save(tmp_path / "plain")
    assert Retriever.load(tmp_path / "plain").facts() == plain.facts()
    stated = Retriever.load(tmp_path / "plain", Retrieval(question_max_tokens=9))
    assert (stated.question.max_tokens, stated.passage.max_tokens) == (9, 200)
    with pytest.raises(InputError, match=r"retrieval\.passage_max_tokens: 600 tokens, and .* has 512 positions; lower"):
        Retriever.load(tmp_path / "plain", Retrieval(passage_max_tokens=600))


def test_what_scores_are_divided_by(tmp_path):
    """√d · θ for a dot product; for a cosine θ / 20; and what either takes where the config names no θ."""
    tiny.bert().save(tmp_path)
    dot, cosine = (Retriever.load(tmp_path, Retrieval(similarity=word)) for word in ("dot", "cosine"))
    assert dot.temperature(1.0) == 32**0.5 and dot.temperature(None) == 32**0.5 * 0.01
    assert cosine.temperature(1.0) == cosine.temperature(None) == 0.05 and cosine.temperature(0.5) == 0.025
    lengths = np.linalg.norm(cosine.passage.embed(cosine.passage.tokenise(TEXTS)), axis=1)
    assert np.allclose(lengths, 1) and cosine.similarity == "cosine" and dot.similarity == "dot"


def test_saved_and_loaded_it_is_the_same(encoder, tmp_path):
    tiny.bert().save(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert "model.safetensors" in names and not any(name.endswith((".bin", ".pt", ".pkl")) for name in names)
    again = Retriever.load(tmp_path)
    rows = again.passage.tokenise(TEXTS)
    assert [row.tolist() for row in rows] == [row.tolist() for row in encoder.tokenise(TEXTS)]
    assert (again.passage.embed(rows) == encoder.embed(rows)).all() and again.size == 32


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
