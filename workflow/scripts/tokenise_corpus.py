"""Tokenise the corpus for the retriever into memory-mapped arrays."""

from attention_distillation.jobs import runtime

runtime.start(snakemake)

from transformers import AutoTokenizer

from attention_distillation.jobs import room
from attention_distillation.models import retriever

tokenizer = AutoTokenizer.from_pretrained(snakemake.input.retriever)
room.check_tokenising(snakemake.output.tokens, snakemake.input.passages, len(tokenizer))
retriever.tokenise_corpus(
    tokenizer,
    snakemake.input.passages,
    snakemake.params.max_tokens,
    snakemake.output.tokens,
    snakemake.output.offsets,
)
