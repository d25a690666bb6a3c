"""See that a reader's model is read and recorded rightly: a few forwards of the very model."""

from attention_distillation.jobs import runtime

runtime.start(snakemake)

from attention_distillation import files
from attention_distillation.jobs import room
from attention_distillation.models.readers import KINDS
from attention_distillation.models.readers.adapters import require_targets
from attention_distillation.models.readers.checks import check_reader
from attention_distillation.models.readers.loading import require_quantisable
from attention_distillation.settings import Adapter

runtime.torch_threads(snakemake)
folder, device = snakemake.input.reader, runtime.device()
room.check_memory("loading the reader", room.process_memory(room.weights(folder), on_gpu=device != "cpu"))
architecture = "decoder_only" if snakemake.wildcards.kind == "reader" else "encoder_decoder"
reader = KINDS[architecture].load(folder, **snakemake.params.prompt)
if snakemake.params.bits:
    require_quantisable(reader.model)
for adapter in snakemake.params.adapters:
    require_targets(reader.model, Adapter(**adapter))
facts = check_reader(reader.to(device))
files.write_json(snakemake.output.facts, facts)
