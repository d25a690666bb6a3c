"""Find an answer-bearing passage for each question; -1 where the corpus has none."""

from attention_distillation import runtime

runtime.start(snakemake)

import numpy as np

from attention_distillation import context, records

questions = records.read_questions(snakemake.input.questions)
gold = context.gold_passages(records.open_passages(snakemake.input.passages), questions)
with records.replacing(snakemake.output.gold) as part, open(part, "wb") as file:
    np.save(file, gold)
