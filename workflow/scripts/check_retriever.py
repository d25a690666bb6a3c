"""See that a retriever is used as its makers meant it: its vectors are those of sentence-transformers' own encode."""

from attention_distillation.jobs import runtime

runtime.start(snakemake)

import sys

from attention_distillation import files
from attention_distillation.models.retriever import Retriever
from attention_distillation.settings import Retrieval

TEXTS = ["when was the bridge over the river built ?", "The bridge was built in 1931. " * 12, "Brücke"]
MOST = 1e-4  # float32 rounding, in batches of other widths

runtime.torch_threads(snakemake)
place = runtime.part_of(snakemake.input.retriever, "retriever")
retriever = Retriever.load(place, Retrieval(**snakemake.params.retrieval))
apart = retriever.difference(TEXTS)
if not apart < MOST:
    raise files.InputError(f"{place}: its vectors are not its own encode's (apart by {apart:.1g} of their length).")
facts = retriever.facts()
sys.stderr.write(", ".join(f"{name} {value!r}" for name, value in facts.items()) + "\n")
files.write_json(snakemake.output.facts, facts)
