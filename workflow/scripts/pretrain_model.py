"""Pretrain a small model of the true class."""

from attention_distillation import runtime

runtime.start(snakemake)

from attention_distillation import pretraining, records
from attention_distillation.settings import Pretraining

runtime.torch_threads(snakemake)
shape = Pretraining(**snakemake.params.pretraining)
corpus = records.open_passages(str(snakemake.input.passages)) if snakemake.input.get("passages") else None
log = pretraining.pretrain(
    snakemake.wildcards.kind,
    pretraining.CorpusFacts(corpus) if corpus else pretraining.WorldFacts(),
    (f"{row['title']} {row['text']}" for row in corpus) if corpus else None,
    shape,
    snakemake.output.model,
)
facts = records.provenance(snakemake.params.pretraining, seed=shape.seed, kind=snakemake.wildcards.kind)
records.write_json(f"{snakemake.output.model}/pretraining.json", {"log": log, "provenance": facts})
