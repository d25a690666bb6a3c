"""Rows of Tables 1 to 4, Appendix C and of the differences between experiments, from predictions and units.

Every number is a row with the columns :data:`COLUMNS`. The CSV files hold these rows. Claims, figures and the
comparison with the paper read them back with :func:`read_rows`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ..analysis import statistics
from ..files import InputError, read_jsonl, replacing
from .labels import BASELINE, TABLE_OF_TARGET
from .measurable import COUNTS, FEWEST_NEAR

COLUMNS = (
    "table", "experiment", "dataset", "statistic", "target", "percentile", "mean", "std", "n", "ci_low", "ci_high",
)  # fmt: skip
KEY = COLUMNS[:6]
_NUMBERS = {"mean", "std", "n", "ci_low", "ci_high", "p_above", "published_mean", "published_std", "difference"}
_BOUNDS = {  # what a mean of each statistic can be; attention is no share in every reading
    **dict.fromkeys(("em", "f1"), (0.0, 100.0)),
    **dict.fromkeys(("hr_at_5", "picks", "picks_centred", "chance", "last_place"), (0.0, 1.0)),
    **dict.fromkeys(("spearman", "pearson"), (-1.0, 1.0)),
    "attention": (0.0, np.inf),
}

Key = tuple[str, str, str, str, str, str]


# ------------------------------------------------------------------ files


def run_of(path: str | Path) -> tuple[str, str, int]:
    """(dataset, experiment, seed) of a file in a run's folder ``<dataset>/<experiment>/seed<N>/``.

    Raises:
        InputError: the path is none of a run's.
    """
    match = re.search(r"([^/]+)/([^/]+)/seed(\d+)/[^/]+$", Path(path).as_posix())
    if not match:
        raise InputError(f"{path}: not <dataset>/<experiment>/seed<N>/<file>; give the file of a run.")
    return match[1], match[2], int(match[3])


def read_rows(path: str | Path) -> pd.DataFrame:
    """Rows of a table's CSV: words as strings (absent: ""), numbers as floats (absent: NaN).

    Raises:
        InputError: a column is missing, or a number is none.
    """
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    for name in (*KEY, "mean", "std"):
        if name not in frame:
            raise InputError(f"{path}: column '{name}' is missing; the columns are {', '.join(COLUMNS)}.")
    for name in _NUMBERS & set(frame.columns):
        numbers = pd.to_numeric(frame[name], errors="coerce")
        wrong = numbers.isna() & (frame[name] != "")
        if wrong.any():
            line = int(np.flatnonzero(wrong)[0]) + 2
            raise InputError(f"{path}, line {line}: '{frame[name][line - 2]}' under '{name}' is no number.")
        frame[name] = numbers
    return frame


def write_rows(path: str | Path, rows: pd.DataFrame) -> None:
    """Write rows as CSV with six significant digits, absent numbers empty: equal rows give equal bytes."""
    written = rows.copy()
    for name in _NUMBERS & set(written.columns):
        written[name] = [
            "" if pd.isna(value) else f"{value:.0f}" if name == "n" else f"{value + 0.0:.6g}" for value in written[name]
        ]
    with replacing(path) as part:
        written.to_csv(part, index=False, lineterminator="\n")


def read_predictions(paths: Iterable[str | Path]) -> pd.DataFrame:
    """All ``predictions.jsonl`` as one frame: dataset, experiment, seed, instance (the question's id), em and f1
    (0 to 100), hr_at_5 (0 or 1).

    Raises:
        InputError: a line lacks a field.
    """
    rows = []
    for path in paths:
        run = run_of(path)
        for number, row in read_jsonl(path):
            try:
                rows.append((*run, str(row["id"]), 100.0 * row["em"], 100.0 * row["f1"], float(row["hit"])))
            except (KeyError, TypeError) as error:
                raise InputError(f"{path}, line {number}: {error} is missing or no number; evaluate again.") from None
    return pd.DataFrame(rows, columns=["dataset", "experiment", "seed", "instance", "em", "f1", "hr_at_5"])


# ------------------------------------------------------------------ measuring


@dataclass(frozen=True)
class Measure:
    """One number: ``estimate`` has its value and interval, ``std`` and ``n`` are the table's."""

    estimate: statistics.Estimate
    std: float
    n: int
    spread: statistics.Estimate | None = None  # the standard deviation over units

    def row(self, key: Key) -> tuple:
        return (*key, self.estimate.value, self.std, self.n, *statistics.interval(self.estimate, _BOUNDS[key[3]]))


@dataclass(frozen=True)
class _Grid:
    """The observations of one dataset as arrays (experiment, seed, instance)."""

    experiments: list[str]
    frame: pd.DataFrame
    flat: np.ndarray
    shape: tuple[int, int, int]

    @classmethod
    def of(cls, frame: pd.DataFrame) -> _Grid:
        coded = [pd.factorize(frame[name]) for name in ("experiment", "seed", "instance")]
        shape = tuple(len(names) for _, names in coded)
        flat = np.ravel_multi_index([codes for codes, _ in coded], shape)
        return cls(list(coded[0][1]), frame, flat, shape)

    def sums(self, column: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Sum, sum of squares and number of the defined values of a column, each (E, S, N)."""
        values = self.frame[column].to_numpy(dtype=np.float64)
        has = ~np.isnan(values)
        flat, values = self.flat[has], values[has]
        size = int(np.prod(self.shape))
        sums = (np.bincount(flat, weights, minlength=size) for weights in (values, values**2, np.ones(len(values))))
        return tuple(part.astype(np.float64).reshape(self.shape) for part in sums)  # bincount of nothing gives integers


def _grids(frame: pd.DataFrame, replicates: int):
    for dataset, part in frame.groupby("dataset", sort=False):
        grid = _Grid.of(part)
        yield str(dataset), grid, statistics.resample(grid.shape[2], replicates)


def score_measures(predictions: pd.DataFrame, replicates: int) -> dict[Key, Measure]:
    """Table 1: EM and F1 (0 to 100) and HR@5 (0 to 1), mean over seeds and questions; std over the seeds' means."""
    return _means(predictions, "1", ("em", "f1", "hr_at_5"), replicates)


def _means(frame: pd.DataFrame, table: str, names: Sequence[str], replicates: int) -> dict[Key, Measure]:
    measures = {}
    for dataset, grid, resampling in _grids(frame, replicates):
        for statistic in names:
            total, squares, count = grid.sums(statistic)
            for index, experiment in enumerate(grid.experiments):
                mean, _ = statistics.mean_and_spread(resampling, total[index], squares[index], count[index])
                key = (table, experiment, dataset, statistic, "", "")
                measures[key] = Measure(mean, mean.over_seeds, int(count[index].sum()))
    return measures


def unit_measures(units: pd.DataFrame, percentiles: Sequence[int], replicates: int) -> dict[Key, Measure]:
    """Tables 3 and 4, and Appendix C.

    Tables 3 and 4: mean and std over the units where the value is defined. Appendix C: Pearson's correlation over
    instances of the answer-related with the question-related mean attention, and the same of Spearman; std over seeds.
    """
    measures = {}
    for dataset, grid, resampling in _grids(units, replicates):
        for percentile in percentiles:
            for statistic in ("attention", "spearman"):
                values = {}
                for target in TABLE_OF_TARGET:
                    total, squares, count = grid.sums(f"{statistic}_{target}_{percentile}")
                    values[target] = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
                    for index, experiment in enumerate(grid.experiments):
                        mean, std = statistics.mean_and_spread(resampling, total[index], squares[index], count[index])
                        key = (TABLE_OF_TARGET[target], experiment, dataset, statistic, target, str(percentile))
                        measures[key] = Measure(mean, std.value, int(count[index].sum()), std)
                for index, experiment in enumerate(grid.experiments):
                    x, y = (values[target][index] for target in TABLE_OF_TARGET)
                    correlation = statistics.pearson(resampling, x, y)
                    key = (f"C.{statistic}", experiment, dataset, "pearson", "", str(percentile))
                    pairs = int((~(np.isnan(x) | np.isnan(y))).sum())
                    measures[key] = Measure(correlation, correlation.over_seeds, pairs)
    return measures


def signal_frame(units: pd.DataFrame) -> pd.DataFrame:
    """Whether the passage with the largest mass (S_i of eq. 1) bears the answer, question by question.

    Args:
        units: ``units.parquet``.

    Returns:
        A row per run and question:

        - ``picks``: 1 where the passage with the largest mass bears an answer.
        - ``picks_centred``: the same, each place's mean mass over the run's questions taken off first.
        - ``chance``: the share of passages that bear an answer.
        - ``last_place``: the last passage's share of the mass.

        All are NaN unless some of the passages bear an answer and some do not. All but ``chance`` are NaN where every
        passage has the same mass: a distribution normalised within each passage says nothing between passages.
    """
    frames = []
    for run, part in units.groupby(["dataset", "experiment", "seed"], sort=False):
        mass = part.pivot(index="instance", columns="passage", values="mass").fillna(0.0)
        bears = part.pivot(index="instance", columns="passage", values="answer_bearing").fillna(False).to_numpy(bool)
        values, instances = mass.to_numpy(dtype=np.float64), mass.index
        mixed = bears.any(1) & ~bears.all(1)
        tells = mixed & ~np.isclose(values.max(1), values.min(1), rtol=1e-4)
        columns = {
            "picks": bears[np.arange(len(bears)), values.argmax(1)],
            "picks_centred": bears[np.arange(len(bears)), (values - values.mean(0)).argmax(1)],
            "last_place": values[:, -1] / values.sum(1),
        }
        frame = pd.DataFrame({name: np.where(tells, value, np.nan) for name, value in columns.items()})
        chance = np.where(mixed, bears.mean(1), np.nan)
        frames.append(frame.assign(chance=chance, instance=instances, dataset=run[0], experiment=run[1], seed=run[2]))
    return pd.concat(frames, ignore_index=True)


def signal_measures(units: pd.DataFrame, replicates: int) -> dict[Key, Measure]:
    """Means over questions and seeds of :func:`signal_frame`; std over the seeds' means."""
    return _means(signal_frame(units), "S", ("picks", "picks_centred", "chance", "last_place"), replicates)


def as_rows(measures: dict[Key, Measure]) -> pd.DataFrame:
    """Measures as rows, in the order that they were measured."""
    return pd.DataFrame([measure.row(key) for key, measure in measures.items()], columns=list(COLUMNS))


def by_table(rows: pd.DataFrame, counts: pd.DataFrame, decoder_only: Sequence[str]) -> dict[str, pd.DataFrame]:
    """The rows of each table file: table1 to table4, appendix_c.

    Table 2 repeats the means of Tables 3 and 4 for decoder-only readers. Tables 3 and 4 end with counts of units.
    """
    parts = {f"table{number}": rows[rows["table"] == number] for number in "134"}
    means = pd.concat([parts["table3"], parts["table4"]])
    parts["table2"] = means[means["experiment"].isin(decoder_only)].assign(table="2", std=np.nan)
    for number in "34":
        of_table = counts[counts["table"] == number]
        parts[f"table{number}"] = pd.concat([parts[f"table{number}"], of_table], ignore_index=True)
    parts["appendix_c"] = rows[rows["table"].str.startswith("C.")]
    return parts


def unit_count_rows(units: pd.DataFrame, percentiles: Sequence[int]) -> pd.DataFrame:
    """Rows of ``COUNTS``: in ``mean``, of the ``n`` units with a target, how many have no Spearman value, and how many
    have too few near tokens for a telling one (module ``measurable``)."""
    rows = []
    for (dataset, experiment), part in units.groupby(["dataset", "experiment"], sort=False):
        for target in TABLE_OF_TARGET:
            for percentile in percentiles:
                near = part[f"nearest_{target}_{percentile}"]
                undefined = (near > 0) & part[f"spearman_{target}_{percentile}"].isna()
                few = (near > 0) & (near < FEWEST_NEAR)
                for statistic, counted in zip(COUNTS, (undefined, few), strict=True):
                    key = (TABLE_OF_TARGET[target], experiment, dataset, statistic, target, str(percentile))
                    rows.append((*key, float(counted.sum()), np.nan, int((near > 0).sum()), np.nan, np.nan))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def difference_rows(measures: dict[Key, Measure], pairs: Iterable[tuple[str, str]]) -> pd.DataFrame:
    """Paired differences, with intervals and p-values, of everything that was measured of two experiments.

    - ``first - second`` in the experiment column: a difference of two experiments; ``n`` is the smaller one's.
    - Statistic ``spearman_std``: the difference of two standard deviations over units.
    - ``95 - 90`` in the percentile column: how one experiment's mean changes from one percentile to the next.

    ``p_above`` is the one-sided p-value against a difference of 0 or less.
    """
    experiments = list(dict.fromkeys(key[1] for key in measures))
    pairs = dict.fromkeys([*pairs, *((name, BASELINE) for name in experiments if name != BASELINE)])
    rows = []

    def add(key: Key, first: statistics.Estimate, second: statistics.Estimate, n: int) -> None:
        difference = first - second
        rows.append(
            (*key, difference.value, np.nan, n, *statistics.interval(difference), statistics.p_above(difference))
        )

    for one, other in pairs:
        for key, first in measures.items():
            second = measures.get((key[0], other, *key[2:]))
            if key[1] != one or second is None:
                continue
            name, n = f"{one} - {other}", min(first.n, second.n)
            add((key[0], name, *key[2:]), first.estimate, second.estimate, n)
            if key[3] == "spearman":
                add((key[0], name, key[2], "spearman_std", *key[4:]), first.spread, second.spread, n)
    for key, lower in measures.items():
        same = [other for other in measures if other[:5] == key[:5] and key[4] and int(other[5]) > int(key[5])]
        for other in sorted(same, key=lambda other: int(other[5]))[:1]:
            higher = measures[other]
            named = (*key[:5], f"{other[5]} - {key[5]}")
            add(named, higher.estimate, lower.estimate, min(lower.n, higher.n))
    return pd.DataFrame(rows, columns=[*COLUMNS, "p_above"])


# ------------------------------------------------------------------ beside the paper


def compare_rows(measured: pd.DataFrame, published: pd.DataFrame, k: int = 5) -> pd.DataFrame:
    """Every measured number of Tables 1, 3 and 4 beside the published one; published ones stand alone where not run.

    Returns:
        the measured columns and ``published_mean, published_std, difference`` (measured minus published).
    """
    ours = measured[measured["table"].isin(["1", "3", "4"]) & ~measured["statistic"].isin(COUNTS)]
    theirs = published.rename(columns={"mean": "published_mean", "std": "published_std"})
    datasets = set(ours["dataset"])
    theirs = theirs[theirs["dataset"].isin(datasets)] if datasets else theirs
    theirs = theirs[(theirs["statistic"] != "hr_at_5") | (k == 5)]  # the paper's hit rate is among five passages
    theirs = theirs[[*KEY, "published_mean", "published_std"]]
    both = pd.concat([ours, theirs]).groupby(list(KEY), sort=False, as_index=False).first()  # measured ones come first
    both = both.sort_values("table", kind="stable", ignore_index=True)
    both["difference"] = both["mean"] - both["published_mean"]
    return both[[*COLUMNS, "published_mean", "published_std", "difference"]]
