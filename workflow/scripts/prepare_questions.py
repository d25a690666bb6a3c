"""Turn a public data set's files into train, dev and test questions (rule prepare_questions)."""

from attention_distillation import runtime

runtime.start(snakemake)

from attention_distillation.downloads import Source
from attention_distillation.records import SPLITS
from attention_distillation.sources import prepare_questions

prepare_questions(
    snakemake.params.source,
    [Source(**row) for row in snakemake.params.rows],
    list(snakemake.input),
    snakemake.params.lock,
    {split: snakemake.output[split] for split in SPLITS},
    snakemake.output.facts,
    snakemake.params.sizes,
)
