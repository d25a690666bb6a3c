"""Turn a public corpus's files into passages.arrow (rule prepare_corpus)."""

from attention_distillation.jobs import runtime

runtime.start(snakemake)

import sys

from attention_distillation.data.sources import prepare_corpus
from attention_distillation.data.table import Source

rows = [Source(**row) for row in snakemake.params.rows]
count = prepare_corpus(rows, list(snakemake.input), snakemake.params.lock, snakemake.output[0])
sys.stderr.write(f"{count:,} passages\n")
