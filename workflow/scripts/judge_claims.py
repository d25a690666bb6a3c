"""Judge the paper's claims on the measured tables (rule judge_claims)."""

from attention_distillation.jobs import runtime

runtime.start(snakemake)

import pandas as pd

from attention_distillation import files
from attention_distillation.reporting import claims_page, judging, tables, typesetting
from attention_distillation.reporting.labels import with_k

labels = snakemake.params.labels
rows = pd.concat([tables.read_rows(path) for path in snakemake.input.tables])
judgement = judging.judge(rows, labels)
notes = claims_page.measured_notes(labels)
files.write_json(snakemake.output.json, {**judgement, "notes": notes})
page = claims_page.claims_markdown(judgement, labels, f"Claims, judged on scale {labels['scale']}", notes)
typesetting.write_text(snakemake.output.md, with_k(page, labels))
