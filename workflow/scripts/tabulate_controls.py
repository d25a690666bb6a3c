"""Tabulate the controls beside the paper's experiments: their scores, and what their readers' attention tells."""

from attention_distillation import runtime

runtime.start(snakemake)

from attention_distillation import tables, token_analysis, typesetting

labels, replicates, output = snakemake.params.labels, snakemake.params.replicates, snakemake.output
units, origins = token_analysis.read_units(snakemake.input.units)
scores = tables.score_measures(tables.read_predictions(snakemake.input.predictions), replicates)
signal = tables.signal_measures(units, replicates)
for name, measures, (csv, page) in (("controls", scores, output[:2]), ("signal", signal, output[2:])):
    rows = tables.as_rows(measures)
    notes = typesetting.footer(labels, rows, origins, replicates)
    tables.write_rows(csv, rows)
    typesetting.write_text(page, typesetting.markdown(name, rows, labels, notes))
