"""Find an answer-bearing passage for each question; -1 where the corpus has none."""

from attention_distillation.jobs import runtime

runtime.start(snakemake)

import numpy as np

from attention_distillation import files, records
from attention_distillation.data.passages import iterate_passages
from attention_distillation.training import context

questions = records.read_questions(snakemake.input.questions)
texts = (text for part in iterate_passages(snakemake.input.passages) for _, text in part)
gold = context.gold_passages(texts, questions)
with files.replacing(snakemake.output.gold) as part, open(part, "wb") as file:
    np.save(file, gold)
