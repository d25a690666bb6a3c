"""Embedding a corpus: the pipeline's way against ``SentenceTransformer.encode``, the same model and texts.

``pipeline`` tokenises and embeds in batches of like length; ``refresh`` embeds token rows that were made before, as
every refresh of an index in training does. ``encode`` is sentence-transformers' own, at the same batch size. Passages
follow a real slice of Wikipedia: about two thirds have 98 to 100 words, the rest are spread over 5 to 97.
``--model DIR`` takes a real retriever in place of a small random one.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path

import common

SIDES = ("pipeline", "refresh", "encode")


def texts(count: int) -> list[str]:
    """Random words; how many follows the quantiles of a slice of English Wikipedia."""
    import numpy as np

    from attention_distillation.data import miniature

    rng, words = np.random.default_rng(0), np.asarray(miniature.words(), dtype=object)
    shares, quantiles = [0, 0.01, 0.05, 0.1, 0.25, 0.5, 1], [5, 20, 41, 56, 98, 100, 100]
    lengths = np.interp(rng.random(count), shares, quantiles).astype(int)
    return [" ".join(words[rng.integers(len(words), size=length)]) for length in lengths]


def sides_of(options):
    """What each side runs, by name."""
    from attention_distillation.models.retriever import Retriever

    retriever = Retriever.load(options.model) if options.model else common.retriever(options.width, options.layers)
    encoder, corpus = retriever.eval().passage, texts(options.passages)
    tokens = encoder.tokenise(corpus)
    budget = options.batch * max(map(len, tokens))
    return {
        "pipeline": lambda: encoder.embed(encoder.tokenise(corpus), budget),
        "refresh": lambda: encoder.embed(tokens, budget),
        "encode": lambda: encoder.model.encode_document(
            corpus, batch_size=options.batch, normalize_embeddings=encoder.cosine, show_progress_bar=False
        ),
    }


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
    parser.add_argument("--side", choices=SIDES, help="internal")
    options = parser.parse_args()
    common.set_threads(options.threads)
    import numpy as np
    import torch

    torch.set_num_threads(options.threads)
    sides = sides_of(options)
    if options.side:
        print(json.dumps(memory_of(sides[options.side])))
        return
    vectors = {name: run() for name, run in sides.items()}
    scale = np.linalg.norm(vectors["encode"], axis=1).mean()
    apart = max(float(np.abs(vectors[name] - vectors["encode"]).max() / scale) for name in SIDES)
    if apart > 1e-5:
        sys.exit(f"the sides' vectors lie apart by {apart:.1g} of their length")
    seconds = common.alternate(sides, options.rounds)
    given = [f"--{name}={getattr(options, name)}" for name in ("width", "layers", "batch", "threads", "model")]

    def added(side: str, passages: int) -> float:
        return common.in_a_process(__file__, "--side", side, f"--passages={passages}", *given)["added"]

    rows = [
        {"way": name, "CPU s, median": round(statistics.median(times), 3),
         "passages a CPU s": round(options.passages / statistics.median(times)),
         "memory added, MB": round(added(name, options.passages)),
         "with four times the passages": round(added(name, 4 * options.passages))}
        for name, times in seconds.items()
    ]  # fmt: skip
    notes = []
    for name in ("pipeline", "refresh"):
        middle, low, high = common.ratio(seconds, "encode", name)
        notes.append(f"encode takes {middle:.2f} times the time of {name} ({low:.2f} to {high:.2f})")
    notes.append(
        f"{options.passages:,} passages, batches of {options.batch}; largest difference of a value from encode's,"
    )
    notes[-1] += f" as a share of the vectors' length: {apart:.1g}"
    common.tell("Embedding a corpus", rows, notes, options)


if __name__ == "__main__":
    main()
