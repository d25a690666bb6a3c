"""Which signal teaches, and what tells beforehand: tables over the runs of a comparison.

A run is a row with the columns :data:`RUN_COLUMNS`. Worlds are independent draws: each has questions, a pretrained
retriever and a batch order of its own. An interval is Student's t over their values; from one world there is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from ..analysis import statistics
from ..files import InputError, replacing
from .typesetting import not_paper_scale

CELL = ["signal", "teacher", "rate", "skip"]
RUN_COLUMNS = [
    "world", "dataset", *CELL, "seed", "config_hash", "before", "after", "n", "picks", "chance", "mass", "entropy",
    "noise", "nothing_found", "questions",
]  # fmt: skip
INDICATORS = {
    "picks": "picks − chance",
    "mass": "mass on answers − chance",
    "entropy": "entropy of the target",
    "noise": "1 − entropy where nothing is found",
    "net": "mass − chance, times its questions, less noise, times its questions",
}
"""What is measured of a signal on training questions before anything learns from it."""
BASELINES = ("uniform", "random")
DRAWS = 2000


def write_runs(path: str | Path, rows: Iterable[dict] | pd.DataFrame) -> None:
    """Write rows as CSV with six significant digits: equal rows give equal bytes."""
    frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(rows)[RUN_COLUMNS]
    with replacing(path) as part:
        frame.to_csv(part, index=False, float_format="%.6g", lineterminator="\n")


def read_runs(paths: Iterable[str | Path]) -> pd.DataFrame:
    """Runs of one or more worlds.

    Raises:
        InputError: a file lacks a column, or two files hold runs of the same world.
    """
    frames = []
    for path in paths:
        frame = pd.read_csv(path)
        if lacking := [name for name in RUN_COLUMNS if name not in frame]:
            raise InputError(f"{path}: column '{lacking[0]}' is missing; delete the file and make it again.")
        frames.append(frame)
    runs = pd.concat(frames, ignore_index=True)
    if runs.duplicated(["world", "dataset", *CELL, "seed"]).any():
        raise InputError(f"{', '.join(map(str, paths))}: a run of one world stands there twice.")
    return runs.assign(gain=runs["after"] - runs["before"], **_indicators(runs))


def _indicators(runs: pd.DataFrame) -> dict[str, pd.Series]:
    over, nothing = runs["mass"] - runs["chance"], runs["nothing_found"]
    return {
        "picks": runs["picks"] - runs["chance"],
        "mass": over,
        "net": over * (1 - nothing) - runs["noise"].fillna(0) * nothing * (runs["skip"] != "nothing_found"),
    }


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Student's t interval of a mean over independent values; NaN from fewer than two."""
    values = np.asarray(values, dtype=np.float64)
    if len(values) < 2:
        return np.nan, np.nan
    half = stats.t.ppf((1 + statistics.LEVEL) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def gains(runs: pd.DataFrame) -> pd.DataFrame:
    """Each cell's gain in HR@k over the initial retriever, and less that of either baseline at its rate and gate.

    Differences are paired by world and seed. One value counts for each world: the mean over its seeds.
    """
    paired = runs
    for baseline in BASELINES:
        paired = _with_gain_over(baseline, paired)
    rows = []
    for key, part in paired.groupby(["dataset", *CELL], sort=False):
        row = dict(zip(["dataset", *CELL], key, strict=True))
        worlds = part.groupby("world")[["before", "after", "gain", *(f"over_{name}" for name in BASELINES)]].mean()
        row |= {"worlds": len(worlds), "n": int(part["n"].sum()), "before": worlds["before"].mean(),
                "after": worlds["after"].mean()}  # fmt: skip
        for name in ("gain", *(f"over_{baseline}" for baseline in BASELINES)):
            row[name] = worlds[name].mean()
            row[f"{name}_low"], row[f"{name}_high"] = interval(worlds[name])
        rows.append({**row, "verdict": _verdict(row)})
    return pd.DataFrame(rows)


def _with_gain_over(baseline: str, runs: pd.DataFrame) -> pd.DataFrame:
    """Runs with ``over_<baseline>``: their gain less the baseline's in the same world, rate, gate and seed."""
    same = ["world", "dataset", "rate", "skip", "seed"]
    own = runs[runs["signal"] == baseline].set_index(same)["gain"].rename(baseline)
    paired = runs.join(own, on=same)
    return paired.assign(**{f"over_{baseline}": paired["gain"] - paired[baseline]})


def _verdict(row: dict) -> str:
    """Teaches: more than nothing, and than either baseline; harms: less than nothing; each by its whole interval."""
    lows = [row["gain_low"], *(row[f"over_{name}_low"] for name in BASELINES if row["signal"] != name)]
    if np.isnan(row["gain_low"]):
        return "one world cannot tell"
    if min(lows) > 0:
        return "teaches"
    return "harms" if row["gain_high"] < 0 else "cannot tell"


# ------------------------------------------------------------------ what tells beforehand


def _pairs(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs of signals that rest on a reader or on answers, with their gain over the uniform target's."""
    paired = _with_gain_over("uniform", runs)
    return paired[(paired["signal"] != "uniform") & paired["over_uniform"].notna()]


def predictive_power(runs: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Rank correlation over signals, teachers and worlds of each indicator with the gain over the uniform target's.

    The interval is a bootstrap over worlds and, within them, over pairs of signal and teacher. ``wrong`` counts the
    errors of a rule, gain where the indicator is above a threshold; the threshold has the fewest on the other datasets.
    """
    pairs, rows = _pairs(runs), []
    for (dataset, rate, skip), part in pairs.groupby(["dataset", "rate", "skip"], sort=False):
        others = pairs[(pairs["dataset"] != dataset) & (pairs["rate"] == rate) & (pairs["skip"] == skip)]
        for name in INDICATORS:
            here = part[part[name].notna()]
            row = {"dataset": dataset, "rate": rate, "skip": skip, "indicator": name, "pairs": len(here)}
            row["worlds"] = here["world"].nunique()
            row["spearman"], row["low"], row["high"] = _correlation(here, name, seed)
            row["threshold"] = _threshold(others, name)
            said, true = here[name] > row["threshold"], here["over_uniform"] > 0
            row["wrong"] = int((said != true).sum()) if np.isfinite(row["threshold"]) else np.nan
            row["wrong_always"] = int(min(true.sum(), (~true).sum()))
            rows.append(row)
    return pd.DataFrame(rows)


def _spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Spearman's ρ of each row of two arrays (draws, n); NaN where either is constant."""
    x, y = (stats.rankdata(values, axis=1) for values in (x, y))
    x, y = (values - values.mean(1, keepdims=True) for values in (x, y))
    size = np.sqrt((x**2).sum(1) * (y**2).sum(1))
    return np.divide((x * y).sum(1), size, out=np.full(len(x), np.nan), where=size > 0)


def _correlation(part: pd.DataFrame, name: str, seed: int) -> tuple[float, float, float]:
    """Spearman's ρ of an indicator with the gain over the uniform target's, and the interval's two ends."""
    if part.empty:
        return np.nan, np.nan, np.nan
    values = part[[name, "over_uniform"]].to_numpy(dtype=np.float64)
    codes, worlds = pd.factorize(part["world"])
    members = [np.flatnonzero(codes == number) for number in range(len(worlds))]
    generator, each = np.random.default_rng(seed), -(-len(part) // len(worlds))
    chosen = generator.integers(len(worlds), size=(DRAWS, len(worlds)))
    sizes = np.array([len(rows) for rows in members])[chosen]
    places = (generator.random((DRAWS, len(worlds), each)) * sizes[..., None]).astype(int)
    table = np.full((len(worlds), max(map(len, members))), -1)
    for number, rows in enumerate(members):
        table[number, : len(rows)] = rows
    drawn = values[table[chosen[..., None], places].reshape(DRAWS, -1)]
    replicates = _spearman(drawn[..., 0], drawn[..., 1])
    replicates = replicates[~np.isnan(replicates)]
    own = float(_spearman(values[None, :, 0], values[None, :, 1])[0])
    if np.isnan(own) or not len(replicates):
        return own, np.nan, np.nan
    return own, *np.quantile(replicates, [(1 - statistics.LEVEL) / 2, (1 + statistics.LEVEL) / 2])


def _threshold(part: pd.DataFrame, name: str) -> float:
    """The midpoint between two values, or below all, that makes the fewest errors on these runs; NaN without runs."""
    known = part[part[name].notna()]
    if known.empty:
        return np.nan
    values = np.unique(known[name])
    candidates = [values[0] - 1.0, *((values[1:] + values[:-1]) / 2), values[-1] + 1.0]
    true = known["over_uniform"] > 0
    return float(min(candidates, key=lambda at: int(((known[name] > at) != true).sum())))


# ------------------------------------------------------------------ pages


def _signed(value: float, low: float | None = None, high: float | None = None) -> str:
    if np.isnan(value):
        return "–"
    text = f"{value:+.3f}".replace("-", "−")
    if low is None or np.isnan(low):
        return text
    return f"{text} [{low:+.3f}, {high:+.3f}]".replace("-", "−")


def _footer(runs: pd.DataFrame) -> str:
    worlds, hashes = sorted(runs["world"].unique()), sorted(runs["config_hash"].unique())
    seeds = ", ".join(map(str, sorted(runs["seed"].unique())))
    return (
        f"Worlds: {', '.join(worlds)}; seeds: {seeds}. {len(runs)} runs, {int(runs['n'].min())} test questions each. "
        f"Indicators on {int(runs['questions'].min())} training questions. Intervals: 95 %, Student's t over worlds. "
        f"{len(hashes)} config hashes, {hashes[0]} to {hashes[-1]}. "
        + " ".join(line for world in worlds for line in not_paper_scale(world))
    ).rstrip() + "\n"


def gains_page(table: pd.DataFrame, runs: pd.DataFrame) -> str:
    """The table of gains in Markdown, a part for each dataset."""
    lines = ["# Which signal teaches", ""]
    lines += [
        "HR@k after training the retriever alone, by signal, teacher, rate and gate. *Teaches*: the gain over the "
        "initial retriever, over a uniform and over a random target of the same rate and gate, each with its whole "
        "interval above 0. *Harms*: the gain's whole interval is below 0.",
        "",
    ]
    for dataset, part in table.groupby("dataset", sort=False):
        starts = runs[runs["dataset"] == dataset].groupby("world")["before"].mean()
        each = ", ".join(f"{world} {start:.3f}" for world, start in starts.items())
        lines += [f"## {dataset}", "", f"Before training: {each}.", ""]
        lines += ["| signal | teacher | rate | skipped | HR@k | gain | less uniform's | less random's | verdict |"]
        lines += ["|---|---|---|---|---|---|---|---|---|"]
        for row in part.to_dict("records"):
            cells = [_signed(row[name], row[f"{name}_low"], row[f"{name}_high"])
                     for name in ("gain", "over_uniform", "over_random")]  # fmt: skip
            for place, baseline in enumerate(BASELINES, 1):
                cells[place] = "–" if row["signal"] == baseline else cells[place]
            first = [row["signal"], row["teacher"], row["rate"], row["skip"], f"{row['after']:.3f}"]
            lines.append("| " + " | ".join([*first, *cells, row["verdict"]]) + " |")
        lines.append("")
    return "\n".join([*lines, _footer(runs)])


def power_page(table: pd.DataFrame, runs: pd.DataFrame) -> str:
    """The table of predictive power in Markdown."""
    over = _pairs(runs)["over_uniform"]
    lines = ["# What tells beforehand", ""]
    lines += [
        f"Of {len(over)} runs {(over > 0).sum()} gained more than the uniform target of their world, rate and "
        "gate. Spearman's ρ: over runs, of the indicator with that difference; its interval is a bootstrap over worlds "
        "and runs. Rule: the run gains more than the uniform target where the indicator is above a threshold chosen on "
        "the other dataset. *Constant*: the errors of always giving the better of the two answers.",
        "",
        "| dataset | rate | skipped | indicator | runs | Spearman's ρ | threshold | wrong | constant |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in table.to_dict("records"):
        rule = ("–", "–") if np.isnan(row["wrong"]) else (f"{row['threshold']:.3f}", f"{row['wrong']:.0f}")
        lines.append(
            f"| {row['dataset']} | {row['rate']} | {row['skip']} | {INDICATORS[row['indicator']]} | {row['pairs']} | "
            f"{_signed(row['spearman'], row['low'], row['high'])} | {' | '.join(rule)} | "
            f"{row['wrong_always']} |"
        )
    return "\n".join([*lines, "", _footer(runs)])
