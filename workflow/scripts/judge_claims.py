"""Judge the paper's claims on the measured tables (rule judge_claims)."""

from attention_distillation import runtime

runtime.start(snakemake)  # noqa: F821

import pandas as pd  # noqa: E402

from attention_distillation import judging, records, tables, typesetting  # noqa: E402

labels = snakemake.params.labels  # noqa: F821
rows = pd.concat([tables.read_rows(path) for path in snakemake.input.tables])  # noqa: F821
judgement = judging.judge(rows, labels)
notes = judging.measured_notes(labels)
records.write_json(snakemake.output.json, {**judgement, "notes": notes})  # noqa: F821
page = judging.claims_markdown(judgement, labels, f"Claims, judged on scale {labels['scale']}", notes)
typesetting.write_text(snakemake.output.md, page)  # noqa: F821
