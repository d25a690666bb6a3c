"""Figures 1 and 3 to 7 (2 is a diagram), from training logs, units and table rows.

An experiment has one colour and one dash pattern in all figures. Colour-blind readers can tell the colours apart (Okabe
and Ito's palette), and the dashes show in black and white. Files carry no date, so equal input gives equal bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from ..files import InputError, read_jsonl, replacing
from .labels import STATISTICS, UNITS, with_k
from .measurable import COUNTS, reader_note, spearman_note
from .tables import run_of

STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "pdf.fonttype": 42,
}
_SOLID, _DASHED, _DOTTED, _MIXED = "-", (0, (5, 1.6)), (0, (1.2, 1.2)), (0, (5, 1.4, 1.2, 1.4))
LOOKS = {
    "checkpoint": ("#6e6e6e", _DASHED),
    "off_the_shelf": ("#d55e00", _SOLID),
    "step1": ("#56b4e9", _MIXED),
    "step2": ("#0072b2", _SOLID),
    "atlas": ("#e69f00", _SOLID),
    "perplexity": ("#b5559b", _DOTTED),
}
_MORE = [
    (colour, dash) for dash in (_SOLID, _DASHED, _DOTTED) for colour in ("#009e73", "#7b4f2c", "#000000", "#a6a000")
]
_BINS = 31  # odd, so that Spearman's 0 lies in the middle of a bin

CURVES = ("step2", "off_the_shelf")  # Figure 1
CURVE_NAMES = {"step2": "fine-tuned reader", "off_the_shelf": "off-the-shelf reader"}
RIVALS = ("atlas", "step2")  # Figure 4
HISTOGRAMS = {
    "figure3": (0, "answer"),
    "figure5": (1, "answer"),
    "figure6": (0, "question"),
    "figure7": (1, "question"),
}
"""Figure: (which dataset, target); the percentile is the 95th, as in the paper."""


def look(experiment: str, labels: dict) -> dict:
    """Colour and dashes of an experiment, the same wherever it is drawn."""
    others = [name for name in labels["experiments"] if name not in LOOKS]
    colour, dash = LOOKS.get(experiment) or _MORE[others.index(experiment) % len(_MORE)]
    return {"color": colour, "linestyle": dash}


def save(figure, stem: str | Path) -> None:
    """Write ``stem``.png and .pdf without dates or versions, and close the figure."""
    for kind, metadata in (
        ("png", {"Software": None}),
        ("pdf", {"CreationDate": None, "Producer": None, "Creator": None}),
    ):
        with replacing(f"{stem}.{kind}") as part:
            figure.savefig(part, format=kind, metadata=metadata)
    plt.close(figure)


def read_logs(paths: Iterable[str | Path]) -> pd.DataFrame:
    """All rows of ``log.jsonl`` that were validated: dataset, experiment, seed, step, hr_at_5 (0 to 1).

    Raises:
        InputError: a line has no step or no HR@5.
    """
    rows = []
    for path in paths:
        for number, row in read_jsonl(path):
            if "hr_at_5" not in row or "step" not in row:
                raise InputError(f"{path}, line {number}: 'step' or 'hr_at_5' is missing; train this run again.")
            if row["hr_at_5"] is not None:
                rows.append((*run_of(path), int(row["step"]), float(row["hr_at_5"])))
    return pd.DataFrame(rows, columns=["dataset", "experiment", "seed", "step", "hr_at_5"])


def _seeds(count: int) -> str:
    return f"{count} seed" + "s" * (count != 1)


def _message(axes, text: str) -> None:
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, ha="center", va="center", color="#555555", transform=axes.transAxes, wrap=True)


def _headline(figure, title: str, *lines: str) -> float:
    """Title and, below it, what it was measured on; returns how many inches both take."""
    height = figure.get_figheight()
    figure.suptitle(title, x=0.012, y=1 - 0.09 / height, ha="left", va="top", fontsize=11.5, fontweight="bold")
    figure.text(0.012, 1 - 0.34 / height, "\n".join(lines), ha="left", va="top", fontsize=8.5, color="#555555")
    return 0.46 + 0.16 * len(lines)


def _place(figure, top: float, bottom: float = 0.0) -> None:
    """Lay the panels out below ``top`` and above ``bottom`` inches of room."""
    height = figure.get_figheight()
    figure.get_layout_engine().set(rect=(0, bottom / height, 1, 1 - (top + bottom) / height), wspace=0.05, hspace=0.06)


# ------------------------------------------------------------------ Figure 1


def training_curves(logs: pd.DataFrame, labels: dict):
    """Figure 1: HR@5 on validation over training steps, a panel a dataset; mean over seeds, lowest to highest shaded.

    The dashed line is the initial retriever, measured at step 0 of the same runs. Runs differ in length, so the axis
    is each run's share of its own steps.
    """
    datasets = labels["datasets"]
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(
            1,
            len(datasets),
            figsize=(max(5.6, 4.2 * len(datasets)), 3.75),
            squeeze=False,
            sharey=True,
            layout="constrained",
        )
        for axes, (dataset, title) in zip(panels[0], datasets.items(), strict=True):
            drawn = logs[(logs["dataset"] == dataset) & logs["experiment"].isin(CURVES)]
            axes.set_title(title)
            if drawn.empty:
                _message(axes, "neither experiment was run")
                continue
            for experiment in CURVES:
                _curve(axes, drawn[drawn["experiment"] == experiment], experiment, labels)
            initial = drawn.loc[drawn["step"] == 0, "hr_at_5"]
            if len(initial):
                axes.axhline(initial.mean(), color="#333333", linestyle=(0, (4, 3)), linewidth=1.1, zorder=1.5)
                axes.annotate(
                    "initial retriever", (1, initial.mean()), (-2, -3), xycoords=("axes fraction", "data"),
                    textcoords="offset points", ha="right", va="top", fontsize=8, color="#333333",
                )  # fmt: skip
            axes.set(xlabel="training steps, share of each run's own", ylim=(0, 1), xlim=(0, 1.005))
            axes.xaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1, decimals=0))
            axes.legend(loc="best", handlelength=1.8)
        panels[0][0].set_ylabel(with_k("HR@5 on validation", labels))
        seeds, several = _seeds(len(labels["seeds"])), len(labels["seeds"]) > 1
        shade = " (line: mean; shaded: lowest to highest)" if several else ""
        top = _headline(
            figure,
            "Figure 1. The retriever under attention distillation",
            f"{with_k('HR@5', labels)} on validation questions while it trains. "
            f"Scale: {labels['scale']}; {seeds}{shade}.",
        )
        _place(figure, top)
    return figure


def _curve(axes, runs: pd.DataFrame, experiment: str, labels: dict) -> None:
    if runs.empty:
        return
    table = runs.pivot_table(index="step", columns="seed", values="hr_at_5")
    last = int(table.index.max())
    share = table.index.to_numpy() / max(last, 1)
    style = look(experiment, labels)
    name = f"{CURVE_NAMES[experiment]} ({last:,} steps)"
    axes.plot(share, table.mean(axis=1), linewidth=1.9, marker="o", markersize=3, label=name, **style)
    axes.fill_between(share, table.min(axis=1), table.max(axis=1), color=style["color"], alpha=0.16, linewidth=0)


# ------------------------------------------------------------------ Figures 3, 5, 6, 7


def _bins(statistic: str, values: np.ndarray) -> np.ndarray:
    if statistic == "spearman":
        return np.linspace(-1, 1, _BINS + 1)
    top = float(np.quantile(values, 0.995)) or 1.0
    return np.linspace(0, top, _BINS + 1)


def _histogram(
    strip, axes, units: pd.DataFrame, statistic: str, target: str, percentile: int, labels: dict, shown
) -> None:
    """A step line an experiment: the share of its units in each bin. The strip above shows mean and middle half."""
    column = f"{statistic}_{target}_{percentile}"
    values = {name: units.loc[units["experiment"] == name, column].dropna().to_numpy() for name in shown}
    values = {name: sample for name, sample in values.items() if len(sample)}
    word = STATISTICS[statistic][:1].upper() + STATISTICS[statistic][1:]
    strip.set_title(f"{word}, {percentile}th percentile")
    strip.set_axis_off()
    if not values:
        _message(axes, f"{word} is undefined in every unit\n(fewer than three near tokens, or constant)")
        return
    bins = _bins(statistic, np.concatenate(list(values.values())))
    for line, (name, sample) in enumerate(values.items()):
        # what lies beyond the last bin is counted in it, so that the shares of each line sum to 1
        share = np.histogram(np.clip(sample, bins[0], bins[-1]), bins)[0] / len(sample)
        style = look(name, labels)
        axes.stairs(share, bins, linewidth=1.7, label=labels["experiments"][name], **style)
        middle = np.minimum(np.quantile(sample, (0.25, 0.75)), bins[-1])
        strip.plot(middle, [line, line], color=style["color"], linewidth=2.2, alpha=0.45, solid_capstyle="round")
        strip.plot(min(sample.mean(), bins[-1]), line, marker="o", markersize=5, color=style["color"])
    strip.set(xlim=(bins[0], bins[-1]), ylim=(len(values) - 0.4, -0.6))
    axes.set(
        xlim=(bins[0], bins[-1]),
        xlabel=f"mean attention of the {target}-related tokens"
        if statistic == "attention"
        else f"Spearman's ρ of attention and similarity to the {target}",
    )
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1, decimals=0))


def histograms(name: str, units: pd.DataFrame, rows: pd.DataFrame, labels: dict, percentile: int = 95):
    """Figures 3, 5, 6 and 7: attention left, Spearman right, of a target in the paper's first or second dataset.

    ``rows`` are those of Tables 1, 3 and 4: they say what is not measurable.
    """
    place, target = HISTOGRAMS[name]
    number, datasets = name.removeprefix("figure"), list(labels["datasets"])
    with plt.rc_context(STYLE):
        if place >= len(datasets):
            figure = plt.figure(figsize=(9.2, 1.5))
            figure.text(
                0.5, 0.3, "The second dataset's figure; only one dataset was run.", ha="center", color="#555555"
            )
            _headline(figure, f"Figure {number}. {target.capitalize()}-related tokens", f"Scale: {labels['scale']}.")
            return figure
        figure, (strips, panels) = plt.subplots(
            2, 2, figsize=(9.2, 4.9), layout="constrained", height_ratios=(1, 4.2), sharex="col"
        )
        part = units[units["dataset"] == datasets[place]]
        shown = [experiment for experiment in labels["experiments"] if (part["experiment"] == experiment).any()]
        for strip, axes, statistic in zip(strips, panels, ("attention", "spearman"), strict=True):
            _histogram(strip, axes, part, statistic, target, percentile, labels, shown)
        panels[0].set_ylabel("share of units")
        instances = part.groupby(["experiment", "seed"])["instance"].nunique().max() if len(part) else 0
        here = rows[rows["dataset"] == datasets[place]]
        near = here[(here["target"] == target) & (here["percentile"] == str(percentile))]
        top = _headline(
            figure,
            f"Figure {number}. Attention to {target}-related tokens, {labels['datasets'][datasets[place]]}",
            f"Units: {UNITS[labels['reading']['unit']]}; {instances:,} instances; {_seeds(part['seed'].nunique())}. "
            f"Scale: {labels['scale']}. Above: mean (dot) and middle half of the units (line).",
            *spearman_note(near),
            *reader_note(here, labels["experiments"]),
        )
        _legend_below(figure, panels, top)
    return figure


def _legend_below(figure, panels, top: float) -> None:
    handles = {}
    for axes in np.ravel(panels):
        handles |= {text: handle for handle, text in zip(*axes.get_legend_handles_labels(), strict=True)}
    if handles:
        rows = int(np.ceil(len(handles) / 3))
        figure.legend(handles.values(), handles, loc="lower center", ncols=min(3, len(handles)), handlelength=2.6)
        _place(figure, top, 0.1 + 0.19 * rows)
    else:
        _place(figure, top)


# ------------------------------------------------------------------ Figure 4


def rivals(rows: pd.DataFrame, labels: dict, percentile: str = "95"):
    """Figure 4: EM, F1 and HR@5 of Atlas (yellow) beside Step2 (blue), and below them their answer-related analysis.

    Bars are means with 95 % intervals; in the panel of Spearman the thin line is ± one standard deviation over units,
    which shows how polarised the values are.
    """
    performance = [
        ("1", "em", "", "", "EM", 100),
        ("1", "f1", "", "", "F1", 100),
        ("1", "hr_at_5", "", "", with_k("HR@5", labels), 1),
    ]
    analysis = [
        ("3", "attention", "answer", percentile, f"Attention (p{percentile})", None),
        ("3", "spearman", "answer", percentile, f"Spearman (p{percentile})", None),
    ]
    with plt.rc_context(STYLE | {"axes.grid.axis": "y"}):
        figure = plt.figure(figsize=(8.6, 6.0), layout="constrained")
        grid = figure.add_gridspec(2, 6)
        panels = [figure.add_subplot(grid[0, 2 * i : 2 * i + 2]) for i in range(3)]
        panels += [figure.add_subplot(grid[1, 3 * i : 3 * i + 3]) for i in range(2)]
        for axes, panel in zip(panels, performance + analysis, strict=True):
            _bars(axes, rows, panel, labels)
        shown = rows[rows["experiment"].isin(RIVALS)]
        near = shown[(shown["target"] == "answer") & (shown["percentile"] == percentile)]
        top = _headline(
            figure,
            f"Figure 4. {labels['experiments'][RIVALS[0]]} beside {labels['experiments'][RIVALS[1]]}",
            "Top: performance. Bottom: answer-related tokens. Bars: mean, 95 % interval; "
            "grey: ± one standard deviation over units.",
            f"n: {_counts(rows, '1')} (questions × seeds); {_counts(rows, '3')} units. "
            f"Scale: {labels['scale']}; {_seeds(len(labels['seeds']))}.",
            *spearman_note(near),
            *reader_note(shown, labels["experiments"]),
        )
        _legend_below(figure, panels, top)
    return figure


def _counts(rows: pd.DataFrame, table: str) -> str:
    """Largest n of the two experiments over the datasets."""
    part = rows[(rows["table"] == table) & rows["experiment"].isin(RIVALS) & ~rows["statistic"].isin(COUNTS)]
    return f"{part['n'].max():,.0f}" if len(part) else "no"


def _bars(axes, rows: pd.DataFrame, panel: Sequence, labels: dict) -> None:
    table, statistic, target, percentile, title, limit = panel
    datasets = labels["datasets"]
    axes.set_title(title)
    part = rows[
        (rows["table"] == table)
        & (rows["statistic"] == statistic)
        & (rows["target"] == target)
        & (rows["percentile"] == percentile)
        & rows["experiment"].isin(RIVALS)
        & rows["mean"].notna()
    ]
    if part.empty:
        _message(axes, "not run, or undefined")
        return
    digits = 1 if limit == 100 else 3 if statistic == "attention" else 2
    low, high = 0.0, 0.0
    for side, experiment in enumerate(RIVALS):
        of_reader = part[part["experiment"] == experiment].set_index("dataset").reindex(list(datasets))
        if of_reader["mean"].isna().all():
            continue
        x, mean, std = np.arange(len(datasets)) + 0.38 * (side - 0.5), of_reader["mean"], of_reader["std"]
        if target:
            spread = (mean - std).clip(lower=0 if statistic == "attention" else -1), mean + std
            axes.vlines(x, *spread, color="#9a9a9a", linewidth=4.5, alpha=0.55, zorder=2)
            low, high = np.nanmin([low, *spread[0]]), np.nanmax([high, *spread[1]])
        bars = axes.bar(
            x, mean, 0.34, color=look(experiment, labels)["color"], label=labels["experiments"][experiment],
            yerr=np.nan_to_num([mean - of_reader["ci_low"], of_reader["ci_high"] - mean]),
            error_kw={"ecolor": "#222222", "elinewidth": 1.3},
        )  # fmt: skip
        axes.bar_label(bars, fmt=f"%.{digits}f", padding=1, fontsize=7.5, color="#222222")
        low, high = np.nanmin([low, *of_reader["ci_low"], *mean]), np.nanmax([high, *of_reader["ci_high"], *mean])
    margin = 0.55 if len(datasets) > 1 else 0.9  # a lone pair of bars would fill the panel
    axes.set(xlim=(-margin, len(datasets) - 1 + margin), ylim=(1.12 * low, 1.06 * limit if limit else 1.15 * high))
    axes.set_xticks(range(len(datasets)), list(datasets.values()))
    axes.axhline(0, color="#555555", linewidth=0.8)


def draw_all(units: pd.DataFrame, logs: pd.DataFrame, rows: pd.DataFrame, labels: dict, folder: str | Path) -> None:
    """Draw every figure into ``folder`` as ``figureN.png`` and ``.pdf``."""
    folder = Path(folder)
    save(training_curves(logs, labels), folder / "figure1")
    save(rivals(rows, labels), folder / "figure4")
    for name in HISTOGRAMS:
        save(histograms(name, units, rows, labels), folder / name)
