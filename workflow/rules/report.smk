# reads tables, figures and claims; writes report.html. Here too: the targets that people ask for by name.
import yaml


rule tables:
    """Tables 1 to 4, Appendix C, differences, and every number beside the published one."""
    input:
        rules.make_tables.output,
        rules.compare_with_paper.output,


rule figures:
    """Figures 1 and 3 to 7."""
    input:
        rules.draw_figures.output,


rule claims:
    """Which of the paper's claims hold in this run."""
    input:
        rules.judge_claims.output,


use rule analyse_tokens as analyse_controls with:
    input:
        dumps=run_files("attention.parquet", experiments=CONTROLLED),
    output:
        units=f"{ROOT}/analysis/controls.parquet",
    log:
        f"{LOGS}/analyse_controls.log",
    benchmark:
        f"{LOGS}/analyse_controls.tsv"


rule tabulate_controls:
    """The controls beside the paper's experiments: scores, gains over the initial models, how often attention picks an answer."""
    input:
        predictions=run_files("predictions.jsonl", experiments=CONTROLLED),
        units=f"{ROOT}/analysis/controls.parquet",
    output:
        report(f"{TABLES}/controls.csv", caption="../report/controls.rst", category="Controls"),
        f"{TABLES}/controls.md",
        report(f"{TABLES}/controls_signal.csv", caption="../report/signal.rst", category="Controls"),
        f"{TABLES}/controls_signal.md",
        report(f"{TABLES}/controls_differences.csv", caption="../report/controls_differences.rst", category="Controls"),
        f"{TABLES}/controls_differences.md",
    log:
        f"{LOGS}/tabulate_controls.log",
    benchmark:
        f"{LOGS}/tabulate_controls.tsv"
    conda:
        "../../envs/cpu.yaml"
    params:
        labels=labels(RUN.model_copy(update={"experiments": CONTROLLED})),
        replicates=SCALE.analysis.bootstrap,
        code=code("tabulate_controls"),
    script:
        "../scripts/tabulate_controls.py"


rule controls:
    """The controls that the paper lacks, run and tabulated."""
    input:
        rules.tabulate_controls.output,


rule claims_published:
    """Which of the paper's claims its own tables bear out."""
    input:
        rules.judge_published.output,


rule write_config:
    """Keep the config of this call, for the report's own call of Snakemake."""
    output:
        temp(f"{ROOT}/report.config.yaml"),
    log:
        f"{LOGS}/write_config.log",
    conda:
        "../../envs/cpu.yaml"
    params:
        config=yaml.safe_dump({key: config[key] for key in config}),
    shell:
        "printf '%s' {params.config:q} > {output} 2> {log}"


rule report:
    """One self-contained HTML page with every table, figure, caption and provenance."""
    input:
        rules.tables.input,
        rules.figures.input,
        rules.claims.input,
        config=rules.write_config.output,
    output:
        f"{ROOT}/report.html",
    log:
        f"{LOGS}/report.log",
    conda:
        "../../envs/cpu.yaml"
    params:
        python=sys.executable,  # whose snakemake need not be on the PATH
    shell:
        "{params.python} -m snakemake all --nolock --cores 1 --configfile {input.config} --report {output} 2> {log}"
