"""Write the passages of a generated world."""

from attention_distillation.jobs import runtime

runtime.start(snakemake)

from attention_distillation.data import miniature
from attention_distillation.data.passages import write_passages
from attention_distillation.settings import World

write_passages(snakemake.output.passages, miniature.passages(World(**snakemake.params.world)))
