"""Read a user's questions and write them as the pipeline reads them."""

from attention_distillation import runtime

runtime.start(snakemake)

from attention_distillation import records

read = {
    split: records.read_questions(snakemake.input[split], f"{snakemake.wildcards.dataset}-{split}-")
    for split in records.SPLITS
}
for split, questions in read.items():
    records.write_questions(snakemake.output[split], questions)
