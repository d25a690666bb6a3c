"""Put a hub repository's safetensors, tokenizer and config into a folder (rule fetch_model)."""

from attention_distillation.jobs import runtime

runtime.start(snakemake)

from attention_distillation.data.hub import fetch_model
from attention_distillation.data.table import Source

row = Source(**snakemake.params.row)
fetch_model(row, snakemake.output[0], snakemake.params.lock, cache=snakemake.params.cache)
