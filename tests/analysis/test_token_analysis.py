"""Token analysis: similarity, nouns, and units against scipy and numpy one by one."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import synthetic
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from attention_distillation.analysis import token_analysis as ta
from attention_distillation.files import InputError

# ------------------------------------------------------------------ similarity


def test_similarity_is_the_cosine_to_the_nearest_target_token():
    tokens, targets = np.array([[1.0, 0], [0, 2], [1, 1]]), np.array([[3.0, 0], [0, -1]])
    assert ta.similarity(tokens, targets) == pytest.approx([1, 0, np.sqrt(0.5)])
    assert ta.similarity(tokens, targets, "mean") == pytest.approx([0.5, -0.5, 0])


def test_similarity_without_target_is_undefined_and_a_zero_row_is_like_nothing():
    assert np.isnan(ta.similarity(np.ones((2, 3)), np.empty((0, 3)))).all()
    assert ta.similarity(np.zeros((1, 3)), np.ones((1, 3))) == [0]


def test_similarity_refuses_an_unknown_reduction():
    with pytest.raises(InputError, match="neither 'max' nor 'mean'"):
        ta.similarity(np.ones((1, 2)), np.ones((1, 2)), "median")


# ------------------------------------------------------------------ nouns


def test_content_words_are_words_and_numbers_that_are_no_stop_words():
    text = "Who won the 1998 World Cup, in U.S. dollars?"
    (spans,) = ta.nouns([text], "content_words")
    assert [text[a:b] for a, b in spans] == ["won", "1998", "World", "Cup", "U.S.", "dollars"]
    assert ta.nouns(["who is it ?"], "content_words") == [[]]


def test_a_trained_tagger_gives_nouns_and_proper_nouns(tmp_path):
    import spacy

    language = spacy.blank("en")
    ruler = language.add_pipe("attribute_ruler")
    ruler.add([[{"LOWER": "town"}]], {"POS": "NOUN"})
    ruler.add([[{"LOWER": "ada"}]], {"POS": "PROPN"})
    ruler.add([[{"LOWER": "was"}]], {"POS": "VERB"})
    language.to_disk(tmp_path / "tagger")
    text = "which town was Ada of"
    assert [text[a:b] for a, b in ta.nouns([text], "world", tmp_path / "tagger")[0]] == ["town", "Ada"]


@pytest.mark.parametrize(
    ("kind", "folder", "words"),
    [
        ("world", None, "choose content_words"),
        ("world", "no/such/folder", "is made again, or choose content_words"),
        ("en_core_web_sm", None, "choose content_words"),
        ("flair", None, "none of en_core_web_sm"),
    ],
)
def test_a_missing_tagger_is_told_with_its_remedy(kind, folder, words):
    with pytest.raises(InputError, match=words):
        ta.nouns(["who ?"], kind, folder)


# ------------------------------------------------------------------ units


def naive(unit: pd.DataFrame, target: str, percentile: int) -> tuple[float, float, int]:
    similar = unit[f"similarity_{target}"].to_numpy(dtype=np.float64)
    if np.isnan(similar).all():
        return np.nan, np.nan, 0
    attention = unit["attention"].to_numpy(dtype=np.float64)
    near = similar >= np.percentile(similar, percentile)
    x, y = attention[near], similar[near]
    defined = near.sum() >= 3 and len(set(x)) > 1 and len(set(y)) > 1
    rho = stats.spearmanr(x, y).statistic if defined else np.nan
    return (attention / attention.sum())[near].mean(), rho, int(near.sum())


def check(frame: pd.DataFrame) -> None:
    units = ta.analyse_units(frame)
    groups = dict(tuple(frame.groupby(["instance", "passage"])))
    assert list(zip(units["instance"], units["passage"], strict=True)) == sorted(groups)
    for row in units.itertuples():
        for target in ta.TARGETS:
            for percentile in ta.PERCENTILES:
                mean, rho, count = naive(groups[row.instance, row.passage], target, percentile)
                assert getattr(row, f"nearest_{target}_{percentile}") == count
                assert getattr(row, f"attention_{target}_{percentile}") == pytest.approx(mean, rel=1e-12, nan_ok=True)
                assert getattr(row, f"spearman_{target}_{percentile}") == pytest.approx(rho, abs=1e-12, nan_ok=True)


def test_units_agree_with_scipy_and_numpy_one_by_one():
    table = synthetic.dump_table(np.random.default_rng(0), synthetic.EFFECTS["step2"], 12, tokens=120)
    check(table.to_pandas())


def test_rows_in_any_order_give_the_same_units():
    frame = synthetic.dump_table(np.random.default_rng(1), synthetic.EFFECTS["step1"], 5).to_pandas()
    shuffled = frame.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(ta.analyse_units(frame), ta.analyse_units(shuffled))


@st.composite
def dumps(draw):
    """Few distinct values, so that ties are everywhere; units of 1 to 60 tokens; some questions without nouns."""
    rows = []
    for instance in range(draw(st.integers(1, 4))):
        noun = draw(st.booleans())
        for passage in range(draw(st.integers(1, 3))):
            size = draw(st.integers(1, 60))
            levels = draw(st.integers(1, 6))
            generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
            values = generator.integers(1, levels + 1, (3, size)) / np.float32(7)
            for token in range(size):
                rows.append((instance, passage, *values[:2, token], values[2, token] if noun else np.nan))
    columns = ["instance", "passage", "attention", "similarity_answer", "similarity_question"]
    return (
        pd.DataFrame(rows, columns=columns)
        .astype({name: np.float32 for name in columns[2:]} | {"instance": np.int32, "passage": np.int8})
        .assign(answer_bearing=False)
    )


@settings(max_examples=60, deadline=None)
@given(dumps())
def test_units_with_ties_agree_with_scipy_and_numpy(frame):
    check(frame)


def test_attention_is_relative_to_the_unit_and_its_mass_is_the_sum():
    frame = synthetic.dump_table(np.random.default_rng(2), synthetic.EFFECTS["step1"], 3).to_pandas()
    scaled = frame.assign(attention=frame["attention"].astype(np.float64) * 8.0)
    units, eightfold = ta.analyse_units(frame), ta.analyse_units(scaled)
    pd.testing.assert_frame_equal(units.drop(columns="mass"), eightfold.drop(columns="mass"))
    sums = frame.groupby(["instance", "passage"])[["attention", "answer_bearing"]].agg(["sum", "first"])
    np.testing.assert_allclose(units["mass"], sums["attention"]["sum"], rtol=1e-5)
    np.testing.assert_allclose(eightfold["mass"], 8 * units["mass"])
    assert (
        units["answer_bearing"].tolist() == sums["answer_bearing"]["first"].tolist() and units["answer_bearing"].any()
    )


def test_spearman_needs_three_tokens_that_differ():
    frame = pd.DataFrame(
        {
            "instance": 0, "passage": [0] * 2 + [1] * 40, "attention": [1.0, 2] + [1.0] * 40,
            "similarity_answer": [0.1, 0.2] + list(np.linspace(0, 1, 40)), "similarity_question": np.nan,
            "answer_bearing": True,
        }
    )  # fmt: skip
    units = ta.analyse_units(frame)
    assert units["spearman_answer_90"].isna().all()
    assert list(units["nearest_answer_90"]) == [1, 4]
    assert units["attention_answer_90"].tolist() == pytest.approx([2 / 3, 1 / 40])
    assert units["attention_question_95"].isna().all() and (units["nearest_question_95"] == 0).all()


def test_no_rows_no_units():
    frame = synthetic.dump_table(np.random.default_rng(2), synthetic.EFFECTS["step1"], 1).to_pandas().iloc[:0]
    assert len(ta.analyse_units(frame)) == 0


def test_a_million_tokens_take_seconds():
    size = 1_000_000
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "instance": np.repeat(np.arange(size // 500), 500).astype(np.int32),
            "passage": np.tile(np.repeat(np.arange(5), 100), size // 500).astype(np.int8),
            "attention": generator.random(size, dtype=np.float32),
            "similarity_answer": generator.random(size, dtype=np.float32),
            "similarity_question": generator.random(size, dtype=np.float32),
            "answer_bearing": np.arange(size) % 500 < 100,
        }
    )
    start = time.process_time()
    assert len(ta.analyse_units(frame)) == size // 100
    assert time.process_time() - start < 10


# ------------------------------------------------------------------ files


def test_units_are_read_back_with_nulls_and_provenance(tmp_path):
    paths = synthetic.make(tmp_path, datasets=("nq",), experiments=("step1",), seeds=(0, 3), instances=10)
    parts = []
    for seed, path in zip((0, 3), paths["attention.parquet"], strict=True):
        frame, origin = ta.read_dump(path)
        parts.append(("nq", "step1", seed, ta.analyse_units(frame), origin))
    for name in ("a", "b"):
        ta.write_units(tmp_path / f"{name}.parquet", parts)
    units, origins = ta.read_units(tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert len(units) == 100 and set(units["seed"]) == {0, 3}
    assert units["attention_question_90"].isna().sum() == 10  # every tenth question has no noun
    assert pq.read_table(tmp_path / "a.parquet")["attention_question_90"].null_count == 10
    assert origins["nq/step1/seed3"]["nouns"] == "content_words"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: table.drop_columns("similarity_question"), "column 'similarity_question' is missing"),
        (
            lambda table: table.set_column(
                5, "attention", [np.r_[np.float32(-1), np.ones(len(table) - 1, dtype=np.float32)]]
            ),
            r"row 1: attention is -1\.0",
        ),
    ],
)
def test_a_faulty_dump_is_told_with_its_place(tmp_path, change, words):
    table = synthetic.dump_table(np.random.default_rng(0), synthetic.EFFECTS["step1"], 2)
    pq.write_table(change(table), tmp_path / "attention.parquet")
    with pytest.raises(InputError, match=words):
        ta.read_dump(tmp_path / "attention.parquet")
