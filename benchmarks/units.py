"""Which reading of section 3.2 fits the paper's Tables 3 and 4: writes a page of readings beside published numbers.

    python benchmarks/units.py "SmolLM2-135M, untouched, NQ slice=smollm2.parquet" --out docs/measurements/units.md

The dumps are ``attention.parquet`` of the workflow, or of units_dump.py. The first one's tokens stand for the paper's.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import common

PUBLISHED = common.ROOT / "workflow" / "reference" / "published.csv"
CELLS = list(itertools.product(("answer", "question"), (90, 95)))
HEADS = [f"{target} p{percentile}" for target, percentile in CELLS]
SLIP = ("atlas", "triviaqa", "question", "90")  # 0.047 ± 0.245: impossible for shares in any reading

BEFOREHAND = """\
The paper does not say in what tokens are ranked and attention is averaged, how a target of several tokens is met, or
what attention is divided by. `analysis.unit`, `analysis.similarity` and `analysis.attention` name the readings.

What was laid down before any reading was computed:

- **D, by which readings are ranked.** Where attention has nothing to do with similarity, the standard deviation of
  Spearman's ρ over units is that of chance, 1/√(n − 1) for n near tokens. Published ρ is about 0 in one experiment,
  perplexity distillation on TriviaQA (−0.036 to 0.029). D is the mean of |ln(chance / published)| over its four
  standard deviations. 0 is a perfect fit, 0.69 a factor of 2.
- **Too narrow.** Published spreads hold chance and true differences, so none can be much below chance. A reading is
  held against the other 40 spreads: how many are below 0.9 × chance × (1 − ρ²).
