"""Find the k nearest passages of the questions of one split or several."""

from attention_distillation.jobs import runtime

runtime.start(snakemake)

from attention_distillation import records
from attention_distillation.models import weights
from attention_distillation.models.retriever import Retriever
from attention_distillation.retrieval import index
from attention_distillation.settings import Retrieval

runtime.torch_threads(snakemake)
given, retrieval = snakemake.input, Retrieval(**snakemake.params.retrieval)
retriever = Retriever.load(runtime.part_of(given.retriever, "retriever"), retrieval)
retriever = weights.placed(retriever, snakemake.params.precision)
shards = index.open_shards(given.shards)
vectors = index.build(shards, retrieval, runtime.device())
for path, output in zip(given.questions, snakemake.output.retrieved, strict=True):
    texts = [question.question for question in records.read_questions(path)]
    index.retrieve(vectors, shards, retriever, texts, retrieval, output)
