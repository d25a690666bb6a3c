"""Holds the claims against rows of the tables, measured or published alike.

In each dataset:

1. A comparison's difference and 95 % interval come from the paired bootstrap (``differences.csv``) where its row is
   there; against a number, from the row's own interval; else from the two rows' intervals as if independent (which
   errs to the wide side); else there is the difference alone, and the evidence says that no interval can be had.
2. ``above``: *holds* where the whole interval is above 0, *fails* where it is below 0, else *cannot_tell*.
   ``at least``: *fails* where the whole interval is below 0, *holds* where the difference itself is 0 or more, else
   *cannot_tell*. Without an interval the sign decides, and an exact tie of ``above`` cannot tell.
3. A part holds where ``all``, ``any`` or ``most`` (more than half) of its comparisons hold, and fails where that is
   no longer possible. A comparison whose rows are absent cannot tell.
4. A dataset's verdict: all parts must hold. The claim's verdict: it fails where it fails in a dataset, and holds where
   it holds in all; datasets in which nothing that it compares has a number are named and do not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..analysis import statistics
from .claims import CLAIMS, INDICATORS, INITIAL, TAUGHT, Claim, Comparison, Quantity
from .labels import PUBLISHED, measure
from .typesetting import document, grid, not_paper_scale

INSTANCES = 1000  # the paper's sample behind Tables 3 and 4
_COUNTED = {"holds": "hold", "fails": "fail", "cannot_tell": "undecided"}


@dataclass(frozen=True)
class Judged:
    """One comparison in one dataset: what was claimed, found and concluded, in words and numbers."""

    claimed: str
    verdict: str
    found: str = ""
    interval: str = ""
    difference: float = np.nan
    low: float = np.nan
    high: float = np.nan

    @property
    def absent(self) -> bool:
        return np.isnan(self.difference)

    def sentence(self, where: str) -> str:
        told = f"found {self.found} ({self.interval})" if not self.absent else self.found
        return f"{where}, {self.claimed}: {told}: {_plain(self.verdict)}."


def _plain(verdict: str) -> str:
    return verdict.replace("_", " ")


class _Rows:
    """Looks quantities and differences up among rows."""

    def __init__(self, rows: pd.DataFrame, titles: dict[str, str]):
        self.titles = titles
        self.rows = {
            (row.table, row.experiment, row.dataset, row.statistic, row.target, row.percentile): row
            for row in rows.itertuples(index=False)
            if not np.isnan(row.mean)
        }

    def find(self, quantity: Quantity, dataset: str):
        """(experiment, value, low, high) of the first experiment that has a row, or None."""
        name = quantity.statistic.removesuffix("_std")
        for experiment in quantity.experiments:
            row = self.rows.get((quantity.table, experiment, dataset, name, quantity.target, quantity.percentile))
            if row is not None and name == quantity.statistic:
                return experiment, row.mean, row.ci_low, row.ci_high
            if row is not None:  # a standard deviation's own interval: normal; wide for a polarised distribution
                half = row.std / np.sqrt(2 * max(row.n - 1, 1))
                return experiment, row.std, *statistics.combined(row.std, half)
        return None

    def interval(self, comparison: Comparison, dataset: str, high, low) -> tuple[float, float]:
        """95 % interval of the difference of two found quantities, paired where a difference row is there."""
        sides = ((high, comparison.high), (low, comparison.low))
        for sign, (one, first), (other, second) in ((1, *sides), (-1, *reversed(sides))):
            name = one[0] if one[0] == other[0] else f"{one[0]} - {other[0]}"
            same = first.percentile == second.percentile
            percentile = first.percentile if same else f"{first.percentile} - {second.percentile}"
            row = self.rows.get((first.table, name, dataset, first.statistic, first.target, percentile))
            if row is not None and not np.isnan(row.ci_low):
                return (row.ci_low, row.ci_high) if sign == 1 else (-row.ci_high, -row.ci_low)
        errors = [statistics.standard_error(*side[2:]) for side in (high, low)]
        return statistics.combined(high[1] - low[1], *errors)

    def title(self, quantity: Quantity, found) -> str:
        name = found[0] if found else quantity.experiments[0]
        return self.titles.get(name, name)

    def compare(self, comparison: Comparison, dataset: str) -> Judged:
        """Judge one comparison by rule 2 of the module."""
        if isinstance(comparison.high, Quantity) and isinstance(comparison.low, Quantity):
            return self._two(comparison, dataset)
        return self._against_number(comparison, dataset)

    def _two(self, comparison: Comparison, dataset: str) -> Judged:
        sides = (comparison.high, comparison.low)
        high, low = (self.find(side, dataset) for side in sides)
        names = [self.title(side, found) for side, found in zip(sides, (high, low), strict=True)]
        words = comparison.high.words
        if comparison.high.percentile != comparison.low.percentile:
            words = measure(comparison.high.statistic, comparison.high.target)
            names = [f"{name} p{side.percentile}" for name, side in zip(names, sides, strict=True)]
        claimed = f"{words}: {names[0]} {'>' if comparison.strict else '≥'} {names[1]}"
        missing = [name for name, found in zip(names, (high, low), strict=True) if found is None]
        if missing:
            return Judged(claimed, "cannot_tell", f"no number for {' and '.join(dict.fromkeys(missing))}")
        difference = high[1] - low[1]
        ends = self.interval(comparison, dataset, high, low)
        digits = _digits(comparison.high)
        found = f"{high[1]:.{digits}f} and {low[1]:.{digits}f}, difference {difference:+.{digits}f}"
        told = _told(*ends, digits, "+")
        return Judged(claimed, _verdict(difference, *ends, comparison.strict), found, told, difference, *ends)

    def _against_number(self, comparison: Comparison, dataset: str) -> Judged:
        above = isinstance(comparison.high, Quantity)
        side, limit = (comparison.high, comparison.low) if above else (comparison.low, comparison.high)
        entry = self.find(side, dataset)
        claimed = f"{side.words}: {self.title(side, entry)} {'>' if above else '<'} {limit:g}"
        if entry is None:
            return Judged(claimed, "cannot_tell", f"no number for {self.title(side, entry)}")
        value, low, high = entry[1:]
        difference, *ends = (
            (value - limit, low - limit, high - limit) if above else (limit - value, limit - high, limit - low)
        )
        found, told = f"{value:.{_digits(side)}f}", _told(low, high, _digits(side))
        return Judged(claimed, _verdict(difference, *ends, comparison.strict), found, told, difference, *ends)


def _digits(quantity: Quantity) -> int:
    return 2 if quantity.statistic in ("em", "f1") else 3


def _told(low: float, high: float, digits: int, sign: str = "") -> str:
    if np.isnan(low):
        return "no interval can be had, judged by the sign"
    return f"95 % interval {low:{sign}.{digits}f} to {high:{sign}.{digits}f}"


def _verdict(difference: float, low: float, high: float, strict: bool) -> str:
    difference = round(difference, 9)  # published decimals: 0.05 - 0.04 is 0.01
    if np.isnan(low):
        low = high = difference
    if high < 0:
        return "fails"
    return "holds" if (low > 0 if strict else difference >= 0) else "cannot_tell"


def _quantified(quantifier: str, verdicts: Sequence[str]) -> str:
    holds, fails, total = verdicts.count("holds"), verdicts.count("fails"), len(verdicts)
    enough = {"all": holds == total, "any": holds > 0, "most": 2 * holds > total}[quantifier]
    lost = {"all": fails > 0, "any": fails == total, "most": 2 * fails >= total}[quantifier]
    return "holds" if enough else "fails" if lost else "cannot_tell"


# ------------------------------------------------------------------ claims and indicators


def judge(rows: pd.DataFrame, labels: dict) -> dict:
    """Judge all claims and indicators.

    Args:
        rows: rows of Tables 1, 3, 4, Appendix C and, where there are any, of the differences.
        labels: titles, and the datasets to judge on.

    Returns:
        ``claims``: for each its id, statement, verdict (holds, fails, cannot_tell), by_dataset, evidence (sentences),
        ci (an entry a comparison: dataset, claimed, found, interval, difference, low, high, verdict);
        ``indicators``: for each experiment and dataset what both indicators say and whether HR@5 rose;
        ``against``: a sentence for each number that lies on the other side of what the paper's words say.
    """
    found = _Rows(rows, labels["experiments"])
    claims, against = [], []
    for claim in CLAIMS:
        judged, opposed = _judge_claim(claim, found, labels["datasets"])
        claims.append(judged)
        against += opposed
    return {"claims": claims, "indicators": _indicators(found, labels["datasets"]), "against": against}


def _judge_claim(claim: Claim, rows: _Rows, datasets: dict[str, str]) -> tuple[dict, list[str]]:
    by_dataset, evidence, ci, against, counted = {}, [], [], [], []
    for dataset, title in datasets.items():
        parts = [[rows.compare(comparison, dataset) for comparison in part.comparisons] for part in claim.parts]
        verdicts = [
            _quantified(part.quantifier, [judged.verdict for judged in found])
            for part, found in zip(claim.parts, parts, strict=True)
        ]
        by_dataset[dataset] = _quantified("all", verdicts)
        every = [judged for found in parts for judged in found]
        if all(judged.absent for judged in every):
            evidence.append(f"{title}: cannot tell, {'; '.join(dict.fromkeys(judged.found for judged in every))}.")
            continue
        counted.append(by_dataset[dataset])
        counts = (f"{sum(judged.verdict == verdict for judged in every)} {word}" for verdict, word in _COUNTED.items())
        evidence.append(f"{title}: {_plain(by_dataset[dataset])} (of {len(every)} comparisons {', '.join(counts)}).")
        evidence += [judged.sentence(title) for judged in every]
        ci += [_entry(judged, dataset) for judged in every]
        for part, verdict, found in zip(claim.parts, verdicts, parts, strict=True):
            if part.quantifier == "all" or verdict != "holds":  # of 'any' and 'most' some may lie on the other side
                against += _opposed(claim.id, title, part.comparisons, found)
        beyond = [rows.compare(comparison, dataset) for comparison in claim.beyond]
        evidence += [f"Beyond the claim: {judged.sentence(title)}" for judged in beyond if not judged.absent]
        against += _opposed(f"{claim.id}, the words behind it", title, claim.beyond, beyond)
    verdict = _quantified("all", counted) if counted else "cannot_tell"
    told = {"id": claim.id, "statement": claim.statement, "verdict": verdict, "by_dataset": by_dataset}
    return {**told, "evidence": evidence, "ci": ci}, against


def _six(value: float) -> float | None:
    return None if np.isnan(value) else float(f"{value + 0.0:.6g}")


def _entry(judged: Judged, dataset: str) -> dict:
    numbers = {name: _six(getattr(judged, name)) for name in ("difference", "low", "high")}
    words = {name: getattr(judged, name) for name in ("claimed", "found", "interval", "verdict")}
    return {"dataset": dataset, **words, **numbers}


def _opposed(head: str, title: str, comparisons: Sequence[Comparison], found: Sequence[Judged]) -> list[str]:
    """Sentences on the comparisons whose numbers themselves lie on the other side, or tie where 'above' was said."""
    return [
        f"{head}: {judged.sentence(title)}"
        for comparison, judged in zip(comparisons, found, strict=True)
        if round(judged.difference, 9) < 0 or (comparison.strict and round(judged.difference, 9) == 0)
    ]


def _indicators(rows: _Rows, datasets: dict[str, str]) -> list[dict]:
    """RQ3: what each indicator says of a reader, and what became of the retriever that it taught."""
    told = []
    for experiment, taught in TAUGHT.items():
        for dataset in datasets:
            rise = rows.compare(Comparison(Quantity((taught,), "hr_at_5"), Quantity(INITIAL, "hr_at_5")), dataset)
            line = {"experiment": experiment, "dataset": dataset, "retriever_of": taught}
            line |= {"hr_at_5_rose": rise.verdict, "hr_at_5_change": _six(rise.difference)}
            for number, rule in INDICATORS.items():
                says = _quantified(
                    "all", [rows.compare(comparison, dataset).verdict for comparison in rule(experiment)]
                )
                undecided = "cannot_tell" in (says, rise.verdict)
                line |= {f"indicator_{number}": says}
                line |= {f"indicator_{number}_right": None if undecided else says == rise.verdict}
            told.append(line)
    return told


# ------------------------------------------------------------------ the paper's own numbers


def published_rows(rows: pd.DataFrame, test_sizes: dict[str, int]) -> pd.DataFrame:
    """Published rows with n and normal-approximation intervals.

    Tables 3 and 4: from the published std, with n the 1,000 instances (a unit is a passage, and an instance's five
    are not independent). Table 1: a score of 0 or 1 a question, n the test split; F1 has at most that variance.
    """
    tops = {"em": 100.0, "f1": 100.0, "hr_at_5": 1.0}
    told = []
    for row in rows.to_dict("records"):
        first = row["table"] == "1"
        n = float(test_sizes.get(row["dataset"], np.nan)) if first else INSTANCES
        std = statistics.share_std(row["mean"], tops[row["statistic"]]) if first else row["std"]
        low, high = statistics.normal_interval(row["mean"], std, n)
        told.append({**row, "n": n, "ci_low": low, "ci_high": high})
    return pd.DataFrame(told)


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


def judge_published(rows: pd.DataFrame, test_sizes: dict[str, int]) -> dict:
    """Judge the paper's claims on its own tables, by the rules that the measured ones are judged by."""
    judgement = judge(published_rows(rows, test_sizes), PUBLISHED)
    judgement["against"] += impossible_spreads(rows, PUBLISHED)
    return judgement


