"""Tokenise the corpus for the retriever into memory-mapped arrays."""

from attention_distillation import runtime

runtime.start(snakemake)

from transformers import AutoTokenizer

from attention_distillation import records, retriever

retriever.tokenise_corpus(
    AutoTokenizer.from_pretrained(snakemake.input.retriever),
    records.open_passages(snakemake.input.passages),
    snakemake.params.max_tokens,
    snakemake.output.tokens,
    snakemake.output.offsets,
)
