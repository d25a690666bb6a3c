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


rule claims_published:
    """Which of the paper's claims its own tables bear out."""
    input:
        rules.judge_published.output,


rule write_config:
    """Keep the config of this call, for the report's own call of Snakemake."""
    output:
        temp(ROOT + "/report.config.yaml"),
    params:
        config=yaml.safe_dump({key: config[key] for key in config}),
    log:
        LOGS + "/write_config.log",
    conda:
        "../../envs/cpu.yaml"
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
        ROOT + "/report.html",
    log:
        LOGS + "/report.log",
    conda:
        "../../envs/cpu.yaml"
    shell:
        "snakemake all --nolock --cores 1 --configfile {input.config} --report {output} 2> {log}"
