"""Read a user's passages and write them memory-mapped."""

from attention_distillation.jobs import runtime

runtime.start(snakemake)

import sys

from tqdm import tqdm

from attention_distillation import files
from attention_distillation.data import checks, inputs, passages

source = snakemake.input[0]
reading, lengths = inputs.Reading(source), checks.Lengths()
bar = tqdm(inputs.read_passages(source, reading), desc="reading", unit="passage", mininterval=5, delay=5)
count = passages.write_passages(snakemake.output.passages, lengths.of(bar))
for line in reading.lines("passages"):
    sys.stderr.write(f"{line}\n")
if count < snakemake.params.k:
    raise files.InputError(
        f"retrieval.k: {snakemake.params.k} passages are asked for, and {source} holds {count}; lower k."
    )
files.write_json(snakemake.output.facts, {**reading.facts(), "words": lengths.facts()})
