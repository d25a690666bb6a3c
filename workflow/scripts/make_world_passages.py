"""Write the passages of a generated world."""

from attention_distillation import runtime

runtime.start(snakemake)

from attention_distillation import miniature
from attention_distillation.passages import write_passages
from attention_distillation.settings import World

write_passages(snakemake.output.passages, miniature.passages(World(**snakemake.params.world)))