# ------------------------------------------------------------------ for people

PUBLISHED_NOTES = [
    "Published means, to the decimals published. Intervals: normal approximation, as if experiments were independent. "
    f"Tables 3 and 4: from the published standard deviations with n = {INSTANCES:,} instances. Table 1: n is the test "
    "split, a score of 0 or 1 a question; F1, between 0 and 1, has at most that variance.",
    "The initial retriever's HR@5 is Step1's, which leaves the retriever as it was. The tables have no row of "
    "the initial reader's EM and F1, none of Atlas's and of perplexity distillation's EM, F1 and HR@5, none of "
    "perplexity distillation on NQ, and no number of Appendix C.",
]


def measured_notes(labels: dict) -> list[str]:
    """What a reader of measured verdicts must know."""
    return [
        f"Scale: {labels['scale']}. Seeds: {', '.join(map(str, labels['seeds']))}. Intervals: 95 %, paired bootstrap "
        "with seeds and instances drawn crossed; those of standard deviations likewise.",
        *not_paper_scale(labels["scale"]),
    ]


def claims_markdown(judgement: dict, labels: dict, title: str, notes: Sequence[str]) -> str:
    """``claims.md``: verdicts, indicators, what is not borne out, and each claim's evidence as a table."""
    datasets, titles = labels["datasets"], labels["experiments"]
    claims = judgement["claims"]
    verdicts = grid(
        ("Claim", "Statement", "Verdict", *datasets.values()),
        [
            (
                c["id"],
                c["statement"],
                f"**{_plain(c['verdict'])}**",
                *(_plain(c["by_dataset"][name]) for name in datasets),
            )
            for c in claims
        ],
    )
    good = {"holds": "good", "fails": "not good", "cannot_tell": "cannot tell"}
    rose = {"holds": "rose", "fails": "fell", "cannot_tell": "cannot tell"}
    right = {True: "yes", False: "no", None: "cannot tell"}
    indicators = grid(
        ("Reader of", "Dataset", "Indicator 1", "Right?", "Indicator 2", "Right?", "HR@5 of the retriever it taught"),
        [
            (
                titles[row["experiment"]],
                datasets[row["dataset"]],
                good[row["indicator_1"]],
                right[row["indicator_1_right"]],
                good[row["indicator_2"]],
                right[row["indicator_2_right"]],
                f"{rose[row['hr_at_5_rose']]}"
                + ("" if row["hr_at_5_change"] is None else f" ({row['hr_at_5_change']:+.3f})")
                + ("" if row["retriever_of"] == row["experiment"] else f", in {titles[row['retriever_of']]}"),
            )
            for row in judgement["indicators"]
        ],
    )
    against = "\n".join(f"- {sentence}" for sentence in judgement["against"]) or "Nothing."
    evidence = "\n\n".join(_evidence(claim, datasets) for claim in claims)
    body = (
        f"{verdicts}\n\n## Indicators (RQ3)\n\n{indicators}\n\n## Not borne out\n\n"
        f"Numbers that lie on the other side of what the words say, clearly or not.\n\n{against}\n\n"
        f"## Evidence\n\n{evidence}\n\n## Notes"
    )
    return document(title, body, notes)


def _evidence(claim: dict, datasets: dict[str, str]) -> str:
    rows = [
        (
            datasets[e["dataset"]],
            e["claimed"],
            e["found"],
            e["interval"].removeprefix("95 % interval "),
            _plain(e["verdict"]),
        )
        for e in claim["ci"]
    ]
    table = grid(("Dataset", "Claimed", "Found", "95 % interval", "Verdict"), rows) + "\n\n" if rows else ""
    rest = [
        line for line in claim["evidence"] if "(of " in line or line.startswith("Beyond") or ": cannot tell, no" in line
    ]
    return f"### {claim['id']}: {_plain(claim['verdict'])}\n\n{table}" + "\n".join(f"- {line}" for line in rest)
