"""Answer the test questions of one run and score the answers."""

from attention_distillation import runtime

runtime.start(snakemake)

from attention_distillation import context, inference, records
from attention_distillation.settings import Distillation

runtime.torch_threads(snakemake)
params = snakemake.params
material = context.open_material(
    snakemake.input.passages, {"test": snakemake.input.test}, {"test": snakemake.input.retrieved}
)
with runtime.autocast(params.precision):
    lines = inference.predict(
        runtime.reader_of(snakemake),
        material,
        Distillation(**params.distillation),
        batch_size=params.batch_size,
        seed=int(snakemake.wildcards.seed),
        gold=context.read_gold(snakemake.input.get("gold")),
    )
facts = records.provenance(
    dict(params.items()), device=runtime.device_name(), split="test", **dict(snakemake.wildcards.items())
)
records.write_jsonl(snakemake.output.predictions, lines)
found = records.retrieved_facts(snakemake.input.retrieved)
records.write_json(snakemake.output.metrics, {**inference.summary(lines), **found, "provenance": facts})
