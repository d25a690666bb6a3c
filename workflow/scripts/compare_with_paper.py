"""Put every measured number beside the published one (rule compare_with_paper)."""

from attention_distillation import runtime

runtime.start(snakemake)  # noqa: F821

import pandas as pd  # noqa: E402

from attention_distillation import tables, typesetting  # noqa: E402

labels = snakemake.params.labels  # noqa: F821
measured = pd.concat([tables.read_rows(path) for path in snakemake.input.tables])  # noqa: F821
rows = tables.compare_rows(measured, tables.read_rows(snakemake.input.published))  # noqa: F821
tables.write_rows(snakemake.output.csv, rows)  # noqa: F821
typesetting.write_text(snakemake.output.md, typesetting.compare_markdown(rows, labels))  # noqa: F821
