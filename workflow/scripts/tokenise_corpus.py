"""Tokenise the corpus for the retriever into memory-mapped arrays."""

from attention_distillation.jobs import runtime

runtime.start(snakemake)

from attention_distillation.jobs import room
from attention_distillation.models.retriever import Retriever
from attention_distillation.retrieval.tokens import tokenise_corpus
from attention_distillation.settings import Retrieval

runtime.torch_threads(snakemake)
place = runtime.part_of(snakemake.input.retriever, "retriever")
encoder = Retriever.load(place, Retrieval(**snakemake.params.retrieval)).passage
room.check_tokenising(snakemake.output.tokens, snakemake.input.passages, len(encoder.tokenizer))
tokenise_corpus(encoder, snakemake.input.passages, snakemake.output.tokens, snakemake.output.offsets)
