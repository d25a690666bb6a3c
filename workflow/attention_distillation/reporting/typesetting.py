"""Tables laid out as the paper's, in Markdown and LaTeX, from the rows of module ``tables``.

Each layout is data (:data:`LAYOUTS`): which rows stand in which column. An experiment of the paper that was not run
keeps its line and says so. The LaTeX needs the package booktabs and nothing else: ``\\input{table1.tex}``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ..analysis.statistics import intervals_told
from ..files import replacing
from ..provenance import digest
from .labels import STATISTICS, UNITS, measure, named, with_k
from .measurable import COUNTS

NOT_RUN = "not run"


@dataclass(frozen=True)
class Column:
    """One column: where its rows are found, under which headings."""

    group: str
    heading: str
    table: str
    statistic: str
    target: str = ""
    percentile: str = ""
    digits: int = 3


@dataclass(frozen=True)
class Layout:
    """One table: ``spread`` shows mean ± std, ``intervals`` the 95 % interval, ``best`` marks the highest value;
    ``absent`` stands where an experiment has no rows at all."""

    caption: str
    columns: tuple[Column, ...]
    spread: bool = False
    intervals: bool = True
    best: bool = False
    decoder_only: bool = False
    absent: str = NOT_RUN


def _analysis_columns(table: str, target: str) -> tuple[Column, ...]:
    headings = (("attention", "Avg. Attn."), ("spearman", "Spearman Corr."))
    return tuple(
        Column("", f"{heading} (p{percentile})", table, statistic, target, percentile)
        for percentile in ("90", "95")
        for statistic, heading in headings
    )


_SCORES = (
    Column("", "EM ↑", "1", "em", digits=2),
    Column("", "F1 ↑", "1", "f1", digits=2),
    Column("", "HR@5 ↑", "1", "hr_at_5"),
)

LAYOUTS = {
    "table1": Layout(
        "Performance of the experiments.",
        _SCORES,
        spread=True,
        best=True,
    ),
    "controls": Layout(
        "Controls that the paper lacks, beside its experiments.",
        _SCORES,
        spread=True,
    ),
    "signal": Layout(
        "What the reader's attention would tell a retriever, over questions of which some passages shown bear an "
        "answer and some do not: how often the most attended passage (S_i of eq. 1) bears one; the same with each "
        "place's mean taken off; how often chance would; the share of attention in the last place (in rank order the "
        "worst passage's).",
        (
            Column("", "Picks an answer", "S", "picks"),
            Column("", "Place's mean off", "S", "picks_centred"),
            Column("", "Chance", "S", "chance"),
            Column("", "Share of last place", "S", "last_place"),
        ),
        absent="–",  # not run, or run without passages
    ),
    "table2": Layout(
        "Average attention and Spearman correlation over answer-related and question-related tokens, "
        "decoder-only readers. The highest values are bold on the first dataset and underlined on the second.",
        tuple(
            Column(f"{target.capitalize()}-related, p{percentile}", heading, "2", statistic, target, percentile)
            for target in ("answer", "question")
            for percentile in ("90", "95")
            for statistic, heading in (("attention", "Attn."), ("spearman", "Corr."))
        ),
        intervals=False,
        best=True,
        decoder_only=True,
    ),
    "table3": Layout(
        "Mean ± std over units of attention (or of the perplexity distribution) and of Spearman's correlation, "
        "answer-related tokens.",
        _analysis_columns("3", "answer"),
        spread=True,
    ),
    "table4": Layout(
        "Mean ± std over units of attention (or of the perplexity distribution) and of Spearman's correlation, "
        "question-related tokens.",
        _analysis_columns("4", "question"),
        spread=True,
    ),
    "appendix_c": Layout(
        "Pearson's correlation over instances between the answer-related and the question-related value.",
        tuple(
            Column(heading, f"p{percentile}", f"C.{statistic}", "pearson", "", percentile)
            for statistic, heading in (("attention", "Attention"), ("spearman", "Spearman"))
            for percentile in ("90", "95")
        ),
    ),
}


# ------------------------------------------------------------------ cells


@dataclass(frozen=True)
class _Cell:
    mean: str
    std: str = ""
    low: str = ""
    high: str = ""
    mark: str = ""  # "bold", "underline" or none


def _number(value: float, digits: int) -> str:
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text.replace("-", "−")


def _cells(layout: Layout, rows: pd.DataFrame, labels: dict) -> list[list[str | _Cell]]:
    """Lines of the table: method, dataset, a cell for each column and, for analyses, the undefined units."""
    found = {
        (row.table, row.experiment, row.dataset, row.statistic, row.target, row.percentile): row
        for row in rows.itertuples(index=False)
    }
    shown = [name for name in labels["experiments"] if not layout.decoder_only or name in labels["decoder_only"]]

    def row_of(column: Column, experiment: str, dataset: str, statistic: str | None = None):
        key = (column.table, experiment, dataset, statistic or column.statistic, column.target, column.percentile)
        return found.get(key)

    lines = []
    for experiment in shown:
        for dataset, title in labels["datasets"].items():
            here = [row_of(column, experiment, dataset) for column in layout.columns]
            line: list[str | _Cell] = [labels["experiments"][experiment], title]
            for column, row in zip(layout.columns, here, strict=True):
                if row is None:
                    line.append(_Cell(layout.absent if not any(here) else "–"))
                elif np.isnan(row.mean):
                    line.append(_Cell("undefined"))
                else:
                    std = _number(row.std, column.digits) if layout.spread and not np.isnan(row.std) else ""
                    low, high = row.ci_low, row.ci_high
                    has = layout.intervals and not np.isnan(low)
                    ends = [_number(end, column.digits) for end in (low, high)] if has else ["", ""]
                    mark = _mark(layout, found, column, dataset, shown, row.mean, labels)
                    line.append(_Cell(_number(row.mean, column.digits), std, *ends, mark))
            if layout.columns[0].target and layout.spread:
                pairs = [
                    row_of(column, experiment, dataset, "spearman_undefined")
                    for column in layout.columns
                    if column.statistic == "spearman"
                ]
                line.append(
                    f"{' / '.join(f'{row.mean:,.0f}' for row in pairs)} of {pairs[0].n:,.0f}" if all(pairs) else "–"
                )
            lines.append(line)
    return lines


def _mark(layout: Layout, found: dict, column: Column, dataset: str, shown: list[str], mean: float, labels) -> str:
    if not layout.best:
        return ""
    keys = (
        (column.table, name, dataset, column.statistic, column.target, column.percentile) for name in shown
    )  # fmt: skip
    means = [round(found[key].mean, column.digits) for key in keys if key in found and not np.isnan(found[key].mean)]
    if len(means) < 2 or round(mean, column.digits) < max(means):
        return ""
    return ("bold", "underline")[list(labels["datasets"]).index(dataset) % 2]


def _headings(layout: Layout) -> list[str]:
    extra = ["Undefined Spearman, units (p90 / p95)"] if layout.columns[0].target and layout.spread else []
    return ["Experiment", "Dataset", *(column.heading for column in layout.columns), *extra]


# ------------------------------------------------------------------ Markdown


def grid(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table of plain strings."""
    told = [[str(cell).replace("|", "\\|") for cell in line] for line in (headings, *lines)]
    rule = ["---"] * len(headings)
    return "\n".join("| " + " | ".join(line) + " |" for line in (told[0], rule, *told[1:]))


