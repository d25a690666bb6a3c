"""The paper's claims C1 to C8 and its two indicators: the paper's sentences, and the comparisons that bear them out.

A comparison reads as it is written: ``compare(ANSWER, "step1", ">", "checkpoint")`` claims that step1's mean is above
the checkpoint's in each measure of ``ANSWER``. Module ``judging`` holds the comparisons against the numbers.

The paper leaves some words open. They are read so:

- "increasingly higher": attention is higher at p95 than at p90.
- Indicator 2's threshold: the fine-tuned readers are above 0.3, the other decoder-only readers below.
- "polarized": Spearman's standard deviation over units is larger than Step2's.
- "does not align" with a commonality: one comparison goes clearly against it.
- Appendix C: perplexity distillation is left out, because its distribution is no attention.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..settings import MAIN
from .labels import BASELINE, PERCENTILES, TABLE_OF_TARGET, Quantity

# ------------------------------------------------------------------ what is compared

SCORES = (Quantity("em"), Quantity("f1"), Quantity("hr_at_5"))
HIT_RATE = SCORES[-1:]
ANSWER_ATTENTION, QUESTION_ATTENTION, ANSWER_SPEARMAN, QUESTION_SPEARMAN = (
    tuple(Quantity(statistic, target, percentile) for percentile in PERCENTILES)
    for statistic in ("attention", "spearman")
    for target in TABLE_OF_TARGET
)
ANSWER, QUESTION = ANSWER_ATTENTION + ANSWER_SPEARMAN, QUESTION_ATTENTION + QUESTION_SPEARMAN
ANSWER_SPEARMAN_SPREAD = tuple(quantity._replace(statistic="spearman_std") for quantity in ANSWER_SPEARMAN)
CORRELATIONS = tuple(Quantity("pearson", "", p, of) for of in ("attention", "spearman") for p in PERCENTILES)

INITIAL = (BASELINE, "step1")  # both have the initial retriever: step1 trains none
DECODER_ONLY = (BASELINE, "off_the_shelf", "step1", "step2")


@dataclass(frozen=True)
class Mean:
    """A quantity's mean over an experiment; of several ``experiments`` the first that was run counts."""

    experiments: tuple[str, ...]
    quantity: Quantity


@dataclass(frozen=True)
class Comparison:
    left: Mean
    sign: str  # >, ≥ or <
    right: Mean | float


@dataclass(frozen=True)
class Part:
    """``all``, ``any`` or ``most`` of the comparisons are claimed to be true."""

    quantifier: str
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True)
class Claim:
    """``statement`` is the claim in our words; it holds where all ``parts`` do.

    ``fine_tuned``: experiments whose readers the claim takes for ones that answer. ``implied``: comparisons that the
    paper's words imply and the statement leaves out; they are reported and do not count.
    """

    id: str
    section: str
    quote: str
    statement: str
    parts: tuple[Part, ...]
    fine_tuned: tuple[str, ...] = ()
    implied: tuple[Comparison, ...] = ()


def compare(
    quantities: tuple[Quantity, ...], left: str | tuple[str, ...], sign: str, right: str | tuple[str, ...] | float
) -> tuple[Comparison, ...]:
    """In each quantity, an experiment's mean against another's, or against a number."""

    def side(of: str | tuple[str, ...] | float, quantity: Quantity) -> Mean | float:
        return of if isinstance(of, float) else Mean((of,) if isinstance(of, str) else of, quantity)

    return tuple(Comparison(side(left, quantity), sign, side(right, quantity)) for quantity in quantities)


def attention_between_percentiles(target: str, experiment: str, left: str, sign: str, right: str) -> Comparison:
    """An experiment's mean attention to the tokens above one percentile against that to those above another."""
    ends = (Mean((experiment,), Quantity("attention", target, percentile)) for percentile in (left, right))
    return Comparison(next(ends), sign, next(ends))


def all_of(*comparisons: Comparison) -> Part:
    return Part("all", comparisons)


def any_of(*comparisons: Comparison) -> Part:
    return Part("any", comparisons)


def most_of(*comparisons: Comparison) -> Part:
    return Part("most", comparisons)


# ------------------------------------------------------------------ the claims

