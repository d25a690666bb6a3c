"""Measure how much of the retrieved passages reader and retriever see, and count the hits that they do not."""

from attention_distillation.jobs import runtime

runtime.start(snakemake)

import sys

from transformers import AutoTokenizer

from attention_distillation import files, records
from attention_distillation.analysis import coverage
from attention_distillation.data.passages import Passages

given, params = snakemake.input, snakemake.params
corpus, questions = Passages(given.passages), records.read_questions(given.questions)
rows = records.read_retrieved(given.retrieved, len(corpus))[: params.questions]
limits = dict(params.max_tokens)
if snakemake.wildcards.kind == "encoder_decoder":
    limits["reader"] -= 1  # each of its prompts has an end of its own
tokenizers = {name: AutoTokenizer.from_pretrained(given[name]) for name in coverage.LIMITS}
facts = coverage.coverage(corpus, rows, questions, tokenizers, limits)
for line in coverage.warnings(facts):
    sys.stderr.write(f"warning: {line}\n")
files.write_json(snakemake.output.facts, facts)
