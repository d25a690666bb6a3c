"""Measure every signal of one teacher on training questions, before anything learns from it."""

from attention_distillation.jobs import runtime

runtime.start(snakemake)

from attention_distillation import files
from attention_distillation.analysis import indicators
from attention_distillation.models import weights
from attention_distillation.models.readers import KINDS
from attention_distillation.settings import Distillation
from attention_distillation.training import context

runtime.torch_threads(snakemake)
params, given = snakemake.params, snakemake.input
material = context.open_material(given.passages, {"train": given.train}, {"train": given.retrieved})
reader = KINDS["decoder_only"].load(runtime.part_of(given.reader, "reader"), bits=params.bits, **params.prompt)
reader = weights.placed(reader, params.precision).eval()
batches = indicators.shown_batches(
    reader,
    material,
    Distillation(**params.distillation),
    params.questions,
    params.batch_size,
    int(snakemake.wildcards.seed),
)
measured = {signal: indicators.indicators(signal, batches) for signal in params.signals}
files.write_json(snakemake.output.facts, measured)
