"""Embed one shard of the corpus."""

from attention_distillation.jobs import runtime

runtime.start(snakemake)

from attention_distillation.jobs import room
from attention_distillation.models import encoder_folder, weights
from attention_distillation.models.retriever import Retriever
from attention_distillation.retrieval import index
from attention_distillation.retrieval.tokens import TokenisedCorpus
from attention_distillation.settings import Retrieval

runtime.torch_threads(snakemake)
retrieval = Retrieval(**snakemake.params.retrieval)
shard, output = int(snakemake.wildcards.shard), snakemake.output.shard
folder = runtime.part_of(snakemake.input.retriever, "retriever")
corpus = TokenisedCorpus(snakemake.input.tokens, snakemake.input.offsets)
start, stop = index.shard_bounds(len(corpus), shard, retrieval.shards)
size, on_gpu = encoder_folder.vector_size(folder), runtime.device() != "cpu"
room.check_embedding(output, stop - start, size, folder, retrieval.dtype, on_gpu=on_gpu)
index.embed_shard(
    weights.placed(Retriever.load(folder, retrieval), snakemake.params.precision).passage,
    corpus,
    (start, stop),
    output,
    batch_tokens=retrieval.batch_tokens,
    dtype=retrieval.dtype,
)
