"""Measure how much of the retrieved passages reader and retriever see, and count the hits that they do not."""

from attention_distillation.jobs import runtime

runtime.start(snakemake)

import sys

from transformers import AutoTokenizer

from attention_distillation import files, records
from attention_distillation.analysis import coverage
from attention_distillation.data.passages import Passages
from attention_distillation.models.retriever import Retriever
from attention_distillation.settings import Retrieval

given, params = snakemake.input, snakemake.params
corpus, questions = Passages(given.passages), records.read_questions(given.questions)
rows = records.read_retrieved(given.retrieved, len(corpus))[: params.questions]
limit = params.max_tokens
if snakemake.wildcards.kind == "encoder_decoder":
    limit -= 1  # each of its prompts has an end of its own
encoder = Retriever.load(runtime.part_of(given.retriever, "retriever"), Retrieval(**params.retrieval)).passage
tokenizer = AutoTokenizer.from_pretrained(given.reader)
facts = coverage.coverage(corpus, rows, questions, tokenizer, limit, encoder)
for line in coverage.warnings(facts):
    sys.stderr.write(f"warning: {line}\n")
files.write_json(snakemake.output.facts, facts)
