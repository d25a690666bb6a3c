"""Write the questions of a generated world."""

from attention_distillation.jobs import runtime

runtime.start(snakemake)

from attention_distillation import records
from attention_distillation.data import miniature
from attention_distillation.settings import World

for split, questions in miniature.questions(World(**snakemake.params.world)).items():
    records.write_questions(snakemake.output[split], questions)
