"""Pretrain a small model of the true class."""

from attention_distillation.jobs import runtime

runtime.start(snakemake)

from attention_distillation import files, provenance
from attention_distillation.data.passages import Passages, iterate_passages
from attention_distillation.models import pretraining
from attention_distillation.settings import Pretraining

runtime.torch_threads(snakemake)
shape = Pretraining(**snakemake.params.pretraining)
corpus = snakemake.input.get("passages")
log = pretraining.pretrain(
    snakemake.wildcards.kind,
    pretraining.CorpusFacts(Passages(corpus)) if corpus else pretraining.WorldFacts(),
    (f"{title} {text}" for part in iterate_passages(corpus) for title, text in part) if corpus else None,
    shape,
    snakemake.output.model,
)
facts = provenance.provenance(snakemake.params.pretraining, seed=shape.seed, kind=snakemake.wildcards.kind)
files.write_json(f"{snakemake.output.model}/pretraining.json", {"log": log, "provenance": facts})
