"""Print what a run would take, and keep it as plan.md (rule plan)."""

from attention_distillation import runtime

runtime.start(snakemake)

from pathlib import Path

from attention_distillation import planning, typesetting
from attention_distillation.settings import Run

run = Run(**snakemake.params.run)
planner = planning.Planner(run, planning.device(run.scale.compute.device), snakemake.params.results)
print(planning.render(planner))
output = Path(snakemake.params.results) / "plan.md"
typesetting.write_text(output, planning.render(planner, markdown=True))
print(f"also in {output}")
