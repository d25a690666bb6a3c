"""Read a user's passages and write them memory-mapped."""

from attention_distillation.jobs import runtime

runtime.start(snakemake)

from attention_distillation import files
from attention_distillation.data import inputs, passages

source = snakemake.input[0]
count = passages.write_passages(snakemake.output.passages, inputs.read_passages(source))
if count < snakemake.params.k:
    raise files.InputError(
        f"retrieval.k: {snakemake.params.k} passages are asked for, and {source} holds {count}; lower k."
    )
