"""Write the retriever's architecture with random weights."""

from attention_distillation.jobs import runtime

runtime.start(snakemake)

from attention_distillation.models.retriever import Retriever
from attention_distillation.settings import Retrieval

place = runtime.part_of(snakemake.input.retriever, "retriever")
retriever = Retriever.load(place, Retrieval(**snakemake.params.retrieval))
retriever.randomise(0)
retriever.save(snakemake.output.model)
