"""Say how many of a user's passages are longer than what models read of them."""

from attention_distillation.jobs import runtime

runtime.start(snakemake)

import sys

from attention_distillation import files
from attention_distillation.data import checks

facts = checks.over_limits(files.read_json(snakemake.input.facts)["words"], snakemake.params.limits)
for line in checks.length_warnings(facts):
    sys.stderr.write(f"warning: {line}\n")
files.write_json(snakemake.output.lengths, facts)
