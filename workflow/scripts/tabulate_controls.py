"""Tabulate the controls beside the paper's experiments: scores, attention's picks, gains over the initial models."""

from attention_distillation.jobs import runtime

runtime.start(snakemake)

from attention_distillation.analysis import token_analysis
from attention_distillation.reporting import tables, typesetting

labels, replicates, output = snakemake.params.labels, snakemake.params.replicates, snakemake.output
units, origins = token_analysis.read_units(snakemake.input.units)
scores = tables.score_measures(tables.read_predictions(snakemake.input.predictions), replicates)
signal = tables.signal_measures(units, replicates)
for name, measures, (csv, page) in (("controls", scores, output[:2]), ("signal", signal, output[2:4])):
    rows = tables.as_rows(measures)
    notes = typesetting.footer(labels, rows, origins, replicates)
    tables.write_rows(csv, rows)
    typesetting.write_text(page, typesetting.markdown(name, rows, labels, notes))
gains = tables.difference_rows(scores, pairs=())
tables.write_rows(output[4], gains)
notes = typesetting.footer(labels, gains, origins, replicates)
typesetting.write_text(output[5], typesetting.differences_markdown(gains, labels, notes))
