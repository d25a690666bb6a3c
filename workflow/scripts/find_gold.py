"""Find an answer-bearing passage for each question; -1 where the corpus has none."""

from attention_distillation import runtime

runtime.start(snakemake)

import numpy as np

from attention_distillation import context, records
from attention_distillation.passages import iterate_passages

questions = records.read_questions(snakemake.input.questions)
texts = (text for part in iterate_passages(snakemake.input.passages) for _, text in part)
gold = context.gold_passages(texts, questions)
with records.replacing(snakemake.output.gold) as part, open(part, "wb") as file:
    np.save(file, gold)
