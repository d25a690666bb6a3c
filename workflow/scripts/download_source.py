"""Download one file of the sources table (rule download_source)."""

import contextlib

from attention_distillation.downloads import Source, fetch

with open(snakemake.log[0], "w", encoding="utf-8") as log, contextlib.redirect_stderr(log):
    fetch(Source(**snakemake.params.row), snakemake.output[0], snakemake.params.lock)