- **Impossible.** Over n near tokens a share of the unit has a mean of at most 1/n, and then a standard deviation of at
  most √(mean · (1/n − mean)); a share of the passage, over the k passages of a question, k/n. How many of the 43
  published attention rows break that (Atlas's 0.047 ± 0.245, which breaks it in any reading, is left out)."""


AFTERWARDS = """\
The last check was not laid down beforehand: how widely ρ spreads in an untouched decoder-only reader on NQ, which the
paper has measured too (*Spearman as measured*)."""

VERDICT = """\
- **One passage and the largest similarity, this pipeline's first reading, does not fit.** Its nearest sets are so small
  that chance alone spreads ρ more widely than most published rows.
- **By D two readings fit about equally well**: the nearest tokens of each target token, pooled, in one passage; and all
  passages of a question together. The published answer rows have half the variance of the question rows. Only
  `passage, each` can give that, with answers of four tokens and question nouns of two: then all four spreads fit. Two
  tokens are few for TriviaQA's questions where proper nouns count.
- **`passage, each` fits the spreads of an untouched reader best**, and is the default of
  `analysis`. The case rests on spreads of other models' tokens; the paper's own code would close it.
- **No division of attention fits.** Shares of a question's sum are impossible. Shares of a passage are nearest: half of
  the published means, and impossible in some rows. Over the unit's largest, means are too high. As it is, attention has
  a scale of its own in every model. A softmax over tokens would be flat, and a division by the mean would put every row
  of no relation at 1. `share` stays: its means compare experiments of one pipeline, and not with the paper's."""


def readings(ta):
    """Every unit and similarity; attention does not move ranks within a unit."""
    return [ta.Reading(unit, how) for unit, how in itertools.product(*(ta.READINGS[k] for k in ("unit", "similarity")))]


def named(reading) -> str:
    return f"{reading.unit}, {reading.similarity}"


def shuffled(frame, unit: str, generator):
    """The dump with attention permuted among a unit's tokens: what chance alone gives, ties and pools included."""
    import numpy as np

    keys = ["instance"] if unit == "question" else ["instance", "passage"]
    frame = frame.sort_values(["instance", "passage"], kind="stable")
    group = frame.groupby(keys, sort=False).ngroup().to_numpy()
    order = np.lexsort((generator.random(len(frame)), group))
    return frame.assign(attention=frame["attention"].to_numpy()[order])


def chance(frame, reading, ta, draws: int) -> dict:
    """By target and percentile: near tokens a unit (mean), and Spearman's standard deviation by chance."""
    import numpy as np
    import pandas as pd

    generator = np.random.default_rng(0)
    drawn = pd.concat(
        [ta.analyse_units(shuffled(frame, reading.unit, generator), reading) for _ in range(draws)], ignore_index=True
    )
    found = {}
    for target, percentile in CELLS:
        near = drawn[f"nearest_{target}_{percentile}"]
        found[target, percentile] = near[near > 0].mean(), drawn[f"spearman_{target}_{percentile}"].std()
    return found


def published_rows():
    import pandas as pd

    rows = pd.read_csv(PUBLISHED, dtype={"table": str, "percentile": "string"})
    return rows[rows["table"].isin(["3", "4"])]


def published_cell(rows, experiment: str, dataset: str, statistic: str, target: str, percentile: int):
    row = rows.query(
        f"experiment == '{experiment}' and dataset == '{dataset}' and statistic == '{statistic}' "
        f"and target == '{target}' and percentile == '{percentile}'"
    ).iloc[0]
    return row["mean"], row["std"]


def distance(ours, theirs) -> float:
    """Mean of |ln(ours / theirs)|."""
    import numpy as np

    return float(np.mean(np.abs(np.log(np.array(ours) / np.array(theirs)))))


def too_narrow(rows, by_chance: dict) -> int:
    """How many of the published spreads of Spearman, perplexity distillation's left out, are below chance."""
    others = rows[(rows["statistic"] == "spearman") & (rows["experiment"] != "perplexity")]
    return sum(
        row.std < 0.9 * by_chance[row.target, int(row.percentile)][1] * (1 - row.mean**2) for row in others.itertuples()
    )


def impossible(rows, near: dict, whole: float) -> int:
    """How many published attention rows no shares can give whose sum over a unit is ``whole``."""
    count = 0
    for row in rows[rows["statistic"] == "attention"].itertuples():
        if (row.experiment, row.dataset, row.target, row.percentile) == SLIP:
            continue
        top = whole / near[row.target, int(row.percentile)]
        count += row.mean > top or row.std**2 > row.mean * (top - row.mean)
    return count


def shape_of(frame) -> str:
    """Tokens a passage, and tokens a target, of a dump."""
    import numpy as np

    first = frame.groupby("instance").first()
    size = frame.groupby(["instance", "passage"]).size()
    parts = [f"{frame['instance'].nunique()} questions, {size.groupby('instance').size().mean():.1f} passages each"]
    parts.append(f"{size.mean():.0f} own tokens a passage ({size.quantile(0.1):.0f} to {size.quantile(0.9):.0f})")
    for target in ("answer", "question"):
        length = np.array([0 if one is None else len(one) for one in first[f"similarity_{target}"]])
        words = "an answer" if target == "answer" else "a question's nouns"
        parts.append(f"{length[length > 0].mean():.1f} tokens {words}")
    return ", ".join(parts)


def ranks_table(frame, rows, ta, draws: int, fit: bool):
    """Readings × near tokens and spread by chance; with ``fit`` beside the published ones, best first."""
    published = [published_cell(rows, "perplexity", "triviaqa", "spearman", *cell)[1] for cell in CELLS]
    lines, found = [], {}
    for reading in readings(ta):
        found[reading] = chance(frame, reading, ta, draws)
        spreads = [found[reading][cell][1] for cell in CELLS]
        shown = [f"{found[reading][cell][0]:.0f}: {spread:.3f}" for cell, spread in zip(CELLS, spreads, strict=True)]
        fits = [distance(spreads, published), too_narrow(rows, found[reading])] if fit else [0.0]
        lines.append((fits[0], [named(reading), *shown, *([f"{fits[0]:.2f}", f"{fits[1]} of 40"] if fit else [])]))
    lines = [line for _, line in sorted(lines, key=lambda line: line[0])]
    heads = ["unit, similarity", *HEADS]
    if fit:
        lines.append(
            [
                "**published**, n from 1/√(n − 1)",
                *(f"{1 + spread**-2:.0f}: {spread:.3f}" for spread in published),
                "",
                "",
            ]
        )
        heads += ["D", "too narrow"]
    return heads, lines, found


def by_target_size(frame, rows, ta, draws: int):
    """`each` by how many tokens the target has: spread by chance at p90 and p95."""
    import numpy as np

    lines = []
    for unit in ta.READINGS["unit"]:
        reading, spreads = ta.Reading(unit, "each"), {}
        for target in ("answer", "question"):
            first = frame.groupby("instance")[f"similarity_{target}"].first()
            size = np.array([0 if one is None else len(one) for one in first])
            for tokens in range(1, 9):
                part = frame[frame["instance"].isin(first.index[size == tokens])]
                if part["instance"].nunique() >= 3:
                    found = chance(part, reading, ta, draws)
                    spreads[target, tokens] = [found[target, percentile][1] for percentile in (90, 95)]
        for target in ("answer", "question"):
            theirs = [published_cell(rows, "perplexity", "triviaqa", "spearman", target, p)[1] for p in (90, 95)]
            has = {tokens: spread for (name, tokens), spread in spreads.items() if name == target}
            if not has:
                continue
            best = min(has, key=lambda tokens: distance(has[tokens], theirs))
            cells = [" and ".join(f"{one:.3f}" for one in has[n]) if n in has else "–" for n in range(1, 9)]
            told = f"{best}: D {distance(has[best], theirs):.2f}"
            lines.append([f"{unit}, {target}", *cells, " and ".join(f"{one:.3f}" for one in theirs), told])
    return ["unit, target", *map(str, range(1, 9)), "published", "best"], lines


def attention_table(frame, rows, ta, found, k: int):
    """Readings × attention: mean ± std of the first dump beside the published untouched reader's on NQ."""
    published = [published_cell(rows, "checkpoint", "nq", "attention", *cell) for cell in CELLS]
    lines = []
    for reading, word in itertools.product(found, ta.READINGS["attention"]):
        if reading.unit == "passage" and word == "passage_share":
            continue  # the same as share
        units = ta.analyse_units(frame, ta.Reading(reading.unit, reading.similarity, word))
        columns = [units[f"attention_{target}_{percentile}"] for target, percentile in CELLS]
        near = {cell: number for cell, (number, _) in found[reading].items()}
        if reading.similarity == "each":  # of one target token: a mean over pools is at most one pool's largest
            one = found[ta.Reading(reading.unit, "max")]
            near = {cell: min(near[cell], one[cell][0]) for cell in CELLS}
        bound = {"share": 1.0, "passage_share": float(k)}.get(word)
        broken = "–" if bound is None else f"{impossible(rows, near, bound)} of 43"
        means = [column.mean() for column in columns]
        off = distance(means, [mean for mean, _ in published])
        shown = [f"{column.mean():.3f} ± {column.std():.3f}" for column in columns]
        lines.append([named(reading), word, *shown, f"{off:.2f}", broken])
    lines.append(
        ["**published**, untouched Falcon, NQ", "", *(f"{mean:.3f} ± {std:.3f}" for mean, std in published), "", ""]
    )
    return ["unit, similarity", "attention", *HEADS, "off", "impossible"], lines


def spearman_table(frame, rows, ta, found):
    """Readings × Spearman as measured in the first dump, beside the published untouched reader's on NQ."""
    published = [published_cell(rows, "checkpoint", "nq", "spearman", *cell) for cell in CELLS]
    lines = []
    for reading in found:
        units = ta.analyse_units(frame, reading)
        columns = [units[f"spearman_{target}_{percentile}"] for target, percentile in CELLS]
        off = distance([column.std() for column in columns], [std for _, std in published])
        lines.append([named(reading), *(f"{c.mean():.3f} ± {c.std():.3f}" for c in columns), f"{off:.2f}"])
    lines.append(["**published**, untouched Falcon, NQ", *(f"{mean:.3f} ± {std:.3f}" for mean, std in published), ""])
    return ["unit, similarity", *HEADS, "off, std"], lines


def main() -> None:
    """Write the page."""
    parser = common.arguments(__doc__.split("\n\n")[0], draws=10)
    parser.add_argument("dumps", nargs="+", metavar="TITLE=FILE.parquet")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    common.set_threads(options.threads)

    from attention_distillation.analysis import token_analysis as ta
    from attention_distillation.reporting.typesetting import grid

    rows = published_rows()
    dumps = [(title, ta.read_dump(path)[0]) for title, path in (one.rsplit("=", 1) for one in options.dumps)]
    title, frame = dumps[0]
    k = frame.groupby("instance")["passage"].nunique().max()
    heads, lines, found = ranks_table(frame, rows, ta, options.draws, fit=True)
    page = [
        "# The unit of Tables 3 and 4",
        "Made by `benchmarks/units.py`, not by hand, from dumps of `benchmarks/units_dump.py` or of the workflow.",
        BEFOREHAND,
        AFTERWARDS,
        f"## Near tokens and the spread of Spearman by chance\n\n{title}: {shape_of(frame)}. In a cell: near tokens a "
        f"unit, and the standard deviation of ρ over units when attention is permuted within a unit ({options.draws} "
        "times).",
        grid(heads, lines),
        "### `each`, by the number of the target's tokens\n\nUnits of the dump with so many target tokens alone. In a "
        "cell: spread by chance at p90 and p95.",
        grid(*by_target_size(frame, rows, ta, options.draws)),
        "## Attention\n\nMeans and standard deviations over units in the same dump, an untouched reader, beside the "
        "paper's untouched reader (another model). *off*: mean of |ln(ours / published)| of the four means.",
        grid(*attention_table(frame, rows, ta, found, k)),
        "## Spearman as measured\n\nThe same two readers. *off*: of the four standard deviations.",
        grid(*spearman_table(frame, rows, ta, found)),
    ]
    for title, frame in dumps[1:]:
        page += [f"## {title}\n\n{shape_of(frame)}.", grid(*ranks_table(frame, rows, ta, options.draws, fit=False)[:2])]
    page.append(f"## What fits\n\n{VERDICT}")
    options.out.write_text("\n\n".join(page) + "\n", "utf-8")
    print(options.out)


if __name__ == "__main__":
    main()