def _markdown_cell(cell: str | _Cell) -> str:
    if isinstance(cell, str):
        return cell
    text = {"bold": f"**{cell.mean}**", "underline": f"<ins>{cell.mean}</ins>"}.get(cell.mark, cell.mean)
    return text + (f" ± {cell.std}" if cell.std else "") + (f" [{cell.low}, {cell.high}]" if cell.low else "")


def markdown(name: str, rows: pd.DataFrame, labels: dict, notes: Sequence[str]) -> str:
    """A table of :data:`LAYOUTS` in Markdown, with its footer."""
    layout = LAYOUTS[name]
    headings = _headings(layout)
    for place, column in enumerate(layout.columns, 2):
        headings[place] = f"{column.group}: {column.heading}" if column.group else column.heading
    lines = [[_markdown_cell(cell) for cell in line] for line in _cells(layout, rows, labels)]
    title = name.capitalize().replace("Table", "Table ").replace("Appendix_c", "Appendix C")
    return with_k(document(f"{title}. {layout.caption}", grid(headings, lines), notes), labels)


def write_text(path: str | Path, text: str) -> None:
    """Write a page as UTF-8, whole or not at all."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def document(title: str, body: str, notes: Sequence[str]) -> str:
    """A Markdown page: title, body, and notes as a list."""
    return f"# {title}\n\n{body}\n\n" + "".join(f"- {note}\n" for note in notes)


def compare_markdown(rows: pd.DataFrame, labels: dict) -> str:
    """``compare.md``: each number beside the published one, and how far the two may be compared."""
    scale = labels["scale"]
    notes = [
        f"Scale: {scale}. Seeds: {', '.join(map(str, labels['seeds']))}. Difference: measured minus published.",
        "The scales are the same." if scale == "paper" else
        f"The scales differ: the published numbers are of Falcon-1b and T5-large over all of Wikipedia, the measured "
        f"ones of the scale {scale}. Signs and orders can be compared, sizes cannot.",
        *not_paper_scale(scale),
    ]  # fmt: skip

    def told(value: float, statistic: str, sign: str = "") -> str:
        digits = 2 if statistic in ("em", "f1") else 3
        return "–" if np.isnan(value) else sign * (value > 0) + _number(value, digits)

    lines = []
    for row in rows.itertuples(index=False):
        name, published = row.statistic, told(row.published_mean, row.statistic)
        interval = f" [{told(row.ci_low, name)}, {told(row.ci_high, name)}]" if not np.isnan(row.ci_low) else ""
        state = "undefined" if row.n == 0 else NOT_RUN
        lines.append(
            [
                row.table,
                named(row.experiment, labels["experiments"]),
                labels["datasets"].get(row.dataset, row.dataset),
                measure(name, row.target, row.percentile),
                state if np.isnan(row.mean) else told(row.mean, name) + interval,
                published + ("" if np.isnan(row.published_std) else f" ± {told(row.published_std, name)}"),
                told(row.difference, name, "+"),
            ]
        )
    headings = ("Table", "Experiment", "Dataset", "Measure", "Measured [95 % interval]", "Published", "Difference")
    return with_k(document("Measured beside published", grid(headings, lines), notes), labels)


def differences_markdown(rows: pd.DataFrame, labels: dict, notes: Sequence[str]) -> str:
    """``differences.md``: each difference with its interval, bold where the interval leaves out 0.

    None is bold from one seed: its interval says nothing of another training run.
    """
    lines, repeated = [], len(labels["seeds"]) > 1
    for row in rows.itertuples(index=False):
        digits = 2 if row.statistic in ("em", "f1") else 3
        clear = repeated and (row.ci_low > 0 or row.ci_high < 0)
        mean = "undefined" if np.isnan(row.mean) else "+" * (row.mean > 0) + _number(row.mean, digits)
        words = measure(row.statistic, row.target, row.percentile)
        if row.statistic == "pearson":
            words = f"Pearson of the two targets' {STATISTICS[row.table[2:]]} (p{row.percentile})"
        lines.append(
            [
                named(row.experiment, labels["experiments"]),
                labels["datasets"].get(row.dataset, row.dataset),
                words,
                f"**{mean}**" if clear else mean,
                "–" if np.isnan(row.ci_low) else f"{_number(row.ci_low, digits)} to {_number(row.ci_high, digits)}",
            ]
        )
    headings = ("Difference", "Dataset", "Measure", "Mean", "95 % interval")
    return with_k(document("Differences, paired", grid(headings, lines), notes), labels)


# ------------------------------------------------------------------ LaTeX

_ESCAPES = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "−": "$-$", "↑": r"$\uparrow$",
    "×": r"$\times$", "–": "--", "<": "$<$", ">": "$>$", "ρ": r"$\rho$",
}  # fmt: skip


def escape(text: str) -> str:
    """Text for LaTeX: its special characters and our few signs."""
    return "".join(_ESCAPES.get(letter, letter) for letter in text)


def _latex_cell(cell: str | _Cell) -> str:
    if isinstance(cell, str):
        return escape(cell)
    text = escape(cell.mean)
    text = {"bold": rf"\textbf{{{text}}}", "underline": rf"\underline{{{text}}}"}.get(cell.mark, text)
    text += f" {escape('±')} {escape(cell.std)}" if cell.std else ""
    return text + (rf" {{\scriptsize[{escape(cell.low)}, {escape(cell.high)}]}}" if cell.low else "")


def latex(name: str, rows: pd.DataFrame, labels: dict, notes: Sequence[str]) -> str:
    """A table of :data:`LAYOUTS` as a LaTeX float that needs booktabs."""
    layout = LAYOUTS[name]
    headings, lines = _headings(layout), _cells(layout, rows, labels)
    groups = [column.group for column in layout.columns]
    head = []
    if any(groups):
        spans, rules, place = ["", ""], [], 3
        for group in dict.fromkeys(groups):
            width = groups.count(group)
            spans.append(rf"\multicolumn{{{width}}}{{c}}{{{escape(group)}}}")
            rules.append(rf"\cmidrule(lr){{{place}-{place + width - 1}}}")
            place += width
        head = [" & ".join(spans) + r" \\", "".join(rules)]
    body, before = [], None
    for line in lines:
        method = line[0] if line[0] != before else ""
        if before is not None and method:
            body.append(r"\addlinespace")
        before = line[0]
        body.append(" & ".join(map(_latex_cell, [method, *line[1:]])) + r" \\")
    parts = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table*}[t]",
        r"\centering\small",
        rf"\caption{{{escape(layout.caption)}}}\label{{tab:{name.replace('_', '-')}}}",
        rf"\begin{{tabular}}{{ll{'r' * (len(headings) - 2)}}}",
        r"\toprule",
        *head,
        " & ".join(map(escape, headings)) + r" \\",
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
        r"\par\smallskip",
        rf"\parbox{{0.95\linewidth}}{{\footnotesize {escape(' '.join(notes))}}}",
        r"\end{table*}",
    ]
    return with_k("\n".join(parts) + "\n", labels)


# ------------------------------------------------------------------ footers


def _span(values) -> str:
    values = sorted({int(value) for value in values if not np.isnan(value)})
    if not values:
        return "0"
    return f"{values[0]:,}" if len(values) == 1 else f"{values[0]:,} to {values[-1]:,}"


def footer(labels: dict, rows: pd.DataFrame, origins: dict[str, dict], replicates: int) -> list[str]:
    """What a reader must know of a table: scale, seeds, n, who found the nouns, config hash, versions, device.

    Args:
        rows: the table's own rows, for n.
        origins: each run's provenance, as ``units.parquet`` holds it.
    """
    scale, seeds = labels["scale"], ", ".join(map(str, labels["seeds"]))
    every = list(origins.values())
    counted = rows[~rows["statistic"].isin(COUNTS)]
    kind = str(counted["table"].iloc[0])[:1] if len(counted) else ""
    reading = labels["reading"]
    units = f"units ({UNITS[reading['unit']]}) where defined"
    what = {"1": "(questions × seeds)", "S": "(questions × seeds)", "C": "(instances × seeds)"}.get(kind, units)

    def told(key: str) -> str:
        return ", ".join(sorted({str(origin[key]) for origin in every if origin.get(key)})) or "not recorded"

    hashes = sorted({origin["config_hash"] for origin in every if "config_hash" in origin})
    versions: dict[str, set] = {}
    for origin in every:
        for package, version in {"python": origin.get("python"), **origin.get("versions", {})}.items():
            versions.setdefault(package, set()).add(version)
    packages = ", ".join(f"{name} {'/'.join(sorted(map(str, found)))}" for name, found in sorted(versions.items()))
    notes = [
        f"Scale: {scale}. Seeds: {seeds}. n: {_span(counted['n'])} {what}.",
        f"{intervals_told(len(labels['seeds']))} Bootstrap replicates: {replicates:,}.",
        f"A unit is a {reading['unit']}; similarity to a target's tokens: {reading['similarity']}; attention: "
        f"{reading['attention'].replace('_', ' ')}.",
        f"Nouns of the questions by: {told('nouns')}. Device: {told('device')}.",
        f"Config hash: {hashes[0] if len(hashes) == 1 else digest(hashes) if hashes else 'not recorded'}. "
        f"Versions: {packages or 'not recorded'}.",
    ]
    return notes + not_paper_scale(scale)


def not_paper_scale(scale: str) -> list[str]:
    """The line that keeps a small run's numbers from being taken for the paper's."""
    return [] if scale == "paper" else [f"{scale.capitalize()} numbers are not paper-scale numbers."]
