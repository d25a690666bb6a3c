"""Holds the claims against rows of the tables. Measured and published rows are judged by the same rules.

In each dataset:

1. The difference of a comparison has a 95 % interval. Two experiments: the paired one of ``differences.csv``; without
   its row, that of the two rows' intervals as if independent, which errs to the wide side. An experiment and a number:
   the row's own interval. Without any interval the sign of the difference decides, and the evidence says so.
2. ``>`` and ``<``: *holds* where the whole interval is on the claimed side of 0, *fails* where it is on the other side.
   ``≥``: *fails* where the whole interval is below 0, *holds* where the difference itself is 0 or more. Every other
   case is *cannot_tell*, and so is a comparison whose rows are absent.
3. A comparison is *not_measurable* where it rests on Spearman's correlation over too few tokens, or on a fine-tuned
   reader that answers next to nothing (module ``measurable``).
4. A part holds where ``all`` of its comparisons hold. Where ``any`` or ``most`` (more than half) are enough, some of
   many would hold by chance: their p-values are put together (:func:`statistics.p_of_many`), and the part holds where
   the result is below 0.025. It fails where it can no longer hold. Else it is *not_measurable* where one of its
   comparisons is, and *cannot_tell* where none is.
5. From one seed no comparison of a trained run is more than *cannot_tell*: another training run may turn out otherwise.
6. A claim holds in a dataset where all its parts do. It holds where it holds in every dataset, and fails where it fails
   in one. A dataset without a number for any of its comparisons is named and does not count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from ..analysis import statistics
from .claims import CLAIMS, HIT_RATE, INITIAL, PUPILS, Claim, Comparison, Mean, Part, compare, indicator
from .labels import BASELINE, TABLE_OF_TARGET, Quantity, measure
from .measurable import FEWEST_NEAR, short_units, silent_readers

INSTANCES = 1000  # the paper's sample behind Tables 3 and 4
_COUNTED = {"holds": "hold", "fails": "fail", "cannot_tell": "undecided", "not_measurable": "not measurable"}


# ------------------------------------------------------------------ a comparison


@dataclass(frozen=True)
class Judged:
    """One comparison in one dataset: what is claimed, the numbers and the verdict.

    ``difference`` is positive where the number bears the claim out; it and its interval are NaN where a side is absent.
    """

    claimed: str
    verdict: str
    numbers: str = ""
    interval: str = ""
    difference: float = np.nan
    low: float = np.nan
    high: float = np.nan
    reason: str = ""  # why it is not measurable
    p: float = np.nan  # one-sided, against what is claimed
    one_seed: bool = False

    @property
    def absent(self) -> bool:
        return np.isnan(self.difference)

    @property
    def opposed(self) -> bool:
        """The number itself lies on the other side of what is claimed, or ties where "above" is claimed."""
        difference = round(self.difference, 9)
        return not self.reason and (difference < 0 or (difference == 0 and "≥" not in self.claimed))

    def sentence(self, dataset: str) -> str:
        numbers = self.numbers if self.absent else f"found {self.numbers} ({self.interval})"
        reason = f" at this scale, {self.reason}" if self.reason else ", from one seed" if self.one_seed else ""
        return f"{dataset}, {self.claimed}: {numbers}: {plain(self.verdict)}{reason}."


def plain(verdict: str) -> str:
    """A verdict in words."""
    return verdict.replace("_", " ")


class _Side(NamedTuple):
    """One side of a comparison: an experiment's number with its interval, or the number that it is held against."""

    name: str
    value: float = np.nan
    low: float = np.nan
    high: float = np.nan
    experiment: str = ""


