"""Tables laid out as the paper's, in Markdown and LaTeX, from the rows of module ``tables`` as module ``layouts`` says.

An experiment of the paper that was not run keeps its line and says so. The LaTeX needs the package booktabs and nothing
else: ``\\input{table1.tex}``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ..analysis.statistics import intervals_note
from ..files import replacing
from ..provenance import digest
from .labels import UNITS, Quantity, named, with_k
from .layouts import LAYOUTS, Layout
from .measurable import COUNTS

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


def _signed(value: float, digits: int) -> str:
    return "+" * (value > 0) + _number(value, digits)


def _cells(layout: Layout, rows: pd.DataFrame, labels: dict) -> list[list[str | _Cell]]:
    """Lines of the table: method, dataset, a cell for each column and, for analyses, the undefined units."""
    by_key = {
        (row.table, row.experiment, row.dataset, row.statistic, row.target, row.percentile): row
        for row in rows.itertuples(index=False)
    }
    shown = [name for name in labels["experiments"] if not layout.decoder_only or name in labels["decoder_only"]]

    def row_of(quantity: Quantity, experiment: str, dataset: str):
        table = layout.table_of(quantity)
        return by_key.get((table, experiment, dataset, quantity.statistic, quantity.target, quantity.percentile))

    lines = []
    for experiment in shown:
        for dataset, title in labels["datasets"].items():
            line: list[str | _Cell] = [labels["experiments"][experiment], title]
            here = [row_of(column.quantity, experiment, dataset) for column in layout.columns]
            for column, row in zip(layout.columns, here, strict=True):
                if row is None:
                    line.append(_Cell(layout.absent if not any(here) else "–"))
                elif np.isnan(row.mean):
                    line.append(_Cell("undefined"))
                else:
                    rivals = [row_of(column.quantity, name, dataset) for name in shown]
                    underlined = list(labels["datasets"]).index(dataset) % 2
                    line.append(_cell(layout, row, column.quantity.digits, rivals, ("bold", "underline")[underlined]))
            if layout.counts_units:
                spearman = [column.quantity for column in layout.columns if column.quantity.statistic == "spearman"]
                counts = [row_of(q._replace(statistic="spearman_undefined"), experiment, dataset) for q in spearman]
                undefined = " / ".join(f"{row.mean:,.0f}" for row in counts if row)
                line.append(f"{undefined} of {counts[0].n:,.0f}" if all(counts) else "–")
            lines.append(line)
    return lines


def _cell(layout: Layout, row, digits: int, rivals: Sequence, mark: str) -> _Cell:
    """A number's cell; marked where no rival is higher, to the digits shown, and there are several."""
    std = _number(row.std, digits) if layout.spread and not np.isnan(row.std) else ""
    has_interval = layout.intervals and not np.isnan(row.ci_low)
    ends = [_number(end, digits) for end in (row.ci_low, row.ci_high)] if has_interval else ["", ""]
    means = [round(rival.mean, digits) for rival in rivals if rival is not None and not np.isnan(rival.mean)]
    best = layout.best and len(means) > 1 and round(row.mean, digits) == max(means)
    return _Cell(_number(row.mean, digits), std, *ends, mark if best else "")


def _headings(layout: Layout) -> list[str]:
    extra = ["Undefined Spearman, units (p90 / p95)"] if layout.counts_units else []
    return ["Experiment", "Dataset", *(column.heading for column in layout.columns), *extra]


# ------------------------------------------------------------------ Markdown


