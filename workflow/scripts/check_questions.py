"""Read a user's questions and write them as the pipeline reads them."""

from attention_distillation.jobs import runtime

runtime.start(snakemake)

from attention_distillation import records
from attention_distillation.data import inputs

read = {
    split: inputs.read_questions(snakemake.input[split], f"{snakemake.wildcards.dataset}-{split}-")
    for split in records.SPLITS
}
for split, questions in read.items():
    records.write_questions(snakemake.output[split], questions)
