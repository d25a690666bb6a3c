"""What a run is too small to measure, whatever its numbers say (why these limits: docs/method.md)."""

from __future__ import annotations

import pandas as pd

FEWEST_NEAR = 8
"""Near tokens that a unit needs, so that Spearman's correlation over them has more than a handful of values."""
LEAST_EM = 1.0
"""Exact match (0 to 100) below which a reader answers next to nothing."""
FEW_NEAR = "few_near_tokens"
"""Statistic: in ``mean`` how many of the ``n`` units with a target have fewer than ``FEWEST_NEAR`` near tokens."""
COUNTS = ("spearman_undefined", FEW_NEAR)
"""Statistics of which ``mean`` counts units, and is no mean."""


def short_units(rows: pd.DataFrame) -> set[tuple[str, str, str, str]]:
    """(dataset, experiment, target, percentile) where more than half of the units have too few near tokens."""
    few = rows[(rows["statistic"] == FEW_NEAR) & (2 * rows["mean"] > rows["n"])]
    return set(few[["dataset", "experiment", "target", "percentile"]].itertuples(index=False, name=None))


def silent_readers(rows: pd.DataFrame) -> dict[tuple[str, str], float]:
    """The exact match of each (dataset, experiment) whose reader answers next to nothing."""
    silent = rows[(rows["statistic"] == "em") & (rows["mean"] < LEAST_EM) & ~rows["experiment"].str.contains(" - ")]
    return {(row.dataset, row.experiment): row.mean for row in silent.itertuples(index=False)}


def spearman_note(rows: pd.DataFrame) -> list[str]:
    """A table's or figure's line on the Spearman values that cannot be measured; none where all can."""
    counted, short = rows[rows["statistic"] == FEW_NEAR], short_units(rows)
    places = []
    for (target, percentile), part in counted.groupby(["target", "percentile"], sort=False):
        few = sum(key[2:] == (target, percentile) for key in short)
        if few:
            places.append(f"{target}-related p{percentile}: {few} of {len(part)} rows")
    if not places:
        return []
    where = ", ".join(places)
    return [f"Spearman is not measurable at this scale: under {FEWEST_NEAR} near tokens in most units ({where})."]


def reader_note(rows: pd.DataFrame, titles: dict[str, str]) -> list[str]:
    """A figure's line on readers that answer next to nothing; none where all answer."""
    silent = dict.fromkeys(titles.get(experiment, experiment) for _, experiment in silent_readers(rows))
    return [f"Answering next to nothing (EM under {LEAST_EM:g}): {', '.join(silent)}."] if silent else []
