"""See that a reader takes prompts as long as they may become, with room for a passage in each; count cut questions."""

from attention_distillation.jobs import runtime

runtime.start(snakemake)

import sys

from transformers import AutoConfig

from attention_distillation import files, records
from attention_distillation.models.readers import prompt
from attention_distillation.models.readers.loading import load_tokenizer
from attention_distillation.settings import Prompt

folder, form, k = snakemake.input.reader, Prompt(**snakemake.params.prompt), snakemake.params.k
checked = files.read_json(snakemake.input.checked)
limit = form.passage_max_tokens - (snakemake.wildcards.kind == "encoder_decoder")  # T5's prompts have an end each
needed = k * limit + checked["around"] + form.answer_max_tokens
prompt.require_context(AutoConfig.from_pretrained(folder).get_text_config(decoder=True), k, limit, needed - k * limit)
tokenizer = load_tokenizer(folder)
questions = [q.question for path in snakemake.input.questions for q in records.read_questions(path)]
prompt.passage_prompts(tokenizer, [max(questions, key=len)], [("", "a passage")], limit, template=form.template)
shown = prompt.cut_questions(tokenizer, questions, limit, form.template)
cut = sum(question != text for question, text in shown.items())
if cut:
    sys.stderr.write(f"{cut:,} of {len(questions):,} questions are cut in prompts, to half of {limit} tokens\n")
if 0 < checked["window"] < needed:
    sys.stderr.write(
        f"warning: {checked['layers_with_window']} of the reader's {checked['layers']} layers see its last "
        f"{checked['window']} tokens only, and prompts may take {needed}: passages before them get no attention there, "
        "so that a passage's place decides its score. Lower prompt.passage_max_tokens or retrieval.k.\n"
    )
facts = {"limit": limit, "questions": len(questions), "questions_cut": cut, "longest": needed, **checked}
files.write_json(snakemake.output.facts, facts)
