"""Turn a public data set's files into train, dev and test questions (rule prepare_questions)."""

from attention_distillation.jobs import runtime

runtime.start(snakemake)

from attention_distillation.data.sources import prepare_questions
from attention_distillation.data.table import Source
from attention_distillation.records import SPLITS

prepare_questions(
    snakemake.params.source,
    [Source(**row) for row in snakemake.params.rows],
    list(snakemake.input),
    snakemake.params.lock,
    {split: snakemake.output[split] for split in SPLITS},
    snakemake.output.facts,
    snakemake.params.sizes,
)