CLAIMS = (
    Claim(
        "C1",
        "Section 3.2, RQ1",
        "As shown in Table 1, the Fine-tuned Distillation Training after Step2 shows the best performance in both EM, "
        "F1 and HR@5. In contrast, Off-the-shelf Distillation Training performs the worst",
        "EM, F1 and HR@5 rise from off-the-shelf distillation to Step1 to Step2.",
        (
            all_of(
                *compare(SCORES, "step1", ">", "off_the_shelf"),
                *compare(SCORES, "step2", ">", "step1"),
            ),
        ),
        fine_tuned=("step1", "step2"),
    ),
    Claim(
        "C2",
        "Section 3.2, RQ1",
        "with its retriever even underperforming the initial Contriever model (i.e., the retriever model of Fine-tuned "
        "Distillation Training Step1)",
        "Off-the-shelf distillation ends with a retriever (HR@5) below the initial one.",
        (all_of(*compare(HIT_RATE, INITIAL, ">", "off_the_shelf")),),
    ),
    Claim(
        "C3",
        "Section 3.2, RQ2, Commonality 1",
        "In all training settings, tokens closer to answer tokens (i.e., from a similarity higher than 90th percentile "
        "to a similarity higher than 95th percentile) receive increasingly higher attention scores. It can be observed "
        "that for both two measure metrics, the Off-the-shelf Distillation Training results are lower compared to the "
        "Off-the-shelf Checkpoint, while Fine-tuned Distillation Training shows improvement in both Step1 and Step2.",
        "Commonality 1: answer-related attention and Spearman: off-the-shelf distillation < checkpoint < Step1 "
        "≤ Step2, and attention at p95 is at least that at p90 after fine-tuning.",
        (
            all_of(
                *compare(ANSWER, "checkpoint", ">", "off_the_shelf"),
                *compare(ANSWER, "step1", ">", "checkpoint"),
                *compare(ANSWER, "step2", "≥", "step1"),
                attention_between_percentiles("answer", "step1", "95", "≥", "90"),
                attention_between_percentiles("answer", "step2", "95", "≥", "90"),
            ),
        ),
        fine_tuned=("step1", "step2"),
        implied=(attention_between_percentiles("answer", "off_the_shelf", "95", ">", "90"),),
    ),
    Claim(
        "C4",
        "Section 3.2, RQ2, Commonality 2",
        "Table 2 also indicates that tokens closer to the nouns in question tokens receive higher attention scores. "
        "The Fine-tuned Distillation experiments exhibit much higher values in both metrics compared to Off-the-shelf "
        "Checkpoint and Off-the-shelf Attention Distillation",
        "Commonality 2: question-related attention and Spearman of Step1 and Step2 are above those of the checkpoint "
        "and of off-the-shelf distillation.",
        (
            all_of(
                *compare(QUESTION, "step1", ">", "checkpoint"),
                *compare(QUESTION, "step1", ">", "off_the_shelf"),
                *compare(QUESTION, "step2", ">", "checkpoint"),
                *compare(QUESTION, "step2", ">", "off_the_shelf"),
            ),
        ),
        fine_tuned=("step1", "step2"),
        implied=tuple(attention_between_percentiles("question", name, "95", ">", "90") for name in DECODER_ONLY),
    ),
    Claim(
        "C5",
        "Section 3.2, RQ3, Indicator 2",
        "if the average Spearman correlation between the attention scores of M_Q and their similarity to Q is above "
        "the threshold for a weak monotonic relationship (i.e., value > 0.3), the attention distillation quality is "
        "considered good.",
        "Spearman to the question is above 0.3 for Step1 and Step2 and below for the other decoder-only readers.",
        (
            all_of(
                *compare(QUESTION_SPEARMAN, "step1", ">", 0.3),
                *compare(QUESTION_SPEARMAN, "step2", ">", 0.3),
                *compare(QUESTION_SPEARMAN, "checkpoint", "<", 0.3),
                *compare(QUESTION_SPEARMAN, "off_the_shelf", "<", 0.3),
            ),
        ),
        fine_tuned=("step1", "step2"),
    ),
    Claim(
        "C6",
        "Section 3.2, RQ4",
        "the performance of Atlas-large surpasses Fine-tuned Distillation Training (Step2). However, only the average "
        "P_ATTN(ma_i) trend from Indicator1 applies to this encoder-to-decoder structure model, while Atlas-large "
        "exhibits a polarized distribution for the Spearman correlation values",
        "Atlas beats Step2 in EM, F1 and HR@5; its answer-related attention is above the checkpoint's (Indicator 1's "
        "attention applies); its Spearman is polarised (a larger standard deviation over units than Step2's).",
        (
            all_of(
                *compare(SCORES, "atlas", ">", "step2"),
                *compare(ANSWER_ATTENTION, "atlas", ">", "checkpoint"),
                *compare(ANSWER_SPEARMAN_SPREAD, "atlas", ">", "step2"),
            ),
        ),
        fine_tuned=("step2", "atlas"),
        implied=compare(ANSWER_ATTENTION, "atlas", ">", "step2"),  # the better model, the higher attention
    ),
    Claim(
        "C7",
        "Section 3.2, RQ5",
        "the perplexity distribution does not align with either Commonality 1 or Commonality 2",
        "Perplexity distillation follows neither commonality: for either target its distribution or its Spearman lies "
        "below the checkpoint's, or its mean falls from p90 to p95.",
        (
            any_of(
                *compare(ANSWER, "checkpoint", ">", "perplexity"),
                attention_between_percentiles("answer", "perplexity", "90", ">", "95"),
            ),
            any_of(
                *compare(QUESTION, "checkpoint", ">", "perplexity"),
                attention_between_percentiles("question", "perplexity", "90", ">", "95"),
            ),
        ),
        fine_tuned=("perplexity",),
        # a distribution that does not align would not have the higher mean
        implied=compare(ANSWER_ATTENTION + QUESTION_ATTENTION, "checkpoint", ">", "perplexity"),
    ),
    Claim(
        "C8",
        "Appendix C",
        "We also find a strong positive correlation (i.e., Pearson correlation > 0.5 in most cases) between our two "
        "proposed indicators in decoder-only language model structure. In contrast, this correlation does not appear "
        "in encoder-to-decoder language model structure",
        "Appendix C: over instances, answer- and question-related values correlate above 0.5 in most cases of "
        "decoder-only readers, and in none of Atlas.",
        (
            most_of(*(comparison for name in DECODER_ONLY for comparison in compare(CORRELATIONS, name, ">", 0.5))),
            all_of(*compare(CORRELATIONS, "atlas", "<", 0.5)),
        ),
        fine_tuned=("step1", "step2", "atlas"),
    ),
)


