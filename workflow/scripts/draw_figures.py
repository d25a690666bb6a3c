"""Draw Figures 1 and 3 to 7 (rule draw_figures)."""

from attention_distillation.jobs import runtime

runtime.start(snakemake)

from pathlib import Path

import pandas as pd

from attention_distillation.analysis import token_analysis
from attention_distillation.reporting import figures, tables

units, _ = token_analysis.read_units(snakemake.input.units)
logs = figures.read_logs(snakemake.input.logs)
rows = pd.concat([tables.read_rows(path) for path in snakemake.input.tables])
figures.draw_all(units, logs, rows, snakemake.params.labels, Path(snakemake.output[0]).parent)
