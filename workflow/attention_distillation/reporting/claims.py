"""The paper's claims C1 to C8 and its two indicators, as data; module ``judging`` holds them against the numbers.

A claim is made of *parts*, each a quantifier over *comparisons*, each a quantity that is to be above another one, or
above a number. ``beyond`` are comparisons that the paper's words imply and the claim as listed leaves out: told, not
counted. The readings that are ours: Commonality 1's "increasingly higher" is of attention, from p90 to p95; "the
others" of C5 are the other decoder-only readers, for the indicator is theirs; Atlas is "polarised" where the standard
deviation of Spearman over units is above Step2's; "follows neither commonality" is one clear departure for each
target; C8 leaves perplexity distillation out, whose distribution is no attention.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

from ..settings import MAIN
from .labels import BASELINE, STATISTICS, measure

_PERCENTILES = ("90", "95")
_SCORES = ("em", "f1", "hr_at_5")
_ANALYSES = ("attention", "spearman")


# ------------------------------------------------------------------ what a claim is


@dataclass(frozen=True)
class Quantity:
    """A mean of a table; of several ``experiments`` the first that was run counts. ``spearman_std``: the spread."""

    experiments: tuple[str, ...]
    statistic: str
    target: str = ""
    percentile: str = ""
    of: str = ""  # for pearson: attention or spearman

    @property
    def table(self) -> str:
        return f"C.{self.of}" if self.of else {"answer": "3", "question": "4"}.get(self.target, "1")

    @property
    def words(self) -> str:
        if self.of:
            return f"Pearson of answer- with question-related {STATISTICS[self.of]} (p{self.percentile})"
        return measure(self.statistic, self.target, self.percentile)


@dataclass(frozen=True)
class Comparison:
    """``high`` is claimed to be above ``low``, or, where not ``strict``, at least ``low``."""

    high: Quantity | float
    low: Quantity | float
    strict: bool = True


@dataclass(frozen=True)
class Part:
    quantifier: str  # all, any, most
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True)
class Claim:
    id: str
    statement: str
    parts: tuple[Part, ...]
    beyond: tuple[Comparison, ...] = ()


INITIAL = (BASELINE, "step1")  # step1 leaves the retriever as it was, so its HR@5 is the initial one's


def _score(statistic: str, *experiments: str) -> Quantity:
    return Quantity(experiments, statistic)


def _analysis(experiment: str, statistic: str, target: str, percentile: str) -> Quantity:
    return Quantity((experiment,), statistic, target, percentile)


def _over(target: str, *pairs: tuple[str, str], statistics=_ANALYSES, strict: bool = True) -> tuple[Comparison, ...]:
    """Each pair (high, low), in each statistic and percentile of the target."""
    return tuple(
        Comparison(_analysis(high, name, target, p), _analysis(low, name, target, p), strict)
        for high, low in pairs
        for name in statistics
        for p in _PERCENTILES
    )


def _rise(target: str, *experiments: str, strict: bool = False) -> tuple[Comparison, ...]:
    """Mean attention at p95 against p90."""
    return tuple(
        Comparison(*(_analysis(name, "attention", target, p) for p in reversed(_PERCENTILES)), strict)
        for name in experiments
    )


def _spearman_above(limit: float, *experiments: str) -> tuple[Comparison, ...]:
    return tuple(
        Comparison(_analysis(name, "spearman", "question", p), limit) for name in experiments for p in _PERCENTILES
    )


def _reversed(comparisons: Iterable[Comparison]) -> tuple[Comparison, ...]:
    return tuple(Comparison(comparison.low, comparison.high) for comparison in comparisons)


def _pearson(*experiments: str) -> tuple[Quantity, ...]:
    return tuple(
        Quantity((name,), "pearson", "", p, of) for name in experiments for of in _ANALYSES for p in _PERCENTILES
    )


_UNTUNED, _TUNED = (BASELINE, "off_the_shelf"), ("step1", "step2")
_DECODER_ONLY = (*_UNTUNED, *_TUNED)
_PERPLEXITY_ATTENTION = {
    target: _over(target, (BASELINE, "perplexity"), statistics=("attention",)) for target in ("answer", "question")
}


def _against_commonality(target: str) -> Part:
    return Part(
        "any",
        (
            *_over(target, (BASELINE, "perplexity")),
            *_reversed(_rise(target, "perplexity")),
        ),
    )


CLAIMS = (
    Claim(
        "C1",
        "EM, F1 and HR@5 rise from off-the-shelf distillation to Step1 to Step2.",
        (
            Part(
                "all",
                tuple(
                    Comparison(_score(name, high), _score(name, low))
                    for low, high in itertools.pairwise(("off_the_shelf", "step1", "step2"))
                    for name in _SCORES
                ),
            ),
        ),
    ),
    Claim(
        "C2",
        "Off-the-shelf distillation ends with a retriever (HR@5) below the initial one.",
        (Part("all", (Comparison(_score("hr_at_5", *INITIAL), _score("hr_at_5", "off_the_shelf")),)),),
    ),
    Claim(
        "C3",
        "Commonality 1: answer-related attention and Spearman: off-the-shelf distillation < checkpoint < Step1 "
        "≤ Step2, and attention at p95 is at least that at p90 after fine-tuning.",
        (
            Part(
                "all",
                (
                    *_over("answer", (BASELINE, "off_the_shelf"), ("step1", BASELINE)),
                    *_over("answer", ("step2", "step1"), strict=False),
                    *_rise("answer", *_TUNED),
                ),
            ),
        ),
        # "In all training settings, tokens closer to answer tokens ... receive increasingly higher attention scores"
        beyond=_rise("answer", "off_the_shelf", strict=True),
    ),
    Claim(
        "C4",
        "Commonality 2: question-related attention and Spearman of Step1 and Step2 are above those of the checkpoint "
        "and of off-the-shelf distillation.",
        (Part("all", _over("question", *itertools.product(_TUNED, _UNTUNED))),),
        # "tokens closer to the nouns in question tokens receive higher attention scores"
        beyond=_rise("question", *_DECODER_ONLY, strict=True),
    ),
    Claim(
        "C5",
        "Spearman to the question is above 0.3 for Step1 and Step2 and below for the other decoder-only readers.",
        (Part("all", (*_spearman_above(0.3, *_TUNED), *_reversed(_spearman_above(0.3, *_UNTUNED)))),),
    ),
    Claim(
        "C6",
        "Atlas beats Step2 in EM, F1 and HR@5; its answer-related attention is above the checkpoint's (Indicator 1's "
        "attention applies); its Spearman is polarised (a larger standard deviation over units than Step2's).",
        (
            Part("all", tuple(Comparison(_score(name, "atlas"), _score(name, "step2")) for name in _SCORES)),
            Part("all", _over("answer", ("atlas", BASELINE), statistics=("attention",))),
            Part("all", _over("answer", ("atlas", "step2"), statistics=("spearman_std",))),
        ),
        # "the average attention trend from Indicator 1 applies": the better model, the higher attention
        beyond=_over("answer", ("atlas", "step2"), statistics=("attention",)),
    ),
    Claim(
        "C7",
        "Perplexity distillation follows neither commonality: for either target its distribution or its Spearman lies "
        "below the checkpoint's, or its mean falls from p90 to p95.",
        (_against_commonality("answer"), _against_commonality("question")),
        # "the perplexity distribution does not align with either": then its mean would not be the higher one
        beyond=(*_PERPLEXITY_ATTENTION["answer"], *_PERPLEXITY_ATTENTION["question"]),
    ),
    Claim(
        "C8",
        "Appendix C: over instances, answer- and question-related values correlate above 0.5 in most cases of "
        "decoder-only readers, and in none of Atlas.",
        (
            Part("most", tuple(Comparison(quantity, 0.5) for quantity in _pearson(*_DECODER_ONLY))),
            Part("all", tuple(Comparison(0.5, quantity) for quantity in _pearson("atlas"))),
        ),
    ),
)

INDICATORS = {
    1: lambda name: _over("answer", (name, BASELINE)),
    2: lambda name: (
        *_over("question", (name, BASELINE), statistics=("attention",)),
        *_spearman_above(0.3, name),
    ),
}
# whose retriever tells whether an experiment's reader taught well: Step1 trains none, its reader teaches Step2's
TAUGHT = {"off_the_shelf": "off_the_shelf", "step1": "step2", "step2": "step2"}


def pairs() -> list[tuple[str, str]]:
    """Pairs (later, earlier in the paper's order) of experiments that the claims compare."""
    comparisons = [
        c for claim in CLAIMS for part in (*claim.parts, Part("all", claim.beyond)) for c in part.comparisons
    ]
    found = set()
    for comparison in comparisons:
        if isinstance(comparison.high, Quantity) and isinstance(comparison.low, Quantity):
            for pair in itertools.product(comparison.high.experiments, comparison.low.experiments):
                if pair[0] != pair[1]:
                    found.add(tuple(sorted(pair, key=MAIN.index, reverse=True)))
    return sorted(found, key=lambda pair: [MAIN.index(name) for name in pair])
