"""See that a reader takes prompts as long as they may become, with room for a passage in each; count cut questions."""

from attention_distillation.jobs import runtime

runtime.start(snakemake)

import sys

from transformers import AutoConfig, AutoTokenizer

from attention_distillation import files, records
from attention_distillation.models.readers.prompt import cut_questions, passage_prompts, require_context

folder, limit = snakemake.input.reader, snakemake.params.max_tokens
if snakemake.wildcards.kind == "encoder_decoder":
    limit -= 1  # each of its prompts has an end of its own
require_context(AutoConfig.from_pretrained(folder), snakemake.params.k, limit, snakemake.params.answer_max_tokens)
tokenizer = AutoTokenizer.from_pretrained(folder)
questions = [q.question for path in snakemake.input.questions for q in records.read_questions(path)]
passage_prompts(tokenizer, [max(questions, key=len)], [("", "a passage")], limit)
cut = sum(shown != question for question, shown in cut_questions(tokenizer, questions, limit).items())
if cut:
    sys.stderr.write(f"{cut:,} of {len(questions):,} questions are cut in prompts, to half of {limit} tokens\n")
files.write_json(snakemake.output.facts, {"limit": limit, "questions": len(questions), "questions_cut": cut})
