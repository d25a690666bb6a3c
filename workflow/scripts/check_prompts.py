"""See that every question leaves room for a passage in the prompt, and that the reader takes prompts so long."""

from attention_distillation import runtime

runtime.start(snakemake)

from transformers import AutoConfig, AutoTokenizer

from attention_distillation import records
from attention_distillation.readers.prompt import longest_question, require_context

limit, folder = snakemake.params.max_tokens, snakemake.input.reader
require_context(AutoConfig.from_pretrained(folder), snakemake.params.k, limit, snakemake.params.answer_max_tokens)
questions = [q.question for path in snakemake.input.questions for q in records.read_questions(path)]
longest = longest_question(AutoTokenizer.from_pretrained(folder), questions, limit)
records.write_json(snakemake.output.facts, {"longest_prompt_without_passage": longest, "limit": limit})
