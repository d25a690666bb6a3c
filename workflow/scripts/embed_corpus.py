"""Embed one shard of the corpus."""

from attention_distillation import runtime

runtime.start(snakemake)

from attention_distillation import index
from attention_distillation.retriever import Retriever, TokenisedCorpus
from attention_distillation.settings import Retrieval

runtime.torch_threads(snakemake)
retrieval = Retrieval(**snakemake.params.retrieval)
corpus = TokenisedCorpus(snakemake.input.tokens, snakemake.input.offsets)
index.embed_shard(
    Retriever.load(runtime.part_of(snakemake.input.retriever, "retriever")).to(runtime.device()).eval(),
    corpus,
    index.shard_bounds(len(corpus), int(snakemake.wildcards.shard), retrieval.shards),
    snakemake.output.shard,
    batch_tokens=retrieval.batch_tokens,
    dtype=retrieval.dtype,
)
