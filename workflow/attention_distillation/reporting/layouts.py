"""Which tables and figures there are, and which rows stand in which column of a table.

Imports nothing heavy, so that the rules can ask what is made.
"""

from __future__ import annotations

from dataclasses import dataclass

from .labels import PERCENTILES, TABLE_OF_TARGET, Quantity

FIGURES = ("figure1", "figure3", "figure4", "figure5", "figure6", "figure7")  # 2 is a diagram
TABLES = ("table1", "table2", "table3", "table4", "appendix_c", "signal")
"""What ``make_tables`` lays out in Markdown and LaTeX, beside the differences."""


@dataclass(frozen=True)
class Column:
    """One column: which quantity it shows, under which headings."""

    heading: str
    quantity: Quantity
    group: str = ""


@dataclass(frozen=True)
class Layout:
    """One table: ``spread`` shows mean ± std, ``intervals`` the 95 % interval, ``best`` marks the highest value;
    ``absent`` stands where an experiment has no rows at all; ``table`` is where its rows stand, if not under the
    quantity's own table."""

    caption: str
    columns: tuple[Column, ...]
    table: str = ""
    spread: bool = False
    intervals: bool = True
    best: bool = False
    decoder_only: bool = False
    absent: str = "not run"

    def table_of(self, quantity: Quantity) -> str:
        """The table under which rows of one of its quantities stand."""
        return self.table or quantity.table

    @property
    def counts_units(self) -> bool:
        """Whether the last column counts the units without a Spearman value."""
        return self.spread and any(column.quantity.target for column in self.columns)


_SCORES = (
    Column("EM ↑", Quantity("em")),
    Column("F1 ↑", Quantity("f1")),
    Column("HR@5 ↑", Quantity("hr_at_5")),
)


def _analysis(target: str) -> Layout:
    headings = (("attention", "Avg. Attn."), ("spearman", "Spearman Corr."))
    return Layout(
        "Mean ± std over units of attention (or of the perplexity distribution) and of Spearman's correlation, "
        f"{target}-related tokens.",
        tuple(
            Column(f"{heading} (p{percentile})", Quantity(statistic, target, percentile))
            for percentile in PERCENTILES
            for statistic, heading in headings
        ),
        spread=True,
    )


LAYOUTS = {
    "table1": Layout("Performance of the experiments.", _SCORES, spread=True, best=True),
    "controls": Layout("Controls that the paper lacks, beside its experiments.", _SCORES, spread=True),
    "signal": Layout(
        "What the reader's attention would tell a retriever, over questions of which some passages shown bear an "
        "answer and some do not: how often the most attended passage (S_i of eq. 1) bears one; the same with each "
        "place's mean taken off; how often chance would; the share of attention in the last place (in rank order the "
        "worst passage's).",
        (
            Column("Picks an answer", Quantity("picks")),
            Column("Place's mean off", Quantity("picks_centred")),
            Column("Chance", Quantity("chance")),
            Column("Share of last place", Quantity("last_place")),
        ),
        table="S",
        absent="–",  # not run, or run without passages
    ),
    "table2": Layout(
        "Average attention and Spearman correlation over answer-related and question-related tokens, "
        "decoder-only readers. The highest values are bold on the first dataset and underlined on the second.",
        tuple(
            Column(heading, Quantity(statistic, target, percentile), f"{target.capitalize()}-related, p{percentile}")
            for target in TABLE_OF_TARGET
            for percentile in PERCENTILES
            for statistic, heading in (("attention", "Attn."), ("spearman", "Corr."))
        ),
        table="2",
        intervals=False,
        best=True,
        decoder_only=True,
    ),
    "table3": _analysis("answer"),
    "table4": _analysis("question"),
    "appendix_c": Layout(
        "Pearson's correlation over instances between the answer-related and the question-related value.",
        tuple(
            Column(f"p{percentile}", Quantity("pearson", "", percentile, statistic), heading)
            for statistic, heading in (("attention", "Attention"), ("spearman", "Spearman"))
            for percentile in PERCENTILES
        ),
    ),
}
