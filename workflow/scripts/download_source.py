"""Download one file or wheel of the sources table (rule download_source)."""

from attention_distillation.jobs import runtime

runtime.start(snakemake)

from attention_distillation.data.downloads import fetch
from attention_distillation.data.table import Source
from attention_distillation.data.wheels import fetch_wheel

row = Source(**snakemake.params.row)
(fetch_wheel if row.kind == "wheel" else fetch)(row, snakemake.output[0], snakemake.params.lock)
