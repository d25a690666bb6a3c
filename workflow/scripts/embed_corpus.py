"""Embed one shard of the corpus."""

from attention_distillation.jobs import runtime

runtime.start(snakemake)

from attention_distillation.jobs import room
from attention_distillation.models import weights
from attention_distillation.models.retriever import Retriever, TokenisedCorpus
from attention_distillation.retrieval import index
from attention_distillation.settings import Retrieval

runtime.torch_threads(snakemake)
retrieval = Retrieval(**snakemake.params.retrieval)
shard, output = int(snakemake.wildcards.shard), snakemake.output.shard
folder = runtime.part_of(snakemake.input.retriever, "retriever")
corpus = TokenisedCorpus(snakemake.input.tokens, snakemake.input.offsets)
start, stop = index.shard_bounds(len(corpus), shard, retrieval.shards)
room.check_embedding(output, stop - start, folder, retrieval, on_gpu=runtime.device() != "cpu")
index.embed_shard(
    weights.placed(Retriever.load(folder), snakemake.params.precision),
    corpus,
    (start, stop),
    output,
    batch_tokens=retrieval.batch_tokens,
    dtype=retrieval.dtype,
)
