"""Draw Figures 1 and 3 to 7 (rule draw_figures)."""

from attention_distillation import runtime

runtime.start(snakemake)  # noqa: F821

from pathlib import Path  # noqa: E402

import pandas as pd  # noqa: E402

from attention_distillation import figures, tables, token_analysis  # noqa: E402

units, _ = token_analysis.read_units(snakemake.input.units)  # noqa: F821
logs = figures.read_logs(snakemake.input.logs)  # noqa: F821
rows = pd.concat([tables.read_rows(path) for path in snakemake.input.tables])  # noqa: F821
figures.draw_all(units, logs, rows, snakemake.params.labels, Path(snakemake.output[0]).parent)  # noqa: F821
