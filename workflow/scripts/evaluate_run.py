"""Answer the test questions of one run, score the answers, and dump the attention of the sampled ones."""

from pathlib import Path

from attention_distillation.jobs import runtime

runtime.start(snakemake)

from attention_distillation import files, provenance, records
from attention_distillation.analysis import inference
from attention_distillation.models import weights
from attention_distillation.models.readers import KINDS
from attention_distillation.settings import Analysis, Distillation
from attention_distillation.training import context, state

runtime.torch_threads(snakemake)
params, given = snakemake.params, snakemake.input
state.release(Path(given.retrieved).parent)  # Snakemake has recorded that the run is trained
analysis = Analysis(**params.analysis)
material = context.open_material(given.passages, {"test": given.test}, {"test": given.retrieved})
reader = KINDS[params.architecture].load(runtime.part_of(given.reader, "reader"), bits=params.bits, **params.prompt)
reader = weights.placed(reader, params.precision)
common = {
    "distillation": Distillation(**params.distillation),
    "batch_size": params.batch_size,
    "seed": int(snakemake.wildcards.seed),
    "gold": context.read_gold(given.get("gold")),
}
recorded, layers = reader.recorded_layers
facts = provenance.provenance(
    params.behind,
    layers_recorded=recorded,
    layers=layers,
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
files.write_jsonl(snakemake.output.predictions, lines)
retrieval = records.retrieved_facts(given.retrieved)
files.write_json(snakemake.output.metrics, {**inference.summary(lines), **retrieval, "provenance": facts})
