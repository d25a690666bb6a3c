"""Train one run: an experiment on a dataset with a seed."""

from attention_distillation.jobs import runtime

runtime.start(snakemake)

from attention_distillation.training.job import train_on

runtime.torch_threads(snakemake)
given = {name: files if isinstance(files, str) else list(files) for name, files in snakemake.input.items()}
job = {
    "input": given,
    "params": dict(snakemake.params.items()),
    "wildcards": dict(snakemake.wildcards.items()),
    "checkpoint": snakemake.output.checkpoint,
    "log": snakemake.output.log,
    "retrieved": snakemake.output.retrieved,
}
train_on(snakemake.resources.get("gpu", 0), job, snakemake.threads)
