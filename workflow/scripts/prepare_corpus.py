"""Turn a public corpus's files into passages.arrow (rule prepare_corpus)."""

from attention_distillation.downloads import Source
from attention_distillation.sources import prepare_corpus

rows = [Source(**row) for row in snakemake.params.rows]
count = prepare_corpus(rows, list(snakemake.input), snakemake.params.lock, snakemake.output[0])
with open(snakemake.log[0], "w", encoding="utf-8") as log:
    log.write(f"{count:,} passages\n")
