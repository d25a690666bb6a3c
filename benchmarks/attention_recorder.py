"""The answer-row recorder against ``output_attentions=True``: time and memory of a forward that records attention.

``recorder`` runs on SDPA and gives a_t of eq. 1. ``eager`` is the usual way: every attention matrix is built and kept,
and the answer's rows are averaged afterwards; it leaves out the value norm, and is wrong for Falcon with ALiBi (it
adds the position bias twice), so that it is compared for its cost alone. ``plain`` is the forward without recording.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path

import common

SIDES = ("recorder", "eager", "plain")


def forward(side: str, kind: str, options):
    """The call that one side times: a forward on the same questions."""
    import torch

    model = common.reader(kind, options.width, options.layers, "eager" if side == "eager" else "sdpa")
    encoded = common.question_batch(model, options.questions, 5, 128, options.answer)

    def recorded() -> None:
        model(encoded, record=side == "recorder")

    def usual() -> None:
        if kind == "t5":
            states, mask = model._encode_passages(encoded)
            inputs = {"encoder_outputs": states, "attention_mask": mask, "labels": encoded.labels, "use_cache": False}
            attentions = model.model(**inputs, output_attentions=True).cross_attentions
            rows = slice(None)
        else:
            inputs = {"input_ids": encoded.ids, "attention_mask": encoded.mask, "use_cache": False}
            answer = encoded.labels.shape[1]
            out = model.model(**inputs, logits_to_keep=answer + 1, output_attentions=True)
            attentions, rows = out.attentions, slice(-1 - answer, -1)
        sum(layer[:, :, rows].mean((1, 2)) for layer in attentions)

    call = usual if side == "eager" else recorded

    def run() -> None:
        with torch.inference_mode():
            call()

    return run


def memory_of(side: str, kind: str, options) -> dict:
    """MB that a forward adds at its peak to what the process holds before it."""
    run = forward(side, kind, options)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew: loading has one of its own
    before = common.status("VmRSS")["VmRSS"]
    run()
    return {"added": common.status("VmHWM")["VmHWM"] - before}


def main() -> None:
    """Time the three sides in turn, measure each one's memory in a process of its own, and tell the ratios."""
    parser = common.arguments(__doc__.split("\n\n")[0], width=512, layers=6, questions=4, answer=16, rounds=7)
    parser.add_argument("--side", choices=SIDES, help="internal")
    parser.add_argument("--kind", choices=("falcon", "t5"), help="internal")
    options = parser.parse_args()
    common.set_threads(options.threads)
    import torch

    torch.set_num_threads(options.threads)
    if options.side:
        print(json.dumps(memory_of(options.side, options.kind, options)))
        return
    rows, notes = [], []
    for kind, title in (("falcon", "Falcon, ALiBi"), ("t5", "T5, fusion-in-decoder")):
        seconds = common.alternate({side: forward(side, kind, options) for side in SIDES}, options.rounds)
        sizes = [f"--{name}={getattr(options, name)}" for name in ("width", "layers", "questions", "answer", "threads")]
        added = {side: common.in_a_process(__file__, "--side", side, "--kind", kind, *sizes)["added"] for side in SIDES}
        rows += [
            {"reader": title, "side": side, "CPU s, median": round(statistics.median(seconds[side]), 3),
             "memory added, MB": round(added[side])}
            for side in SIDES
        ]  # fmt: skip
        for other, over in (("eager", "recorder"), ("recorder", "plain")):
            middle, low, high = common.ratio(seconds, other, over)
            notes.append(
                f"{title}: {other} takes {middle:.2f} times the time of {over} ({low:.2f} to {high:.2f} over "
                f"{options.rounds} rounds) and {added[other] / max(added[over], 1):.1f} times its memory"
            )
    notes.append("memory: the peak of the process during the forward less what it held before, each side by itself")
    common.tell("Recording the answer's attention", rows, notes, options)


if __name__ == "__main__":
    sys.exit(main())
