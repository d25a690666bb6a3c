"""Words for tables, figures and claims: titles of experiments and datasets, names of measures. Imports nothing heavy,
so that the Snakefile can ask for the labels of a run."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from .. import analysis
from ..settings import MAIN, Run, read_scale

BASELINE = "checkpoint"  # the initial models, trained on nothing
STATISTICS = {"em": "EM", "f1": "F1", "hr_at_5": "HR@5", "attention": "attention", "spearman": "Spearman"}
PERCENTILES = tuple(map(str, analysis.PERCENTILES))  # as in the tables' files
TABLE_OF_TARGET = dict(zip(analysis.TARGETS, ("3", "4"), strict=True))
UNITS = {"passage": "retrieved passages of instances", "question": "instances, their passages together"}


@cache
def published() -> dict:
    """The labels of the paper's own numbers: what the scale ``paper`` calls its experiments and datasets."""
    paper = read_scale("paper")
    experiments = {name: row for name, row in paper["experiments"].items() if name in MAIN}
    return {
        "scale": "published",
        "seeds": [],
        "experiments": {name: row["title"] for name, row in experiments.items()},
        "datasets": {name: row["title"] for name, row in paper["datasets"].items()},
        "decoder_only": [name for name, row in experiments.items() if "architecture" not in row],
        "k": paper["retrieval"]["k"],
        "reading": {},
    }


def labels(run: Run) -> dict:
    """What a table or figure needs to know of a run, as plain JSON-able data.

    Returns:
        ``scale`` (its name), ``seeds``, ``experiments`` and ``datasets`` (name to title, in the order to show),
        ``decoder_only`` (names of experiments), ``k`` (passages a question), ``reading`` (the analysis: unit,
        similarity, attention). ``experiments`` has all of the paper's: those that were not run are shown as "not run".
    """
    known = run.scale.experiments

    def decoder_only(name: str) -> bool:
        return known[name].architecture == "decoder_only" if name in known else name in published()["decoder_only"]

    shown = [*MAIN, *(name for name in run.experiments if name not in MAIN)]
    return {
        "scale": run.scale.name,
        "seeds": list(run.seeds),
        "experiments": {
            name: known[name].title if name in known else published()["experiments"][name] for name in shown
        },
        "datasets": {name: run.scale.datasets[name].title for name in run.datasets},
        "decoder_only": [name for name in shown if decoder_only(name)],
        "k": run.scale.retrieval.k,
        "reading": run.scale.analysis.reading,
    }


def with_k(text: str, labels: dict) -> str:
    """``text`` with this run's k in the name of the hit rate: HR@5 becomes HR@3."""
    return text.replace("HR@5", f"HR@{labels['k']}")


class Quantity(NamedTuple):
    """What a number measures, in whatever experiment and dataset.

    ``pearson`` is the correlation of the two targets' values of ``of`` (attention or Spearman's); a statistic that ends
    in ``_std`` is the standard deviation over units.
    """

    statistic: str
    target: str = ""
    percentile: str = ""
    of: str = ""

    @classmethod
    def of_row(cls, row) -> Quantity:
        """The quantity of a row of any table's CSV."""
        return cls(row.statistic, row.target, row.percentile, row.table.partition("C.")[2])

    @property
    def table(self) -> str:
        """The table that shows it; Appendix C's two are ``C.attention`` and ``C.spearman``."""
        return f"C.{self.of}" if self.of else TABLE_OF_TARGET.get(self.target, "1")

    @property
    def digits(self) -> int:
        return 2 if self.statistic in ("em", "f1") else 3

    @property
    def words(self) -> str:
        """``answer-related attention (p90)`` and the like."""
        if self.of:
            return f"Pearson of answer- with question-related {STATISTICS[self.of]} (p{self.percentile})"
        return measure(self.statistic, self.target, self.percentile)


def measure(statistic: str, target: str = "", percentile: str = "") -> str:
    """``answer-related attention (p90)`` and the like."""
    words = STATISTICS.get(statistic.removesuffix("_std"), statistic)
    if target:
        words = f"{target}-related {words}"
    if statistic.endswith("_std"):
        words = f"spread (std) of {words}"
    if percentile:
        words += " (p" + " - p".join(percentile.split(" - ")) + ")"
    return words


def named(experiment: str, titles: dict[str, str]) -> str:
    """The title of an experiment, or of a difference ``a - b`` of two."""
    return " − ".join(titles.get(name, name) for name in experiment.split(" - "))
