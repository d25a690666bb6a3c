"""Train one run: an experiment on a dataset with a seed."""

from attention_distillation.jobs import runtime

runtime.start(snakemake)

from attention_distillation.training.job import TrainJob, train_on

runtime.torch_threads(snakemake)
job = TrainJob(
    **snakemake.wildcards,
    **snakemake.params.run,
    code=snakemake.params.code,
    inputs={name: paths if isinstance(paths, str) else list(paths) for name, paths in snakemake.input.items()},
    outputs=dict(snakemake.output.items()),
    save_seconds=snakemake.resources.save_seconds,
)
train_on(snakemake.resources.get("gpu", 0), job, snakemake.threads)
