"""Tabulate the controls beside the paper's experiments."""

from attention_distillation import runtime

runtime.start(snakemake)

from pathlib import Path

from attention_distillation import records, tables, typesetting

labels, replicates = snakemake.params.labels, snakemake.params.replicates
rows = tables.as_rows(tables.score_measures(tables.read_predictions(snakemake.input.predictions), replicates))
origins = {path: records.read_json(path)["provenance"] for path in snakemake.input.metrics}
notes = typesetting.footer(labels, rows, origins, replicates)
tables.write_rows(snakemake.output[0], rows)
typesetting.write_text(Path(snakemake.output[1]), typesetting.markdown("controls", rows, labels, notes))
