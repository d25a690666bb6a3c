"""Read a user's passages and write them memory-mapped."""

from attention_distillation import runtime

runtime.start(snakemake)

from attention_distillation import passages, records

source = snakemake.input[0]
count = passages.write_passages(snakemake.output.passages, records.read_passages(source))
if count < snakemake.params.k:
    raise records.InputError(
        f"retrieval.k: {snakemake.params.k} passages are asked for, and {source} holds {count}; lower k."
    )
