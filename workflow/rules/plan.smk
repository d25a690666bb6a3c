# reads the config and workflow/reference alone; prints what the run would take, and writes plan.md
rule plan:
    """What every stage would take of disk, memory and GPU hours; made anew at every call, so it declares no output."""
    log:
        f"{LOGS}/plan.log",
    conda:
        "../../envs/cpu.yaml"
    params:
        run=plain(RUN),
        results=ROOT,
    script:
        "../scripts/plan_run.py"


localrules:
    plan,
