"""Print what a run would take, and keep it as plan.md (rule plan)."""

from attention_distillation.jobs import runtime

runtime.start(snakemake, prints=True)

from pathlib import Path

from attention_distillation.planning import planner
from attention_distillation.reporting import typesetting
from attention_distillation.settings import Run

run = Run(**snakemake.params.run)
plan = planner.Planner(run, planner.device(run.scale.compute.device), snakemake.params.results)
print(planner.render(plan))
output = Path(snakemake.params.results) / "plan.md"
typesetting.write_text(output, planner.render(plan, markdown=True))
print(f"also in {output}")
