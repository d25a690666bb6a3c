# reads checkpoints and what was retrieved; writes */*/seed*/predictions.jsonl, metrics.json, attention.parquet and
# */data/coverage.*.json


rule measure_coverage:
    """How much of the first retrieved passages a reader and the retriever see, and the hits that they do not."""
    input:
        passages=corpus_file("passages.arrow"),
        questions=questions_file("test"),
        retrieved=f"{ROOT}/{{dataset}}/retrieved/initial/retrieved.test.parquet",
        reader=lambda wildcards: initial_model(wildcards.kind),
        retriever=initial_model("retriever"),
    output:
        facts=f"{ROOT}/{{dataset}}/data/coverage.{{kind}}.json",
    log:
        f"{LOGS}/measure_coverage/{{dataset}}.{{kind}}.log",
    benchmark:
        f"{LOGS}/measure_coverage/{{dataset}}.{{kind}}.tsv"
    conda:
        "../../envs/cpu.yaml"
    params:
        questions=1000,
        max_tokens=SCALE.prompt.passage_max_tokens,
        retrieval=AS_READ,
        contents=lambda wildcards: contents_of(initial_model(wildcards.kind), initial_model("retriever")),
        code=code("measure_coverage"),
    script:
        "../scripts/measure_coverage.py"


rule evaluate_run:
    """Answer the test questions greedily and score them; record the attention of sampled ones token by token."""
    input:
        passages=corpus_file("passages.arrow"),
        prompts=checked_prompts,
        coverage=measured_coverage,
        test=questions_file("test"),
        retrieved=test_retrieved,
        gold=gold_file("test"),
        reader=end_of("reader"),
        tagger=tagger,
    output:
        predictions=f"{ROOT}/{{dataset}}/{{experiment}}/seed{{seed}}/predictions.jsonl",
        metrics=f"{ROOT}/{{dataset}}/{{experiment}}/seed{{seed}}/metrics.json",
        attention=f"{ROOT}/{{dataset}}/{{experiment}}/seed{{seed}}/attention.parquet",
    log:
        f"{LOGS}/evaluate_run/{{dataset}}.{{experiment}}.seed{{seed}}.log",
    benchmark:
        f"{LOGS}/evaluate_run/{{dataset}}.{{experiment}}.seed{{seed}}.tsv"
    wildcard_constraints:
        experiment=one_of(SCALE.experiments),
    conda:
        MODEL_ENV
    threads: SCALE.compute.evaluate_threads
    resources:
        gpu=ONE_GPU,
    params:
        architecture=lambda wildcards: SCALE.experiments[wildcards.experiment].architecture,
        kind=lambda wildcards: SCALE.experiments[wildcards.experiment].analysis,
        distillation=lambda wildcards: plain(SCALE.distillation_of(wildcards.experiment)),
        prompt=plain(SCALE.prompt),
        bits=SCALE.models.reader_bits,
        analysis=lambda wildcards: plain(SCALE.analysis.in_use(SCALE.experiments[wildcards.experiment].analysis)),
        batch_size=lambda wildcards, threads: SCALE.compute.batch_size,  # as 'threads', for which nothing reruns
        precision=SCALE.compute.precision_in_use,
        contents=lambda wildcards: contents_of(end_of("reader")(wildcards)),
        behind=lambda wildcards: SCALE.behind(wildcards.experiment, wildcards.dataset),
        code=code("evaluate_run"),
    script:
        "../scripts/evaluate_run.py"


rule attention:
    """Every dump that was asked for."""
    input:
        run_files("attention.parquet"),
