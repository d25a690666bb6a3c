"""Download one file of the sources table (rule download_source)."""

from attention_distillation.jobs import runtime

runtime.start(snakemake)

from attention_distillation.data.downloads import Source, fetch

fetch(Source(**snakemake.params.row), snakemake.output[0], snakemake.params.lock)
