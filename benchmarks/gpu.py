"""What can only be known on a GPU: is it right there, how fast is it, what memory does it take.

    python benchmarks/gpu.py [--sections correctness,speed] [--minutes 9] [--folder docs/measurements] [--toy]

Sections, each a few minutes on an H100 with 80 GB, each writing ``gpu-<section>.json`` and ``.md`` as soon as it is
done; nothing is downloaded and no checkpoint is needed:

correctness  recorder, signals and one training step against the same in float32 on the CPU
speed        steps a second of every experiment at the paper's shapes, with the whole index; memory; waits for the GPU
embedding    tokenising and embedding passages
search       21,015,324 random unit vectors in bfloat16, 1, 8 and 64 questions, against the time of a copy; faiss
profile      where the slowest experiment's time goes (torch.profiler)
miniature    the miniature's six experiments: EM, F1 and HR@5 beside those committed, which a CPU made

After ``--minutes`` no section or experiment is begun any more. ``--toy`` is for tests: tiny shapes, any device.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import torch

import gpu_agreement  # first: it says where the package is
import gpu_speed
from attention_distillation.files import write_json
from attention_distillation.jobs import runtime
from gpu_bench import Bench, table

ROOT = Path(__file__).resolve().parents[1]

SECTIONS: dict[str, Callable[[Bench], Iterator[dict]]] = {
    "correctness": gpu_agreement.correctness, "speed": gpu_speed.speed, "embedding": gpu_speed.embedding,
    "search": gpu_speed.search, "profile": gpu_speed.profile, "miniature": gpu_agreement.the_miniature,
}  # fmt: skip


@cache
def commit() -> str:
    """The commit that the code is at; 'none' where there is no git."""
    try:
        told = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
        ).stdout
    except OSError:
        return "none"
    return told.strip() or "none"


def facts(bench: Bench) -> dict:
    """Where and with what it was measured."""
    import transformers

    return {
        "device": runtime.device_name(), "torch": torch.__version__, "cuda": torch.version.cuda,
        "transformers": transformers.__version__, "python": platform.python_version(), "toy": bench.toy,
        "commit": commit(), "cpu cores": os.cpu_count(),
    }  # fmt: skip


def write(bench: Bench, section: str, rows: list[dict], seconds: float, whole: bool) -> None:
    """A section's rows so far, as JSON and Markdown."""
    told = facts(bench)
    base = bench.folder / f"gpu-{section}"
    write_json(base.with_suffix(".json"), {"facts": told, "seconds": round(seconds, 1), "whole": whole, "rows": rows})
    text = [
        f"# {section.capitalize()} on {told['device']}", "", SECTIONS[section].__doc__, "",
        ", ".join(f"{key} {value}" for key, value in told.items()) + f"; {seconds:.0f} s"
        + ("" if whole else "; **not whole: time was up or it failed**"), "", table(rows), "",
    ]  # fmt: skip
    base.with_suffix(".md").write_text("\n".join(text), encoding="utf-8")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--sections", default=",".join(SECTIONS), help="which, with commas between")
    parser.add_argument("--minutes", type=float, default=9, help="after so long nothing more is begun")
    parser.add_argument("--folder", type=Path, default=ROOT / "docs" / "measurements")
    parser.add_argument("--toy", action="store_true", help="tiny shapes, to test this script")
    given = parser.parse_args(arguments)
    names = given.sections.split(",")
    if unknown := set(names) - set(SECTIONS):
        parser.error(f"no section {', '.join(sorted(unknown))}; known: {', '.join(SECTIONS)}")
    bench = Bench(given.toy, given.minutes, given.folder)
    if bench.device == "cpu" and not given.toy:
        parser.error("there is no GPU here; --toy runs the script on a CPU")
    bench.folder.mkdir(parents=True, exist_ok=True)
    failed = []
    for name in names:
        if bench.time_is_up():
            print(f"time is up before section {name}", file=sys.stderr)
            break
        rows, begun, whole = [], time.monotonic(), False
        try:
            for row in SECTIONS[name](bench):
                rows.append(row)
                print(name, json.dumps(row), flush=True)
                write(bench, name, rows, time.monotonic() - begun, False)
            whole = not bench.time_is_up()
            bench.forget()
        except Exception:  # the next section can be measured all the same
            failed.append(name)
            traceback.print_exc()
        finally:
            write(bench, name, rows, time.monotonic() - begun, whole)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}; what they had measured is in {bench.folder}")


if __name__ == "__main__":
    main()
