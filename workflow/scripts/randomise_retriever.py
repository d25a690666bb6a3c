"""Write the retriever's architecture with random weights."""

from attention_distillation.jobs import runtime

runtime.start(snakemake)

import torch

from attention_distillation.models.retriever import Retriever

torch.manual_seed(0)
retriever = Retriever.load(snakemake.input.retriever)
retriever.model = type(retriever.model)(retriever.model.config, add_pooling_layer=False)
retriever.save(snakemake.output.model)
