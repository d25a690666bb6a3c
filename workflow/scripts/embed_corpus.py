"""Embed one shard of the corpus."""

from attention_distillation import runtime

runtime.start(snakemake)

from pathlib import Path

from attention_distillation import index, room
from attention_distillation.settings import Retrieval

retrieval = Retrieval(**snakemake.params.retrieval)
shard, output = int(snakemake.wildcards.shard), snakemake.output.shard
folder = runtime.part_of(snakemake.input.retriever, "retriever")
left_by_training = Path(output).parent.parent / "state.index"
if not index.take_over(left_by_training, folder, retrieval, shard, output):
    from attention_distillation.retriever import Retriever, TokenisedCorpus

    runtime.torch_threads(snakemake)
    corpus = TokenisedCorpus(snakemake.input.tokens, snakemake.input.offsets)
    start, stop = index.shard_bounds(len(corpus), shard, retrieval.shards)
    room.check_embedding(output, stop - start, folder, retrieval, on_gpu=runtime.device() != "cpu")
    with runtime.autocast(snakemake.params.precision):
        index.embed_shard(
            Retriever.load(folder).to(runtime.device()).eval(),
            corpus,
            (start, stop),
            output,
            batch_tokens=retrieval.batch_tokens,
            dtype=retrieval.dtype,
        )
