"""Find the k nearest passages of the questions of a split."""

from attention_distillation import runtime

runtime.start(snakemake)

import sys

from attention_distillation import index, records
from attention_distillation.retriever import Retriever
from attention_distillation.settings import Retrieval

runtime.torch_threads(snakemake)
retrieval = Retrieval(**snakemake.params.retrieval)
retriever = Retriever.load(runtime.part_of(snakemake.input.retriever, "retriever")).to(runtime.device()).eval()
questions = records.read_questions(snakemake.input.questions)
shards = index.open_shards(snakemake.input.shards)
found = index.build(shards, retrieval, runtime.device())
with runtime.autocast(snakemake.params.precision):
    vectors = retriever.embed(
        retriever.tokenise([question.question for question in questions], retrieval.question_max_tokens)
    )
scores, rows = found.search(vectors, retrieval.k)
facts = {}
if retrieval.index == "ivfpq":
    facts["recall_against_exact"] = index.recall(found, index.ExactIndex(shards), vectors[:500], retrieval.k)
    print(f"IVF-PQ finds {facts['recall_against_exact']:.3f} of the exact {retrieval.k} nearest", file=sys.stderr)
records.write_retrieved(snakemake.output.retrieved, rows, scores, facts)
