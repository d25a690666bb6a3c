"""Dump the attention of one run's answers, token by token."""

from attention_distillation import runtime

runtime.start(snakemake)

from attention_distillation import context, inference, records
from attention_distillation.settings import Analysis, Distillation

runtime.torch_threads(snakemake)
params = snakemake.params
analysis = Analysis(**params.analysis)
material = context.open_material(
    snakemake.input.passages, {"test": snakemake.input.test}, {"test": snakemake.input.retrieved}
)
columns = inference.dump(
    runtime.reader_of(snakemake),
    material,
    Distillation(**params.distillation),
    analysis,
    params.kind,
    batch_size=params.batch_size,
    seed=int(snakemake.wildcards.seed),
    tagger=snakemake.input.tagger[0] if snakemake.input.get("tagger") else None,
    gold=context.read_gold(snakemake.input.get("gold")),
)
facts = records.provenance(
    dict(params.items()), device=runtime.device_name(), nouns=analysis.nouns, **dict(snakemake.wildcards.items())
)
with runtime.autocast(params.precision):  # the columns are made as they are written
    records.write_dump(snakemake.output.attention, columns, facts)
