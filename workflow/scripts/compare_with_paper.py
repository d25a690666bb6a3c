"""Put every measured number beside the published one (rule compare_with_paper)."""

from attention_distillation.jobs import runtime

runtime.start(snakemake)

import pandas as pd

from attention_distillation.reporting import tables, typesetting

labels = snakemake.params.labels
measured = pd.concat([tables.read_rows(path) for path in snakemake.input.tables])
rows = tables.compare_rows(measured, tables.read_rows(snakemake.input.published), labels["k"])
tables.write_rows(snakemake.output.csv, rows)
typesetting.write_text(snakemake.output.md, typesetting.compare_markdown(rows, labels))
