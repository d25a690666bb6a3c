"""Write what each run of the comparison of signals gained, beside what was measured of its signal before it."""

from attention_distillation.jobs import runtime

runtime.start(snakemake)

from attention_distillation import files
from attention_distillation.reporting import signal_tables
from attention_distillation.training import context

rows = []
for about in snakemake.params.datasets.values():
    material = context.open_material(about["passages"], {"test": about["test"]}, {})
    common = {"world": snakemake.params.world, "dataset": about["title"], "n": len(material.questions["test"])}
    common["before"] = material.hit_rate_of("test", about["before"])
    for run in about["runs"]:
        measured = files.read_json(run["indicators"])[run["signal"]]
        rows.append({**common, **run, **measured, "after": material.hit_rate_of("test", run["retrieved"])})
signal_tables.write_runs(snakemake.output.runs, rows)
