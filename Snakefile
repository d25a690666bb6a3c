# Attention distillation in retrieval-augmented generation: from raw input to every table, figure and claim.
import os

from snakemake.utils import min_version

min_version("9.0")


configfile: "config.yaml" if os.path.exists("config.yaml") else f"{workflow.basedir}/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/sources.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/index.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/analysis.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/signals.smk"
include: "workflow/rules/plan.smk"


# Every table and figure of the paper, and the verdicts on its claims.
rule all:
    default_target: True
    input:
        rules.tables.input,
        rules.figures.input,
        rules.claims.input,
