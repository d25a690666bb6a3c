"""Judge the paper's claims on its own tables (rule judge_published)."""

from attention_distillation.jobs import runtime

runtime.start(snakemake)

import pandas as pd

from attention_distillation import files
from attention_distillation.reporting import claims_page, judging, tables, typesetting

labels, rows = snakemake.params.labels, tables.read_rows(snakemake.input.published)
sizes = pd.read_csv(snakemake.input.datasets).set_index("dataset")["test"].to_dict()
judgement = judging.judge_published(rows, sizes, labels)
files.write_json(snakemake.output.json, {**judgement, "notes": claims_page.PUBLISHED_NOTES})
page = claims_page.claims_markdown(
    judgement, labels, "Claims, judged on the paper's own tables", claims_page.PUBLISHED_NOTES
)
typesetting.write_text(snakemake.output.md, page)
