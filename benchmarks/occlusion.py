"""Occlusion, a forward for each token left out: many at a time, against one at a time.

Both are ``signals.occlusion``, with its batch as the pipeline has it and with a batch of one, on the same questions;
their distributions must agree.
"""

from __future__ import annotations

import statistics
import sys

import common


def main() -> None:
    """Time the two in turn and tell the ratio."""
    parser = common.arguments(
        __doc__.split("\n\n")[0], width=128, layers=2, questions=1, passages=5, length=48, batch=256, rounds=5
    )
    options = parser.parse_args()
    common.set_threads(options.threads)
    import torch

    from attention_distillation.training import signals

    torch.set_num_threads(options.threads)
    reader = common.reader("t5", options.width, options.layers)
    encoded = common.question_batch(reader, options.questions, options.passages, options.length, 6)
    sides = {
        f"{options.batch} at a time": lambda: signals.occlusion(reader, encoded, 1.0, batch=options.batch),
        "one at a time": lambda: signals.occlusion(reader, encoded, 1.0, batch=1),
    }
    batched, single = (run() for run in sides.values())
    if not torch.allclose(batched, single, atol=1e-5):
        sys.exit("the two ways give different distributions")
    seconds = common.alternate(sides, options.rounds)
    tokens = int((encoded.passage >= 0).sum())
    rows = [
        {"way": name, "CPU s, median": round(statistics.median(times), 3),
         "tokens a CPU s": round(tokens / statistics.median(times))}
        for name, times in seconds.items()
    ]  # fmt: skip
    middle, low, high = common.ratio(seconds, *reversed(sides))
    notes = [
        f"one at a time takes {middle:.2f} times as long ({low:.2f} to {high:.2f} over {options.rounds} rounds)",
        f"{tokens} tokens of {options.questions * options.passages} passages; the distributions agree",
    ]
    common.tell("Occlusion", rows, notes, options)


if __name__ == "__main__":
    main()
