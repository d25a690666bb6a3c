"""Make Tables 1 to 4, Appendix C and the differences (rule make_tables)."""

from attention_distillation.jobs import runtime

runtime.start(snakemake)

from pathlib import Path

from attention_distillation.analysis import token_analysis
from attention_distillation.reporting import claims, measurable, tables, typesetting

labels, replicates = snakemake.params.labels, snakemake.params.replicates
folder = Path(snakemake.output[0]).parent
units, origins = token_analysis.read_units(snakemake.input.units)
predictions = tables.read_predictions(snakemake.input.predictions)
measures = {
    **tables.score_measures(predictions, replicates),
    **tables.unit_measures(units, token_analysis.PERCENTILES, replicates),
}
counts = tables.unit_count_rows(units, token_analysis.PERCENTILES)
parts = tables.by_table(tables.as_rows(measures), counts, labels["decoder_only"])
parts["signal"] = tables.as_rows(tables.signal_measures(units, replicates))
with_spearman = {name: parts[name] for name in ("table3", "table4")} | {
    "table2": counts[counts["experiment"].isin(labels["decoder_only"])],
    "appendix_c": counts,
}
for name, rows in parts.items():
    notes = typesetting.footer(labels, rows, origins, replicates)
    notes += measurable.spearman_note(with_spearman.get(name, counts[:0]))
    tables.write_rows(folder / f"{name}.csv", rows)
    typesetting.write_text(folder / f"{name}.md", typesetting.markdown(name, rows, labels, notes))
    typesetting.write_text(folder / f"{name}.tex", typesetting.latex(name, rows, labels, notes))
differences = tables.difference_rows(measures, claims.pairs())
notes = typesetting.footer(labels, differences, origins, replicates)
tables.write_rows(folder / "differences.csv", differences)
typesetting.write_text(folder / "differences.md", typesetting.differences_markdown(differences, labels, notes))
