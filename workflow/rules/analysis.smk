# From attention dumps, predictions and training logs to what people read.
# reads   <dataset>/<experiment>/seed<N>/{attention.parquet,predictions.jsonl,log.jsonl} of every run that was asked for,
#         workflow/reference/{published,datasets}.csv
# writes  analysis/units.parquet, tables/, figures/, claims/ of the scale; results/published/claims/ (of no scale)

from attention_distillation.reporting import layouts
from attention_distillation.reporting.labels import labels, published

LABELS = labels(RUN)
TABLES = f"{ROOT}/tables"
FIGURES = f"{ROOT}/figures"
REFERENCE = os.path.relpath(WORKFLOW / "reference")


rule analyse_tokens:
    """Reduce every attention dump to a row per passage, read as `analysis` says: near tokens' attention, Spearman."""
    input:
        dumps=run_files("attention.parquet"),
    output:
        units=f"{ROOT}/analysis/units.parquet",
    log:
        f"{LOGS}/analyse_tokens.log",
    benchmark:
        f"{LOGS}/analyse_tokens.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    params:
        reading=SCALE.analysis.reading,
        code=code("analyse_tokens"),
    script:
        "../scripts/analyse_tokens.py"


rule make_tables:
    """Tables 1 to 4, Appendix C, how often attention picks an answer, and paired differences, with intervals."""
    input:
        units=f"{ROOT}/analysis/units.parquet",
        predictions=run_files("predictions.jsonl"),
    output:
        [
            report(f"{TABLES}/{table}.csv", caption=f"../report/{table}.rst", category="Tables")
            for table in (*layouts.TABLES, "differences")
        ],
        expand(f"{TABLES}/{{table}}.{{kind}}", table=layouts.TABLES, kind=["md", "tex"]),
        f"{TABLES}/differences.md",
    log:
        f"{LOGS}/make_tables.log",
    benchmark:
        f"{LOGS}/make_tables.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    params:
        labels=LABELS,
        replicates=RUN.scale.analysis.bootstrap,
        code=code("make_tables"),
    script:
        "../scripts/make_tables.py"


rule draw_figures:
    """Figures 1 and 3 to 7, as PNG and PDF."""
    input:
        units=f"{ROOT}/analysis/units.parquet",
        logs=run_files("log.jsonl", trained=True),
        tables=[f"{TABLES}/table1.csv", f"{TABLES}/table3.csv", f"{TABLES}/table4.csv"],
    output:
        [
            report(f"{FIGURES}/{figure}.png", caption=f"../report/{figure}.rst", category="Figures")
            for figure in layouts.FIGURES
        ],
        expand(f"{FIGURES}/{{figure}}.pdf", figure=layouts.FIGURES),
    log:
        f"{LOGS}/draw_figures.log",
    benchmark:
        f"{LOGS}/draw_figures.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    params:
        labels=LABELS,
        code=code("draw_figures"),
    script:
        "../scripts/draw_figures.py"


rule judge_claims:
    """The paper's claims and indicators, judged on the measured tables."""
    input:
        tables=expand(f"{TABLES}/{{table}}.csv", table=["table1", "table3", "table4", "appendix_c", "differences"]),
    output:
        json=f"{ROOT}/claims/claims.json",
        md=report(f"{ROOT}/claims/claims.md", caption="../report/claims.rst", category="Claims"),
    log:
        f"{LOGS}/judge_claims.log",
    benchmark:
        f"{LOGS}/judge_claims.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    params:
        labels=LABELS,
        code=code("judge_claims"),
    script:
        "../scripts/judge_claims.py"


rule judge_published:
    """The same claims, judged by the same code on the paper's own tables."""
    input:
        published=f"{REFERENCE}/published.csv",
        datasets=f"{REFERENCE}/datasets.csv",
    output:
        json="results/published/claims/claims.json",
        md=report("results/published/claims/claims.md", caption="../report/published.rst", category="Claims"),
    log:
        "logs/published/judge_published.log",
    benchmark:
        "logs/published/judge_published.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    params:
        labels=published(),
        code=code("judge_published"),
    script:
        "../scripts/judge_published.py"


rule compare_with_paper:
    """Every measured number beside the published one."""
    input:
        tables=expand(f"{TABLES}/{{table}}.csv", table=["table1", "table3", "table4"]),
        published=f"{REFERENCE}/published.csv",
    output:
        csv=report(f"{TABLES}/compare.csv", caption="../report/compare.rst", category="Tables"),
        md=f"{TABLES}/compare.md",
    log:
        f"{LOGS}/compare_with_paper.log",
    benchmark:
        f"{LOGS}/compare_with_paper.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    params:
        labels=LABELS,
        code=code("compare_with_paper"),
    script:
        "../scripts/compare_with_paper.py"
