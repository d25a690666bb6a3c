# reads questions, corpus, first index and models; writes */*/seed*/checkpoint, log.jsonl, retrieved.test.parquet


rule train_run:
    """Train a reader, a retriever or both, and search with it; a killed job goes on from its last state."""
    input:
        passages=corpus_file("passages.arrow"),
        prompts=checked_prompts,
        tokens=corpus_file("tokens.npy"),
        offsets=corpus_file("offsets.npy"),
        train=questions_file("train"),
        dev=questions_file("dev"),
        test=questions_file("test"),
        retrieved=training_retrieved,
        shards=first_shards,
        gold=gold_file("train"),
        reader=start_of("reader"),
        retriever=start_of("retriever"),
    output:
        checkpoint=directory(f"{ROOT}/{{dataset}}/{{experiment}}/seed{{seed}}/checkpoint"),
        log=f"{ROOT}/{{dataset}}/{{experiment}}/seed{{seed}}/log.jsonl",
        retrieved=f"{ROOT}/{{dataset}}/{{experiment}}/seed{{seed}}/retrieved.test.parquet",
    log:
        f"{LOGS}/train_run/{{dataset}}.{{experiment}}.seed{{seed}}.log",
    benchmark:
        f"{LOGS}/train_run/{{dataset}}.{{experiment}}.seed{{seed}}.tsv"
    wildcard_constraints:
        experiment=one_of(name for name, experiment in SCALE.experiments.items() if experiment.train),
    priority: 1  # what takes longest starts first
    conda:
        MODEL_ENV
    threads: SCALE.compute.train_threads
    resources:
        gpu=SCALE.compute.gpus,
        save_seconds=SCALE.compute.save_seconds,  # a param would retrain what was saved at other times
    params:
        run=settings_of_run,
        contents=lambda wildcards: contents_of(start_of("reader")(wildcards), start_of("retriever")(wildcards)),
        code=code("train_run"),
    script:
        "../scripts/train_run.py"


rule train:
    """Every run that was asked for, trained."""
    input:
        run_files("log.jsonl", trained=True),
