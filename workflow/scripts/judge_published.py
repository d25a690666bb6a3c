"""Judge the paper's claims on its own tables (rule judge_published)."""

from attention_distillation import runtime

runtime.start(snakemake)  # noqa: F821

import pandas as pd  # noqa: E402

from attention_distillation import judging, labels, records, tables, typesetting  # noqa: E402

rows = tables.read_rows(snakemake.input.published)  # noqa: F821
sizes = pd.read_csv(snakemake.input.datasets).set_index("dataset")["test"].to_dict()  # noqa: F821
judgement = judging.judge_published(rows, sizes)
records.write_json(snakemake.output.json, {**judgement, "notes": judging.PUBLISHED_NOTES})  # noqa: F821
page = judging.claims_markdown(
    judgement, labels.PUBLISHED, "Claims, judged on the paper's own tables", judging.PUBLISHED_NOTES
)
typesetting.write_text(snakemake.output.md, page)  # noqa: F821
