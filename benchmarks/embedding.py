"""Embedding a corpus: token rows made once and sorted by length, against the plain padded loop.

``sorted`` is the pipeline's way. ``padded`` takes the same token rows in the corpus's order, so many passages at a
time. ``padded + tokenising`` also tokenises each batch, as a loop without a tokenised corpus does at every refresh.
Passages follow a real slice of Wikipedia: about two thirds have 98 to 100 words, the rest are spread over 5 to 97.
"""

from __future__ import annotations

import statistics
import sys

import common


def texts(count: int) -> list[str]:
    """Random words; how many follows the quantiles of a slice of English Wikipedia."""
    import numpy as np

    from attention_distillation.data import miniature

    rng, words = np.random.default_rng(0), np.asarray(miniature.words(), dtype=object)
    shares, quantiles = [0, 0.01, 0.05, 0.1, 0.25, 0.5, 1], [5, 20, 41, 56, 98, 100, 100]
    lengths = np.interp(rng.random(count), shares, quantiles).astype(int)
    return [" ".join(words[rng.integers(len(words), size=length)]) for length in lengths]


def main() -> None:
    """Time the three in turn and tell the ratios; their vectors must agree."""
    parser = common.arguments(__doc__.split("\n\n")[0], width=128, layers=2, passages=1500, batch=64, rounds=5)
    options = parser.parse_args()
    common.set_threads(options.threads)
    import numpy as np
    import torch

    torch.set_num_threads(options.threads)
    retriever = common.retriever(options.width, options.layers)
    corpus = texts(options.passages)
    tokens = retriever.tokenise(corpus, 200)
    batches = [slice(start, start + options.batch) for start in range(0, len(corpus), options.batch)]

    def padded(rows_of) -> np.ndarray:
        with torch.inference_mode():
            return np.concatenate([retriever(rows_of(part)).numpy() for part in batches])

    longest = max(map(len, tokens))
    sides = {
        "sorted": lambda: retriever.embed(tokens, options.batch * longest),
        "padded": lambda: padded(lambda part: tokens[part]),
        "padded + tokenising": lambda: padded(lambda part: retriever.tokenise(corpus[part], 200)),
    }
    vectors = {name: run() for name, run in sides.items()}
    if not all(np.allclose(vectors["sorted"], other, atol=1e-4) for other in vectors.values()):
        sys.exit("the three ways give different vectors")
    seconds = common.alternate(sides, options.rounds)
    rows = [
        {"way": name, "CPU s, median": round(statistics.median(times), 3),
         "passages a CPU s": round(options.passages / statistics.median(times))}
        for name, times in seconds.items()
    ]  # fmt: skip
    notes = []
    for name in list(sides)[1:]:
        middle, low, high = common.ratio(seconds, name, "sorted")
        notes.append(f"{name} takes {middle:.2f} times the time of sorted ({low:.2f} to {high:.2f})")
    waste = sum(max(map(len, tokens[part])) * len(tokens[part]) for part in batches) / sum(map(len, tokens))
    notes.append(
        f"{options.passages:,} passages; in the corpus's order padding adds {100 * (waste - 1):.0f} % of tokens"
    )
    notes.append("the three ways' vectors agree; the tokenizer is word-level")
    common.tell("Embedding a corpus", rows, notes, options)


if __name__ == "__main__":
    main()