class _Numbers:
    """The numbers of one dataset, and the verdicts on comparisons of them."""

    def __init__(self, rows: pd.DataFrame, dataset: str, titles: dict[str, str], seeds: int):
        self.titles, self.seeds = titles, seeds
        self.short = {key[1:] for key in short_units(rows) if key[0] == dataset}
        self.silent = {key[1]: em for key, em in silent_readers(rows).items() if key[0] == dataset}
        self.rows = {
            (row.table, row.experiment, row.statistic, row.target, row.percentile): row
            for row in rows[(rows["dataset"] == dataset) & rows["mean"].notna()].itertuples(index=False)
        }

    def _row(self, experiment: str, quantity: Quantity, percentile: str | None = None):
        percentile = quantity.percentile if percentile is None else percentile
        return self.rows.get((quantity.table, experiment, quantity.statistic, quantity.target, percentile))

    def _side(self, of: Mean | float) -> _Side:
        if isinstance(of, float):
            return _Side(f"{of:g}", of, of, of)
        for experiment in of.experiments:
            name = self.titles.get(experiment, experiment)
            if of.quantity.statistic.endswith("_std"):
                row = self._row(experiment, of.quantity._replace(statistic=of.quantity.statistic.removesuffix("_std")))
                if row is not None:  # by the normal distribution: too wide for a polarised one
                    half = row.std / np.sqrt(2 * max(row.n - 1, 1))
                    return _Side(name, row.std, *statistics.combined(row.std, half), experiment)
            elif (row := self._row(experiment, of.quantity)) is not None:
                return _Side(name, row.mean, row.ci_low, row.ci_high, experiment)
        return _Side(self.titles.get(of.experiments[0], of.experiments[0]))

    def _paired(self, one: _Side, other: _Side, quantity: Quantity, percentiles: Sequence[str]):
        """The interval of ``one - other`` in a row of differences; None where there is no such row."""
        name = one.experiment if one.experiment == other.experiment else f"{one.experiment} - {other.experiment}"
        row = self._row(name, quantity, " - ".join(dict.fromkeys(percentiles)))
        return None if row is None or np.isnan(row.ci_low) else (row.ci_low, row.ci_high)

    def _interval(self, comparison: Comparison, left: _Side, right: _Side) -> tuple[float, float]:
        """95 % interval of left - right."""
        if isinstance(comparison.right, float):
            return left.low - right.value, left.high - right.value
        quantity = comparison.left.quantity
        percentiles = [quantity.percentile, comparison.right.quantity.percentile]
        if ends := self._paired(left, right, quantity, percentiles):
            return ends
        if ends := self._paired(right, left, quantity, percentiles[::-1]):
            return -ends[1], -ends[0]
        errors = [statistics.standard_error(side.low, side.high) for side in (left, right)]
        return statistics.combined(left.value - right.value, *errors)

    def _not_measurable(self, experiment: str, quantity: Quantity, fine_tuned: Sequence[str]) -> str:
        """Why an experiment's quantity cannot be measured at this scale; empty where it can."""
        if experiment in fine_tuned and experiment in self.silent:
            return f"{self.titles[experiment]} answers next to nothing (EM {self.silent[experiment]:.2f})"
        if "spearman" in (quantity.of, quantity.statistic.removesuffix("_std")):
            for target in (quantity.target,) if quantity.target else TABLE_OF_TARGET:
                if (experiment, target, quantity.percentile) in self.short:
                    return f"fewer than {FEWEST_NEAR} tokens near the {target} (p{quantity.percentile}) in most units"
        return ""

    def judge(self, comparison: Comparison, fine_tuned: Sequence[str] = ()) -> Judged:
        """Judge one comparison by rules 1 to 3 of the module."""
        quantity, sign = comparison.left.quantity, comparison.sign
        left, right = self._side(comparison.left), self._side(comparison.right)
        names, words = [left.name, right.name], quantity.words
        limit = isinstance(comparison.right, float)
        if not limit and quantity.percentile != comparison.right.quantity.percentile:
            names = [f"{left.name} p{quantity.percentile}", f"{right.name} p{comparison.right.quantity.percentile}"]
            words = measure(quantity.statistic, quantity.target)
        claimed = f"{words}: {names[0]} {sign} {names[1]}"
        absent = [name for name, side in zip(names, (left, right), strict=True) if np.isnan(side.value)]
        if absent:
            return Judged(claimed, "cannot_tell", f"no number for {' and '.join(dict.fromkeys(absent))}")
        difference, (low, high) = left.value - right.value, self._interval(comparison, left, right)
        numbers, shown = f"{left.value:.{quantity.digits}f}", (left.low, left.high)
        if not limit:
            numbers += f" and {right.value:.{quantity.digits}f}, difference {difference:+.{quantity.digits}f}"
            shown = (low, high)
        if sign == "<":
            difference, low, high = -difference, -high, -low
        interval = _interval_words(*shown, quantity.digits, "" if limit else "+")
        reasons = [self._not_measurable(side.experiment, quantity, fine_tuned) for side in (left, right)]
        reason = next(filter(None, reasons), "")
        one_seed = self.seeds == 1 and not {left.experiment, right.experiment} <= {BASELINE, ""}
        verdict = "cannot_tell" if one_seed else _verdict(difference, low, high, sign)
        verdict = "not_measurable" if reason else verdict
        p = self._p(difference, low, high)
        return Judged(claimed, verdict, numbers, interval, difference, low, high, reason, p, one_seed)

    def _p(self, difference: float, low: float, high: float) -> float:
        """One-sided p-value against "0 or less" that a 95 % interval stands for, by Student's t over the seeds.

        Below 0.025 exactly where the interval is above 0. Without an interval the sign decides.
        """
        half = (difference - low) if difference > 0 else (high - difference)
        if np.isnan(half) or half <= 0:
            return 0.0 if difference > 0 else 1.0
        freedom = self.seeds - 1 if self.seeds > 1 else np.inf
        return float(stats.t.sf(difference / half * stats.t.ppf((1 + statistics.LEVEL) / 2, freedom), freedom))

    def judge_all(self, part: Part, fine_tuned: Sequence[str] = ()) -> tuple[str, list[Judged]]:
        """The verdict on a part, and on each of its comparisons."""
        judged = [self.judge(comparison, fine_tuned) for comparison in part.comparisons]
        return _quantified(part.quantifier, [each.verdict for each in judged], [each.p for each in judged]), judged


