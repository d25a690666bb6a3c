"""Embedding a corpus: the pipeline's way against ``SentenceTransformer.encode``, the same model and texts.

``pipeline`` goes from ``passages.arrow`` to a shard on the disk, as the rules do: token rows to a file, then vectors to
another, in batches of like length. ``encode`` is sentence-transformers' own, at the same batch size; it holds texts and
vectors in memory. Without ``--texts`` passages follow a real slice of Wikipedia: about two thirds have 98 to 100 words,
the rest are spread over 5 to 97. ``--model DIR`` takes a real retriever in place of a small random one.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from itertools import islice
from pathlib import Path

import common

SIDES = ("pipeline", "encode")
COMPARED = 64


def passages_of(options, count: int):
    """(title, text) of the first ``count`` passages."""
    if not options.texts:
        return [("", text) for text in texts(count)]
    from attention_distillation.data.inputs import read_passages

    return [(one.title, one.text) for one in islice(read_passages(options.texts), count)]


def texts(count: int) -> list[str]:
    """Random words; how many follows the quantiles of a slice of English Wikipedia."""
    import numpy as np

    from attention_distillation.data import miniature

    rng, words = np.random.default_rng(0), np.asarray(miniature.words(), dtype=object)
    shares, quantiles = [0, 0.01, 0.05, 0.1, 0.25, 0.5, 1], [5, 20, 41, 56, 98, 100, 100]
    lengths = np.interp(rng.random(count), shares, quantiles).astype(int)
    return [" ".join(words[rng.integers(len(words), size=length)]) for length in lengths]


def sides_of(options, count: int, folder: Path):
    """What each side runs, by name; each returns the vectors of ``count`` passages."""
    from attention_distillation.data.passages import write_passages
    from attention_distillation.models.retriever import Retriever
    from attention_distillation.records import Passage
    from attention_distillation.retrieval import index
    from attention_distillation.retrieval.tokens import TokenisedCorpus, tokenise_corpus

    retriever = Retriever.load(options.model) if options.model else common.retriever(options.width, options.layers)
    encoder, pairs = retriever.eval().passage, passages_of(options, count)
    count = len(pairs)
    longest = max(map(len, encoder.tokenise([encoder.passage_text(*pair) for pair in pairs[:COMPARED]])))
    write_passages(folder / "p.arrow", (Passage(str(row), *pair) for row, pair in enumerate(pairs)))
    written = [encoder.passage_text(*pair) for pair in pairs]
    files = folder / "tokens.npy", folder / "offsets.npy"

    def pipeline():
        tokenise_corpus(encoder, folder / "p.arrow", *files)
        corpus, shard = TokenisedCorpus(*files), folder / "shard.npy"
        budget = options.batch * longest
        index.embed_shard(encoder, corpus, (0, count), shard, batch_tokens=budget, progress=False)
        return index.open_shards([shard])[0]

    def encode():
        return encoder.model.encode_document(
            written, batch_size=options.batch, normalize_embeddings=encoder.cosine, show_progress_bar=False
        )

    return {"pipeline": pipeline, "encode": encode}


def memory_of(run) -> dict[str, float]:
    """MB that a run adds at its peak to what the process holds before it."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew: loading has one of its own
    before = common.status("VmRSS")["VmRSS"]
    run()
    return {"added": common.status("VmHWM")["VmHWM"] - before}


def main() -> None:
    """Time the sides in turn, measure each one's memory in a process of its own, print the ratios."""
    parser = common.arguments(__doc__.split("\n\n")[0], width=128, layers=2, passages=1500, batch=32, rounds=5)
    parser.add_argument("--model", default="", help="a retriever's directory; without it a BERT with random weights")
    parser.add_argument("--texts", default="", help="a file of passages (docs/inputs.md); without it random words")
    parser.add_argument("--side", choices=SIDES, help="internal")
    options = parser.parse_args()
    common.set_threads(options.threads)
    import numpy as np
    import torch

    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        if options.side:
            print(json.dumps(memory_of(sides_of(options, options.passages, Path(folder))[options.side])))
            return
        few = {name: run() for name, run in sides_of(options, COMPARED, Path(folder)).items()}
        apart = float(np.abs(few["pipeline"] - few["encode"]).max() / np.linalg.norm(few["encode"], axis=1).mean())
        if apart > 1e-5:
            sys.exit(f"the sides' vectors lie apart by {apart:.1g} of their length")
        seconds = common.alternate(sides_of(options, options.passages, Path(folder)), options.rounds, warm=False)
    given = [f"--{name}={getattr(options, name)}" for name in ("width", "layers", "batch", "threads", "model", "texts")]

    def added(side: str, passages: int) -> float:
        return common.in_a_process(__file__, "--side", side, f"--passages={passages}", *given)["added"]

    rows = [
        {"way": name, "CPU s, median": round(statistics.median(times), 3),
         "passages a CPU s": round(options.passages / statistics.median(times)),
         "memory added, MB": round(added(name, options.passages)),
         "with a quarter of the passages": round(added(name, options.passages // 4))}
        for name, times in seconds.items()
    ]  # fmt: skip
    middle, low, high = common.ratio(seconds, "encode", "pipeline")
    notes = [
        f"encode takes {middle:.2f} times the time of pipeline ({low:.2f} to {high:.2f} over {options.rounds} rounds)",
        f"{options.passages:,} passages, batches of {options.batch}; largest difference of a value from encode's, as a "
        f"share of the vectors' length: {apart:.1g}",
        "memory: the process's peak during the run less what it held before, each side by itself; encode's texts are "
        "held before",
    ]
    common.tell("Embedding a corpus", rows, notes, options)


if __name__ == "__main__":
    main()
