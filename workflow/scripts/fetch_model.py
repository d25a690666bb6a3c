"""Put a hub repository's safetensors, tokenizer and config into a folder (rule fetch_model)."""

import contextlib

from attention_distillation.downloads import Source
from attention_distillation.hub import fetch_model

with open(snakemake.log[0], "w", encoding="utf-8") as log, contextlib.redirect_stderr(log):
    row = Source(**snakemake.params.row)
    fetch_model(row, snakemake.output[0], snakemake.params.lock, cache=snakemake.params.cache)
