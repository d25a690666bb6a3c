"""Does the corpus fit a machine that is smaller than it? Tokenising, embedding and exact search at two sizes.

A corpus of random words goes through the pipeline's own code with a BERT of random weights, each stage in a process
of its own. Memory must not grow with the corpus, and time must grow with it in proportion. How long passages are
follows DPR's Wikipedia: nearly all of 100 words, an article's last one shorter.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import common

MEMORY_GROWTH, TIME_GROWTH = 1.2, 1.3
"""How much more the larger corpus may take than the smaller: of memory, and of time a passage. Reading, which takes as
many passages from either, is held to memory alone."""
STAGES = ("tokenise", "embed", "search", "read")


def passages(count: int, seed: int = 0):
    """Titles of 1 to 4 words and texts of 100 words (one in twelve: the rest of an article), of a world's words."""
    import numpy as np

    from attention_distillation.data import miniature
    from attention_distillation.records import Passage

    words = np.asarray(miniature.words(), dtype=object)
    rng = np.random.default_rng(seed)
    for start in range(0, count, 10_000):
        rows = min(10_000, count - start)
        drawn = words[rng.integers(len(words), size=(rows, 104))]
        lengths = np.where(rng.random(rows) < 1 / 12, rng.integers(10, 100, rows), 100)
        titles = rng.integers(1, 5, rows)
        for number, (row, length, title) in enumerate(zip(drawn, lengths, titles, strict=True), start):
            yield Passage(str(number), " ".join(row[:title]), " ".join(row[4 : 4 + length]))


def run_stage(options) -> dict:
    """One stage of one size: seconds and peak memory in MB."""
    import numpy as np
    import torch

    from attention_distillation.data.passages import Passages, write_passages
    from attention_distillation.retrieval import index
    from attention_distillation.retrieval.tokens import TokenisedCorpus, tokenise_corpus

    torch.set_num_threads(options.threads)
    folder = options.folder
    arrow, tokens, offsets = folder / "passages.arrow", folder / "tokens.npy", folder / "offsets.npy"
    shards = [folder / f"shard-{number}.npy" for number in range(options.shards)]
    retriever = common.retriever(options.width, layers=1)
    facts = {}
    wall, start = time.perf_counter(), time.process_time()
    with common.Sampler() as sampler:
        if options.stage == "make":
            write_passages(arrow, passages(options.passages))
        elif options.stage == "tokenise":
            tokenise_corpus(retriever.passage, arrow, tokens, offsets)
        elif options.stage == "embed":
            corpus = TokenisedCorpus(tokens, offsets)
            for number, path in enumerate(shards):
                bounds = index.shard_bounds(len(corpus), number, options.shards)
                index.embed_shard(
                    retriever.passage, corpus, bounds, path, batch_tokens=16384, dtype="float16", progress=False
                )  # fmt: skip
        elif options.stage == "search":
            questions = np.random.default_rng(1).normal(size=(options.questions, options.width)).astype(np.float32)
            index.ExactIndex(index.open_shards(shards)).search(questions, 5)
        else:  # five passages of a question at a time, as a training step reads them
            opened = Passages(arrow)
            facts["seconds_to_open"] = time.process_time() - start
            picks = np.random.default_rng(2).integers(len(opened), size=(options.reads, 5))
            start = time.process_time()
            for rows in picks:
                opened[rows.tolist()]
    facts |= {"seconds": time.process_time() - start, "wall": time.perf_counter() - wall}
    return {"peak": common.status("VmHWM")["VmHWM"], **sampler.peak, **facts}


def main() -> None:
    """Run every stage at every size; fail where memory or time grows more than it may."""
    parser = common.arguments(__doc__.split("\n\n")[0], width=64, questions=200, reads=20_000, shards=2)
    parser.add_argument("--sizes", type=int, nargs=2, default=[100_000, 1_000_000], help="passages, small then large")
    parser.add_argument("--within", type=Path, metavar="FOLDER", help="where to work, if not in /tmp")
    for name in ("stage", "folder", "passages"):  # how the script calls itself
        parser.add_argument(f"--{name}", type=Path if name == "folder" else None, help="internal")
    options = parser.parse_args()
    common.set_threads(options.threads)
    if options.stage:
        options.passages = int(options.passages)
        print(json.dumps(run_stage(options)))
        return
    with tempfile.TemporaryDirectory(dir=options.within) as folder:
        measured = {size: _at(size, Path(folder) / str(size), options) for size in options.sizes}
    _tell(measured, options)


def _at(size: int, folder: Path, options) -> dict[str, dict]:
    folder.mkdir()
    told = {}
    for stage in ("make", *STAGES):
        told[stage] = common.in_a_process(
            __file__, "--stage", stage, "--folder", folder, "--passages", size, "--threads", options.threads,
            "--width", options.width, "--questions", options.questions, "--reads", options.reads,
            "--shards", options.shards,
        )  # fmt: skip
        print(f"{size:,} passages, {stage}: {told[stage]['wall']:.1f} s", file=sys.stderr)
    return told


def _tell(measured: dict[int, dict[str, dict]], options) -> None:
    small, large = options.sizes
    rows, notes, over = [], [], []
    for stage in STAGES:
        a, b = measured[small][stage], measured[large][stage]
        grows = b["peak"] / a["peak"]
        per_passage = (b["seconds"] / large) / (a["seconds"] / small)
        if stage == "read":
            per_passage *= large / small  # as many passages are read from either
        for size, told in ((small, a), (large, b)):
            reads = 5 * options.reads if stage == "read" else size
            rows.append(
                {
                    "stage": stage,
                    "passages": f"{size:,}",
                    "CPU s": round(told["seconds"], 1),
                    "wall s": round(told["wall"], 1),
                    "a CPU s": f"{reads / told['seconds']:,.0f}",
                    "peak RSS, MB": round(told["peak"]),
                    "anonymous": round(told["anonymous"]),
                    "file": round(told["file"]),
                }
            )
        notes.append(f"{stage}: peak RSS x {grows:.2f}, time a passage x {per_passage:.2f}")
        if grows > MEMORY_GROWTH or (stage != "read" and per_passage > TIME_GROWTH):
            over.append(stage)
    opened = measured[large]["read"]["seconds_to_open"]
    notes.append(f"reading: {large:,} passages are opened in {1000 * opened:.0f} ms (import of datasets included)")
    notes.append("rates and growth are of processor time, so that other work on the machine counts little")
    notes.append("peak RSS is the kernel's (VmHWM), mapped files included; its two parts are sampled every 20 ms")
    common.tell(f"A corpus of {small:,} and of {large:,} passages", rows, notes, options)
    if over:
        sys.exit(f"grows with the corpus: {', '.join(over)} (memory over x {MEMORY_GROWTH}, time over x {TIME_GROWTH})")


if __name__ == "__main__":
    main()
