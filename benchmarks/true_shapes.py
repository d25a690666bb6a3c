"""One optimiser step of every experiment with the paper's own model shapes, in bfloat16, on whatever machine this is.

    python benchmarks/true_shapes.py [--experiments step1,atlas] [--layers 20] [--toy] [--folder docs/measurements]

Each experiment runs in a process of its own; ``true-shapes.md`` and ``.json`` are written after each. Weights and text
are random: what is seen is that the step runs, what memory it takes, that losses are finite, and that the weights
which the experiment trains changed, all of them, and no others.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

from common import EXPERIMENTS

MAIN = Path(__file__).resolve()


def digests(trainer) -> dict[str, dict[str, int]]:
    """A checksum of every weight, of its float32 master where it is trained."""
    import torch

    checksums = {}
    for name in ("reader", "retriever"):
        with trainer.optimiser.exact(name) if name in trainer.modules else contextlib.nullcontext():
            checksums[name] = {
                key: zlib.crc32(weight.detach().flatten().view(torch.uint8).numpy())
                for key, weight in getattr(trainer, name).named_parameters()
            }
    return checksums


def one(experiment: str, toy: bool, layers: int | None = None) -> dict:
    """Run one step in this process and tell of it; with ``layers`` a Falcon of so many."""
    import numpy as np
    import torch

    import shapes

    shape = shapes.TOY if toy else shapes.TRUE
    if not toy:  # the index holds a few passages: its size is another benchmark's subject
        shape = shapes.replace(shape, passages=64, questions=8)
    if layers:
        shape = shapes.replace(shape, falcon={**shape.falcon, "num_hidden_layers": layers})
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        trainer = shapes.make_trainer(shape, experiment, Path(folder))
        if trainer.teaches:
            trainer.index.refresh(0)
        before, ready = digests(trainer), time.monotonic()
        parts = trainer.prepared(np.arange(1), 0)
        losses = {name: float(loss) for name, loss in trainer.step(np.arange(1), 0, parts).items()}
        stepped = time.monotonic()
        after = digests(trainer)
    changed = {
        part: sum(before[part][key] != after[part][key] for key in before[part]) for part in ("reader", "retriever")
    }
    sizes = {part: sum(weight.numel() for weight in getattr(trainer, part).parameters()) for part in changed}
    return {
        "experiment": experiment,
        "trained": sorted(trainer.trained),
        "weights": sizes,
        "falcon_layers": layers or shape.falcon["num_hidden_layers"],
        "prompt_tokens": int(parts[0].encoded.mask.sum()),
        "losses": losses,
        "finite": all(np.isfinite(list(losses.values()))),
        "tensors": {part: len(before[part]) for part in changed},
        "tensors_changed": changed,
        "as_due": all(
            changed[part] == (len(before[part]) if part in trainer.trained else 0) for part in changed
        ),
        "seconds_to_build": round(ready - started, 1),
        "seconds_of_the_step": round(stepped - ready, 1),
        "peak_rss_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "threads": torch.get_num_threads(),
    }  # fmt: skip


def markdown(rows: list[dict], toy: bool) -> str:
    """The measurements as a page."""
    import torch
    import transformers

    lines = [
        "# One step at the paper's shapes",
        "",
        f"`python benchmarks/true_shapes.py{' --toy' if toy else ''}`; {platform.machine()}, torch "
        f"{torch.__version__}, transformers {transformers.__version__}; bfloat16 weights, float32 masters and moments,",
        "random weights, random words, one question with all its passages. Seconds are of a CPU that others used at",
        "the same time: they say that the step ends, not how fast it is.",
        "",
        "| experiment | trained | weights: reader, retriever | prompt tokens | losses | weights changed | step, s "
        "| peak RSS, GiB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if "failed" in row:
            lines.append(f"| `{row['experiment']}` | | | | | **{row['failed']}** | | |")
            continue
        losses = ", ".join(f"{name} {loss:.4g}" for name, loss in row["losses"].items())
        changed = ", ".join(f"{row['tensors_changed'][p]} of {row['tensors'][p]} {p}" for p in row["tensors"])
        weights = ", ".join(f"{row['weights'][part] / 1e6:.1f} M" for part in row["weights"])
        verdict = "as due" if row["as_due"] and row["finite"] else "**NOT as due**"
        layers = "" if toy or row["falcon_layers"] == 24 else f", {row['falcon_layers']} layers"
        trained = ", ".join(row["trained"])
        lines.append(
            f"| `{row['experiment']}`{layers} | {trained} | {weights} | {row['prompt_tokens']} | {losses} "
            f"| {changed} tensors: {verdict} | {row['seconds_of_the_step']} | {row['peak_rss_gib']} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--experiments", default=",".join(EXPERIMENTS), help="which, with commas between")
    parser.add_argument("--toy", action="store_true", help="tiny models, to test this script")
    parser.add_argument("--folder", type=Path, default=MAIN.parents[1] / "docs" / "measurements")
    parser.add_argument("--layers", type=int, help="of Falcon, where the machine cannot hold its 24")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(one(given.one, given.toy, given.layers)))
        return
    given.folder.mkdir(parents=True, exist_ok=True)
    page = given.folder / "true-shapes.json"
    known = {row["experiment"]: row for row in json.loads(page.read_text())} if page.exists() else {}
    for experiment in given.experiments.split(","):
        command = [sys.executable, str(MAIN), "--one", experiment, *(["--toy"] if given.toy else [])]
        command += ["--layers", str(given.layers)] if given.layers else []
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            known[experiment] = {"experiment": experiment, "failed": f"ended with code {done.returncode}"}
        else:
            known[experiment] = json.loads(done.stdout.splitlines()[-1])
        print(known[experiment], flush=True)
        rows = [known[name] for name in EXPERIMENTS if name in known]
        page.write_text(json.dumps(rows, indent=2) + "\n")
        page.with_suffix(".md").write_text(markdown(rows, given.toy))
    if not all(row.get("as_due") and row.get("finite") for row in known.values()):
        raise SystemExit("not everything is as due; see above")


if __name__ == "__main__":
    main()
