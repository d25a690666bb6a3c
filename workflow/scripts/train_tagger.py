"""Train spaCy's tagger on a world's labels."""

from attention_distillation.jobs import runtime

runtime.start(snakemake)

import sys

from attention_distillation.data import miniature

accuracy = miniature.train_tagger(snakemake.output.tagger)
print(f"tagger: accuracy {accuracy:.4f} on sentences unseen", file=sys.stderr)
