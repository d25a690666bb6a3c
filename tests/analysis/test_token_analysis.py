"""Token analysis: similarity, nouns, and units against scipy and numpy one by one."""

from __future__ import annotations

import itertools
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
from attention_distillation.settings import Analysis

# ------------------------------------------------------------------ similarity


def test_cosines_are_of_every_token_with_every_target_token():
    tokens, targets = np.array([[1.0, 0], [0, 2], [1, 1]]), np.array([[3.0, 0], [0, -1]])
    assert ta.cosines(tokens, targets) == pytest.approx(np.array([[1, 0], [0, -1], [0.5**0.5, -(0.5**0.5)]]))
    assert ta.cosines(np.ones((2, 3)), np.empty((0, 3))).shape == (2, 0)
    assert ta.cosines(np.zeros((1, 3)), np.ones((1, 3))) == [[0]]  # a zero row is like nothing


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


DEFAULT = ta.Reading()


def naive(unit: pd.DataFrame, target: str, percentile: int, reading: ta.Reading) -> tuple[float, float, int]:
    """One unit by loops: mean attention, Spearman's correlation and number of the near tokens."""
    attention = unit["attention"].to_numpy(dtype=np.float64)
    whole = {"share": attention.sum(), "largest": attention.max(), "raw": 1.0}.get(reading.attention)
    if whole is None:
        whole = unit.groupby("passage")["attention"].transform(lambda values: values.astype(np.float64).sum())
    weight = np.asarray(attention / whole)
    lists = list(unit[f"similarity_{target}"])
    if lists[0] is None:
        return np.nan, np.nan, 0
    cosines = np.array([list(row) for row in lists], dtype=np.float64)
    columns = {"max": cosines.max(axis=1)[:, None], "mean": cosines.mean(axis=1)[:, None], "each": cosines}
    x, y = [], []
    for similar in columns[reading.similarity].T:
        near = similar >= np.percentile(similar, percentile)
        x += weight[near].tolist()
        y += similar[near].tolist()
    defined = len(x) >= 3 and len(set(x)) > 1 and len(set(y)) > 1
    return np.mean(x), stats.spearmanr(x, y).statistic if defined else np.nan, len(x)


def check(frame: pd.DataFrame, reading: ta.Reading = DEFAULT) -> None:
    units = ta.analyse_units(frame, reading)
    by_passage = dict(tuple(frame.groupby(["instance", "passage"])))
    assert list(zip(units["instance"], units["passage"], strict=True)) == sorted(by_passage)
    units = units.set_index(["instance", "passage"])
    for key, part in by_passage.items():
        assert units["mass"][key] == pytest.approx(part["attention"].astype(np.float64).sum())
    if reading.unit == "question":
        groups = {(number, part["passage"].min()): part for number, part in frame.groupby("instance")}
        others = units.drop(index=list(groups))
        assert others.filter(regex="^(attention|spearman)").isna().all(axis=None)
        assert (others.filter(regex="^nearest") == 0).all(axis=None)
    else:
        groups = by_passage
    for key, part in groups.items():
        for target in ta.TARGETS:
            for percentile in ta.PERCENTILES:
                mean, rho, count = naive(part.sort_values("passage", kind="stable"), target, percentile, reading)
                name = f"{target}_{percentile}"
                assert units[f"nearest_{name}"][key] == count
                assert units[f"attention_{name}"][key] == pytest.approx(mean, rel=1e-12, nan_ok=True)
                assert units[f"spearman_{name}"][key] == pytest.approx(rho, abs=1e-9, nan_ok=True)


READINGS = [ta.Reading(*words) for words in itertools.product(*ta.READINGS.values())]


@st.composite
def readings(draw):
    return draw(st.sampled_from(READINGS))


def test_units_agree_with_scipy_and_numpy_one_by_one():
    table = synthetic.dump_table(np.random.default_rng(0), synthetic.EFFECTS["step2"], 12, tokens=120)
    check(table.to_pandas())


def test_rows_in_any_order_give_the_same_units():
    frame = synthetic.dump_table(np.random.default_rng(1), synthetic.EFFECTS["step1"], 5).to_pandas()
    shuffled = frame.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(ta.analyse_units(frame), ta.analyse_units(shuffled))


@st.composite
def dumps(draw):
    """Few distinct values, so that ties are everywhere; passages of 1 to 60 tokens; some questions without nouns."""
    rows = []
    for instance in range(draw(st.integers(1, 4))):
        answer, noun = draw(st.integers(1, 3)), draw(st.integers(0, 2))
        for passage in range(draw(st.integers(1, 3))):
            size = draw(st.integers(1, 60))
            levels = draw(st.integers(1, 6))
            generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
            values = (generator.integers(1, levels + 1, (1 + answer + noun, size)) / 7).astype(np.float32)
            for attention, *cosines in values.T:
                rows.append((instance, passage, attention, cosines[:answer], cosines[answer:] or None))
    columns = ["instance", "passage", "attention", "similarity_answer", "similarity_question"]
    frame = pd.DataFrame(rows, columns=columns).assign(answer_bearing=False)
    return frame.astype({"attention": np.float32, "instance": np.int32, "passage": np.int8})


@settings(max_examples=150, deadline=None)
@given(dumps(), readings())
def test_units_with_ties_agree_with_scipy_and_numpy_in_every_reading(frame, reading):
    check(frame, reading)


def test_the_first_words_are_the_defaults_of_the_settings():
    default = ta.Reading(**{key: words[0] for key, words in ta.READINGS.items()})
    assert default == ta.Reading() == ta.Reading(**Analysis().reading)
    for key, words in ta.READINGS.items():
        for word in words:
            assert getattr(Analysis(**{key: word}), key) == word


def test_an_unknown_word_is_refused():
    frame = synthetic.dump_table(np.random.default_rng(2), synthetic.EFFECTS["step1"], 1).to_pandas()
    with pytest.raises(InputError, match="analysis.unit: 'token' is none of passage, question"):
        ta.analyse_units(frame, ta.Reading(unit="token"))


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
            "similarity_answer": [[cosine] for cosine in (0.1, 0.2, *np.linspace(0, 1, 40))],
            "similarity_question": None,
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
            "similarity_answer": list(generator.random((size, 3), dtype=np.float32)),
            "similarity_question": list(generator.random((size, 2), dtype=np.float32)),
            "answer_bearing": np.arange(size) % 500 < 100,
        }
    )
    for reading in (ta.Reading(), ta.Reading("question", "each")):
        start = time.process_time()
        assert len(ta.analyse_units(frame, reading)) == size // 100
        assert time.process_time() - start < 20


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