def indicator(number: int, experiment: str) -> Part:
    """What makes an experiment's reader a good teacher by Indicator 1 or 2 (section 3.2, RQ3).

    Indicator 1: "Higher average P_ATTN(ma_i) values indicate better attention distillation quality. Additionally, a
    higher average Spearman correlation [...] also signifies better quality." Indicator 2: "An increase in average
    P_ATTN(mq_i) suggests better quality", and the Spearman correlation is above 0.3. "Higher" and "increase" mean above
    the checkpoint's.
    """
    if number == 1:
        return all_of(*compare(ANSWER, experiment, ">", BASELINE))
    return all_of(
        *compare(QUESTION_ATTENTION, experiment, ">", BASELINE), *compare(QUESTION_SPEARMAN, experiment, ">", 0.3)
    )


# the experiment whose retriever a reader taught: Step1 trains no retriever, and its reader teaches Step2's
PUPILS = {"off_the_shelf": "off_the_shelf", "step1": "step2", "step2": "step2"}


def pairs() -> list[tuple[str, str]]:
    """Pairs (later, earlier in the paper's order) of experiments that the claims compare."""
    compared = set()
    for claim in CLAIMS:
        for comparison in (*(c for part in claim.parts for c in part.comparisons), *claim.implied):
            if isinstance(comparison.right, Mean):
                compared |= {
                    (one, other) for one in comparison.left.experiments for other in comparison.right.experiments
                }
    in_order = {tuple(sorted(pair, key=MAIN.index, reverse=True)) for pair in compared if pair[0] != pair[1]}
    return sorted(in_order, key=lambda pair: [MAIN.index(name) for name in pair])
