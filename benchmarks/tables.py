"""Tables, figures and claims from the committed artifacts, against the run that made these.

What is timed here is the first: ``use_cached.py`` and Snakemake's targets, as ``make tables`` calls them, in a fresh
copy. The other side is NOT run: it is the training time that the committed logs recorded when the miniature ran, which
leaves out its data, index, evaluation and analysis, on whatever machine that was. The ratio is of processor time of
the one to time on the clock of the other, with one thread each, and a lower bound.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import common

COPIED = ("Snakefile", "config.yaml", "workflow", "profiles", "envs", "results/cached")


def recorded_seconds() -> tuple[float, int]:
    """Seconds of training that the committed logs tell, and of how many runs."""
    from attention_distillation.files import read_jsonl

    logs = sorted((common.ROOT / "results" / "cached").glob("*/*/*/seed*/log.jsonl"))
    if not logs:
        sys.exit("results/cached holds no run: git checkout results/cached")
    return sum([row for _, row in read_jsonl(path)][-1]["seconds"] for path in logs), len(logs)


def regenerate(targets: list[str], threads: int) -> tuple[float, float]:
    """Processor seconds and seconds on the clock of making the targets from the committed artifacts."""
    with tempfile.TemporaryDirectory() as folder:
        for name in COPIED:
            source, target = common.ROOT / name, Path(folder) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copyfile(source, target)
        before, start = os.times(), time.perf_counter()
        _call(folder, "workflow/scripts/use_cached.py")
        seeds = (Path(folder) / "results" / "miniature" / ".seeds").read_text("utf-8").strip()
        _call(
            folder, "-m", "snakemake", "--quiet", "all", "--cores", str(threads), *targets, "--config", f"seeds={seeds}"
        )
        after, seconds = os.times(), time.perf_counter() - start
    used = after.children_user - before.children_user + after.children_system - before.children_system
    return used, seconds


def _call(folder: str, *command: str) -> None:
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, check=False, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    if done.returncode:
        sys.exit(done.stdout)


def main() -> None:
    """Regenerate some rounds and put the recorded training time beside it."""
    parser = common.arguments(__doc__.split("\n\n")[0], rounds=2)
    parser.add_argument("--targets", nargs="+", default=["tables", "figures", "claims"], help="of Snakemake")
    options = parser.parse_args()
    common.set_threads(options.threads)
    recorded, runs = recorded_seconds()
    times = [regenerate(options.targets, options.threads) for _ in range(options.rounds)]
    used, clock = (statistics.median(part) for part in zip(*times, strict=True))
    rows = [
        {
            "what": f"{', '.join(options.targets)} from results/cached",
            "seconds": round(used, 1),
            "of": "processor, here",
        },
        {"what": f"training of the {runs} runs behind them", "seconds": round(recorded, 1), "of": "clock, as recorded"},
    ]
    notes = [
        f"the recorded training alone took {recorded / used:.0f} times as long; it was not run again here",
        f"on the clock the regeneration took {clock:.1f} s; median of {options.rounds} rounds",
    ]
    common.tell("Tables from the committed artifacts", rows, notes, options)


if __name__ == "__main__":
    main()