def _interval_words(low: float, high: float, digits: int, sign: str) -> str:
    if np.isnan(low):
        return "no interval can be had, judged by the sign"
    return f"95 % interval {low:{sign}.{digits}f} to {high:{sign}.{digits}f}"


def _verdict(difference: float, low: float, high: float, sign: str) -> str:
    difference = round(difference, 9)  # published decimals: 0.05 - 0.04 is 0.01
    if np.isnan(low):
        low = high = difference
    if high < 0:
        return "fails"
    return "holds" if (difference >= 0 if sign == "≥" else low > 0) else "cannot_tell"


def _quantified(quantifier: str, verdicts: Sequence[str], p_values: Sequence[float] = ()) -> str:
    """The verdict on several; ``p_values`` of each are looked at where not all of them must hold."""
    holds, fails, total = verdicts.count("holds"), verdicts.count("fails"), len(verdicts)
    needed = {"all": total, "any": 1, "most": total // 2 + 1}[quantifier]
    counted = (
        [p if verdict == "holds" else 1.0 for p, verdict in zip(p_values, verdicts, strict=True)] if p_values else []
    )
    enough = holds >= needed and (needed == total or statistics.p_of_many(counted, needed) < (1 - statistics.LEVEL) / 2)
    undecided = "not_measurable" if "not_measurable" in verdicts else "cannot_tell"
    return "holds" if enough else "fails" if total - fails < needed else undecided


# ------------------------------------------------------------------ claims and indicators


def judge(rows: pd.DataFrame, labels: dict) -> dict:
    """Judge all claims and indicators.

    Args:
        rows: rows of Tables 1, 3, 4, Appendix C and, where there are any, of the differences.
        labels: titles, and the datasets to judge on.

    Returns:
        ``claims``: for each its id, section, quote, statement, verdict (holds, fails, cannot_tell, not_measurable),
        by_dataset, not_measurable (the reasons, by dataset), evidence (sentences), ci (an entry a comparison: dataset,
        claimed, numbers, interval, difference, low, high, verdict);
        ``indicators``: for each experiment and dataset what both indicators say and whether HR@5 rose;
        ``against``: a sentence for each number that contradicts the paper's words, clearly or not.
    """
    numbers = {
        dataset: _Numbers(rows, dataset, labels["experiments"], len(labels["seeds"])) for dataset in labels["datasets"]
    }
    judged = [_judge_claim(claim, numbers, labels["datasets"]) for claim in CLAIMS]
    return {
        "claims": [claim for claim, _ in judged],
        "indicators": _indicators(numbers),
        "against": [sentence for _, against in judged for sentence in against],
    }


def _judge_claim(claim: Claim, numbers: dict[str, _Numbers], titles: dict[str, str]) -> tuple[dict, list[str]]:
    by_dataset, reasons, evidence, entries, against, counted = {}, {}, [], [], [], []
    for dataset, title in titles.items():
        parts = [numbers[dataset].judge_all(part, claim.fine_tuned) for part in claim.parts]
        by_dataset[dataset] = _quantified("all", [verdict for verdict, _ in parts])
        every = [judged for _, comparisons in parts for judged in comparisons]
        if all(judged.absent for judged in every):
            evidence.append(f"{title}: cannot tell, {'; '.join(dict.fromkeys(judged.numbers for judged in every))}.")
            continue
        counted.append(by_dataset[dataset])
        counts = Counter(judged.verdict for judged in every)
        counted_words = ", ".join(
            f"{counts[verdict]} {word}"
            for verdict, word in _COUNTED.items()
            if counts[verdict] or verdict != "not_measurable"
        )
        evidence.append(f"{title}: {plain(by_dataset[dataset])} (of {len(every)} comparisons {counted_words}).")
        if why := dict.fromkeys(judged.reason for judged in every if judged.reason):
            reasons[dataset] = list(why)
        evidence += [judged.sentence(title) for judged in every]
        entries += [_entry(judged, dataset) for judged in every]
        for part, (verdict, comparisons) in zip(claim.parts, parts, strict=True):
            if part.quantifier == "all" or verdict != "holds":  # where 'any' or 'most' hold, the others may well not
                against += [f"{claim.id}: {judged.sentence(title)}" for judged in comparisons if judged.opposed]
        implied = [numbers[dataset].judge(comparison, claim.fine_tuned) for comparison in claim.implied]
        evidence += [f"Beyond the claim: {judged.sentence(title)}" for judged in implied if not judged.absent]
        against += [
            f"{claim.id}, the words behind it: {judged.sentence(title)}" for judged in implied if judged.opposed
        ]
    judgement = {
        "id": claim.id,
        "section": claim.section,
        "quote": claim.quote,
        "statement": claim.statement,
        "verdict": _quantified("all", counted) if counted else "cannot_tell",
        "by_dataset": by_dataset,
        "not_measurable": reasons,
        "evidence": evidence,
        "ci": entries,
    }
    return judgement, against


def _six(value: float) -> float | None:
    return None if np.isnan(value) else float(f"{value + 0.0:.6g}")


def _entry(judged: Judged, dataset: str) -> dict:
    numbers = {name: _six(getattr(judged, name)) for name in ("difference", "low", "high")}
    words = {name: getattr(judged, name) for name in ("claimed", "numbers", "interval", "verdict")}
    return {"dataset": dataset, **words, **numbers}


def _indicators(numbers: dict[str, _Numbers]) -> list[dict]:
    """RQ3: what each indicator says of a reader, and what became of the retriever that it taught."""
    lines = []
    for experiment, pupil in PUPILS.items():
        for dataset, of_dataset in numbers.items():
            (rise,) = (of_dataset.judge(comparison) for comparison in compare(HIT_RATE, pupil, ">", INITIAL))
            line = {"experiment": experiment, "dataset": dataset, "retriever_of": pupil}
            line |= {"hr_at_5_rose": rise.verdict, "hr_at_5_change": _six(rise.difference)}
            for number in (1, 2):
                says, _ = of_dataset.judge_all(indicator(number, experiment))
                undecided = not {says, rise.verdict} <= {"holds", "fails"}
                line |= {f"indicator_{number}": says}
                line |= {f"indicator_{number}_right": None if undecided else says == rise.verdict}
            lines.append(line)
    return lines


# ------------------------------------------------------------------ the paper's own numbers


def published_rows(rows: pd.DataFrame, test_sizes: dict[str, int]) -> pd.DataFrame:
    """Published rows with n and normal-approximation intervals.

    Tables 3 and 4: from the published std, with n the 1,000 instances (a unit is a passage, and an instance's five
    are not independent). Table 1: a score of 0 or 1 a question, n the test split; F1 has at most that variance.
    """
    tops = {"em": 100.0, "f1": 100.0, "hr_at_5": 1.0}
    complete = []
    for row in rows.to_dict("records"):
        first = row["table"] == "1"
        n = float(test_sizes.get(row["dataset"], np.nan)) if first else INSTANCES
        std = statistics.share_std(row["mean"], tops[row["statistic"]]) if first else row["std"]
        low, high = statistics.normal_interval(row["mean"], std, n)
        complete.append({**row, "n": n, "ci_low": low, "ci_high": high})
    return pd.DataFrame(complete)


def impossible_spreads(rows: pd.DataFrame, labels: dict) -> list[str]:
    """Sentences on attention rows whose std is larger than any quantity between 0 and 1 with that mean can have."""
    sentences = []
    for row in rows[rows["statistic"] == "attention"].itertuples():
        largest = statistics.share_std(row.mean)
        if row.std > largest:
            sentences.append(
                f"Table {row.table}: {labels['datasets'].get(row.dataset, row.dataset)}, "
                f"{measure(row.statistic, row.target, row.percentile)} of {labels['experiments'][row.experiment]}: "
                f"std {row.std:.3f} beside a mean of {row.mean:.3f} is impossible for shares between 0 and 1 "
                f"(at most {largest:.3f}); probably a slip."
            )
    return sentences


def judge_published(rows: pd.DataFrame, test_sizes: dict[str, int], labels: dict) -> dict:
    """Judge the paper's claims on its own tables, by the rules that the measured ones are judged by."""
    judgement = judge(published_rows(rows, test_sizes), labels)
    judgement["against"] += impossible_spreads(rows, labels)
    return judgement
