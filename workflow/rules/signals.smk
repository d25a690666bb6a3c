# reads retrieved.*.parquet and readers; writes signals/*.json, analysis/signals.csv, tables/{signals,predictive_power}


rule measure_signals:
    """Measure every signal of one teacher on training questions, before anything learns from it."""
    input:
        passages=corpus_file("passages.arrow"),
        train=questions_file("train"),
        retrieved=f"{ROOT}/{{dataset}}/retrieved/initial/retrieved.train.parquet",
        reader=teacher_folder,
    output:
        facts=f"{ROOT}/{{dataset}}/signals/{{teacher}}.seed{{seed}}.json",
    log:
        f"{LOGS}/measure_signals/{{dataset}}.{{teacher}}.seed{{seed}}.log",
    benchmark:
        f"{LOGS}/measure_signals/{{dataset}}.{{teacher}}.seed{{seed}}.tsv"
    conda:
        MODEL_ENV
    threads: SCALE.compute.evaluate_threads
    resources:
        gpu=ONE_GPU,
    params:
        signals=SCALE.comparison.signals if SCALE.comparison else [],
        questions=300,
        distillation=compared_distillation(),
        prompt=plain(SCALE.prompt),
        bits=SCALE.models.reader_bits,
        batch_size=lambda wildcards, threads: SCALE.compute.batch_size,
        precision=SCALE.compute.precision_in_use,
        contents=lambda wildcards: contents_of(teacher_folder(wildcards)),
        code=code("measure_signals"),
    script:
        "../scripts/measure_signals.py"


rule collect_signals:
    """What each run of the comparison gained, beside what was measured of its signal before it."""
    input:
        passages=[f"{ROOT}/corpus/{SCALE.datasets[name].corpus}/passages.arrow" for name in RUN.datasets],
        before=[f"{ROOT}/{name}/retrieved/initial/retrieved.test.parquet" for name in RUN.datasets],
        test=[f"{ROOT}/{name}/data/questions.test.jsonl" for name in RUN.datasets],
        after=run_files("retrieved.test.parquet", experiments=COMPARED),
        indicators=indicator_files,
    output:
        runs=f"{ROOT}/analysis/signals.csv",
    log:
        f"{LOGS}/collect_signals.log",
    benchmark:
        f"{LOGS}/collect_signals.tsv"
    conda:
        "../../envs/cpu.yaml"
    params:
        world=SCALE.name,
        datasets=lambda wildcards: compared_runs(),
        code=code("collect_signals"),
    script:
        "../scripts/collect_signals.py"


rule tabulate_signals:
    """Signals, rates and gates beside a uniform and a random target, over this world and those that were kept."""
    input:
        compared_worlds,
    output:
        gains=report(f"{TABLES}/signals.csv", caption="../report/signals.rst", category="Signals"),
        gains_page=f"{TABLES}/signals.md",
        power=report(f"{TABLES}/predictive_power.csv", caption="../report/signals.rst", category="Signals"),
        power_page=f"{TABLES}/predictive_power.md",
    log:
        f"{LOGS}/tabulate_signals.log",
    benchmark:
        f"{LOGS}/tabulate_signals.tsv"
    conda:
        "../../envs/cpu.yaml"
    params:
        code=code("tabulate_signals"),
    script:
        "../scripts/tabulate_signals.py"


rule signals:
    """Which signal teaches, at which rate, with which gate; and what tells beforehand."""
    input:
        rules.tabulate_signals.output,


rule predictive_power:
    """Which number, measured before any training, predicts what a signal gains."""
    input:
        rules.tabulate_signals.output.power,
        rules.tabulate_signals.output.power_page,
