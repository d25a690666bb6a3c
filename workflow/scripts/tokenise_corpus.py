"""Tokenise the corpus for the retriever into memory-mapped arrays."""

from attention_distillation import runtime

runtime.start(snakemake)

from attention_distillation import records, retriever
from transformers import AutoTokenizer

retriever.tokenise_corpus(
    AutoTokenizer.from_pretrained(snakemake.input.retriever),
    records.open_passages(snakemake.input.passages),
    snakemake.params.max_tokens,
    snakemake.output.tokens,
    snakemake.output.offsets,
)
