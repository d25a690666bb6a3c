"""Answer the test questions of one run, score the answers, and dump the attention of the sampled ones."""

from attention_distillation import runtime

runtime.start(snakemake)

from attention_distillation import context, inference, records
from attention_distillation.readers import KINDS
from attention_distillation.settings import Analysis, Distillation

runtime.torch_threads(snakemake)
params, given = snakemake.params, snakemake.input
analysis = Analysis(**params.analysis)
material = context.open_material(given.passages, {"test": given.test}, {"test": given.retrieved})
reader = KINDS[params.architecture].load(runtime.part_of(given.reader, "reader"), **params.prompt)
reader = runtime.placed(reader, params.precision)
common = {
    "distillation": Distillation(**params.distillation),
    "batch_size": params.batch_size,
    "seed": int(snakemake.wildcards.seed),
    "gold": context.read_gold(given.get("gold")),
}
facts = records.provenance(
    params.behind,
    device=runtime.device_name(),
    split="test",
    nouns=analysis.nouns,
    **dict(snakemake.wildcards.items()),
)
lines = inference.predict(reader, material, **common)
columns = inference.dump(
    reader,
    material,
    analysis=analysis,
    kind=params.kind,
    tagger=given.tagger[0] if given.get("tagger") else None,
    **common,
)
records.write_dump(snakemake.output.attention, columns, facts)
records.write_jsonl(snakemake.output.predictions, lines)
found = records.retrieved_facts(given.retrieved)
records.write_json(snakemake.output.metrics, {**inference.summary(lines), **found, "provenance": facts})