def grid(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table of plain strings."""
    escaped = [[str(cell).replace("|", "\\|") for cell in line] for line in (headings, *lines)]
    escaped.insert(1, ["---"] * len(headings))
    return "\n".join("| " + " | ".join(line) + " |" for line in escaped)


def _markdown_cell(cell: str | _Cell) -> str:
    if isinstance(cell, str):
        return cell
    text = {"bold": f"**{cell.mean}**", "underline": f"<ins>{cell.mean}</ins>"}.get(cell.mark, cell.mean)
    return text + (f" ± {cell.std}" if cell.std else "") + (f" [{cell.low}, {cell.high}]" if cell.low else "")


def markdown(name: str, rows: pd.DataFrame, labels: dict, notes: Sequence[str]) -> str:
    """A table of ``LAYOUTS`` in Markdown, with its footer."""
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

    lines = []
    for row in rows.itertuples(index=False):
        quantity = Quantity.of_row(row)
        mean, low, high, published, published_std = (
            "–" if np.isnan(value) else _number(value, quantity.digits)
            for value in (row.mean, row.ci_low, row.ci_high, row.published_mean, row.published_std)
        )
        measured = mean if low == "–" else f"{mean} [{low}, {high}]"
        absent = "undefined" if row.n == 0 else "not run"
        lines.append(
            [
                row.table,
                named(row.experiment, labels["experiments"]),
                labels["datasets"].get(row.dataset, row.dataset),
                quantity.words,
                absent if mean == "–" else measured,
                published if published_std == "–" else f"{published} ± {published_std}",
                _signed(row.difference, quantity.digits) if not np.isnan(row.difference) else "–",
            ]
        )
    headings = ("Table", "Experiment", "Dataset", "Measure", "Measured [95 % interval]", "Published", "Difference")
    return with_k(document("Measured beside published", grid(headings, lines), notes), labels)


def differences_markdown(rows: pd.DataFrame, labels: dict, notes: Sequence[str]) -> str:
    """``differences.md``: each difference with its interval, bold where the interval leaves out 0.

    With one seed none is bold: the interval says nothing of another training run.
    """
    lines, repeated = [], len(labels["seeds"]) > 1
    for row in rows.itertuples(index=False):
        quantity = Quantity.of_row(row)
        clear = repeated and (row.ci_low > 0 or row.ci_high < 0)
        mean = "undefined" if np.isnan(row.mean) else _signed(row.mean, quantity.digits)
        ends = [_number(end, quantity.digits) for end in (row.ci_low, row.ci_high)]
        lines.append(
            [
                named(row.experiment, labels["experiments"]),
                labels["datasets"].get(row.dataset, row.dataset),
                quantity.words,
                f"**{mean}**" if clear else mean,
                "–" if np.isnan(row.ci_low) else " to ".join(ends),
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
    """Text for LaTeX, its special characters and the few other signs that tables use escaped."""
    return "".join(_ESCAPES.get(letter, letter) for letter in text)


def _latex_cell(cell: str | _Cell) -> str:
    if isinstance(cell, str):
        return escape(cell)
    text = escape(cell.mean)
    text = {"bold": rf"\textbf{{{text}}}", "underline": rf"\underline{{{text}}}"}.get(cell.mark, text)
    text += f" {escape('±')} {escape(cell.std)}" if cell.std else ""
    return text + (rf" {{\scriptsize[{escape(cell.low)}, {escape(cell.high)}]}}" if cell.low else "")


def latex(name: str, rows: pd.DataFrame, labels: dict, notes: Sequence[str]) -> str:
    """A table of ``LAYOUTS`` as a LaTeX float that needs booktabs."""
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
    """What a reader must know of a table: scale, seeds, n, which tagger finds nouns, config hash, versions, device.

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

    def recorded(key: str) -> str:
        return ", ".join(sorted({str(origin[key]) for origin in every if origin.get(key)})) or "not recorded"

    hashes = sorted({origin["config_hash"] for origin in every if "config_hash" in origin})
    versions: dict[str, set] = {}
    for origin in every:
        for package, version in {"python": origin.get("python"), **origin.get("versions", {})}.items():
            versions.setdefault(package, set()).add(version)
    packages = ", ".join(f"{name} {'/'.join(sorted(map(str, each)))}" for name, each in sorted(versions.items()))
    notes = [
        f"Scale: {scale}. Seeds: {seeds}. n: {_span(counted['n'])} {what}.",
        f"{intervals_note(len(labels['seeds']))} Bootstrap replicates: {replicates:,}.",
        f"Nouns of the questions by: {recorded('nouns')}. Device: {recorded('device')}.",
        f"Config hash: {hashes[0] if len(hashes) == 1 else digest(hashes) if hashes else 'not recorded'}. "
        f"Versions: {packages or 'not recorded'}.",
    ]
    return notes + not_paper_scale(scale)


def not_paper_scale(scale: str) -> list[str]:
    """The line that keeps a small run's numbers from being taken for the paper's."""
    return [] if scale == "paper" else [f"{scale.capitalize()} numbers are not paper-scale numbers."]
