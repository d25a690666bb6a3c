"""Find the k nearest passages of the questions of one split or several."""

from attention_distillation import runtime

runtime.start(snakemake)

import sys

from attention_distillation import index, records
from attention_distillation.retriever import Retriever
from attention_distillation.settings import Retrieval

runtime.torch_threads(snakemake)
given, retrieval = snakemake.input, Retrieval(**snakemake.params.retrieval)
retriever = Retriever.load(runtime.part_of(given.retriever, "retriever")).to(runtime.device()).eval()
shards = index.open_shards(given.shards)
found = index.build(shards, retrieval, runtime.device())
for path, output in zip(given.questions, snakemake.output.retrieved, strict=True):
    texts = [question.question for question in records.read_questions(path)]
    with runtime.autocast(snakemake.params.precision):
        vectors = retriever.embed(retriever.tokenise(texts, retrieval.question_max_tokens))
    scores, rows = found.search(vectors, retrieval.k)
    facts = {}
    if retrieval.index == "ivfpq":
        facts["recall_against_exact"] = index.recall(found, index.ExactIndex(shards), vectors[:500], retrieval.k)
        print(f"IVF-PQ finds {facts['recall_against_exact']:.3f} of the exact {retrieval.k} nearest", file=sys.stderr)
    records.write_retrieved(output, rows, scores, facts)
