# reads passages and retrievers; writes corpus/*/tokens, embedding shards, retrieved.*.parquet
rule tokenise_corpus:
    """Tokenise the corpus for the retriever, once and for all."""
    input:
        passages=f"{ROOT}/corpus/{{corpus}}/passages.arrow",
        retriever=initial_model("retriever"),
        checked=f"{ROOT}/models/retriever.json",
    output:
        tokens=f"{ROOT}/corpus/{{corpus}}/tokens.npy",
        offsets=f"{ROOT}/corpus/{{corpus}}/offsets.npy",
    log:
        f"{LOGS}/tokenise_corpus/{{corpus}}.log",
    benchmark:
        f"{LOGS}/tokenise_corpus/{{corpus}}.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: SCALE.compute.embed_threads
    params:
        retrieval=AS_READ,
        contents=lambda wildcards: contents_of(initial_model("retriever")),
        code=code("tokenise_corpus"),
    script:
        "../scripts/tokenise_corpus.py"


rule embed_corpus:
    """Embed a shard of the corpus with an untrained retriever."""
    input:
        tokens=f"{ROOT}/corpus/{{corpus}}/tokens.npy",
        offsets=f"{ROOT}/corpus/{{corpus}}/offsets.npy",
        retriever=untrained_retriever,
    output:
        shard=f"{ROOT}/corpus/{{corpus}}/index/{{origin}}/shard-{{shard}}.npy",
    log:
        f"{LOGS}/embed_corpus/{{corpus}}.{{origin}}.{{shard}}.log",
    benchmark:
        f"{LOGS}/embed_corpus/{{corpus}}.{{origin}}.{{shard}}.tsv"
    wildcard_constraints:
        origin="|".join(settings.UNTRAINED),
    conda:
        MODEL_ENV
    threads: SCALE.compute.embed_threads
    resources:
        gpu=ONE_GPU,
    params:
        retrieval=SCALE.retrieval.model_dump(include={"shards", "dtype", "batch_tokens"}),
        precision=SCALE.compute.precision_in_use,
        contents=lambda wildcards: contents_of(untrained_retriever(wildcards)) if "origin" in wildcards.keys() else [],
        code=code("embed_corpus"),
    script:
        "../scripts/embed_corpus.py"


# where an experiment starts from another's trained retriever
use rule embed_corpus as embed_trained with:
    input:
        tokens=corpus_file("tokens.npy"),
        offsets=corpus_file("offsets.npy"),
        retriever=f"{ROOT}/{{dataset}}/{{experiment}}/seed{{seed}}/checkpoint",
    output:
        shard=temp(f"{ROOT}/{{dataset}}/{{experiment}}/seed{{seed}}/index/shard-{{shard}}.npy"),
    log:
        f"{LOGS}/embed_trained/{{dataset}}.{{experiment}}.seed{{seed}}.{{shard}}.log",
    benchmark:
        f"{LOGS}/embed_trained/{{dataset}}.{{experiment}}.seed{{seed}}.{{shard}}.tsv"
    wildcard_constraints:
        experiment=one_of(SCALE.experiments),


rule retrieve_passages:
    """Find the k nearest passages of every question with an untrained retriever."""
    input:
        passages=corpus_file("passages.arrow"),
        questions=[f"{ROOT}/{{dataset}}/data/questions.{split}.jsonl" for split in records.SPLITS],
        retriever=untrained_retriever,
        shards=lambda wildcards: shards_in(
            f"{ROOT}/corpus/{SCALE.datasets[wildcards.dataset].corpus}/index/{wildcards.origin}"
        ),
    output:
        retrieved=[f"{ROOT}/{{dataset}}/retrieved/{{origin}}/retrieved.{split}.parquet" for split in records.SPLITS],
    log:
        f"{LOGS}/retrieve_passages/{{dataset}}.{{origin}}.log",
    benchmark:
        f"{LOGS}/retrieve_passages/{{dataset}}.{{origin}}.tsv"
    wildcard_constraints:
        origin="|".join(settings.UNTRAINED),
    conda:
        MODEL_ENV
    threads: SCALE.compute.embed_threads
    resources:
        gpu=ONE_GPU,
    params:
        retrieval=plain(SCALE.retrieval.in_use()),
        precision=SCALE.compute.precision_in_use,
        contents=lambda wildcards: contents_of(untrained_retriever(wildcards)) if "origin" in wildcards.keys() else [],
        code=code("retrieve_passages"),
    script:
        "../scripts/retrieve_passages.py"


use rule retrieve_passages as retrieve_trained with:
    input:
        passages=corpus_file("passages.arrow"),
        questions=[f"{ROOT}/{{dataset}}/data/questions.{{split}}.jsonl"],
        retriever=f"{ROOT}/{{dataset}}/{{experiment}}/seed{{seed}}/checkpoint",
        shards=shards_in(f"{ROOT}/{{dataset}}/{{experiment}}/seed{{seed}}/index"),
    output:
        retrieved=[f"{ROOT}/{{dataset}}/{{experiment}}/seed{{seed}}/retrieved.{{split}}.parquet"],
    log:
        f"{LOGS}/retrieve_trained/{{dataset}}.{{experiment}}.seed{{seed}}.{{split}}.log",
    benchmark:
        f"{LOGS}/retrieve_trained/{{dataset}}.{{experiment}}.seed{{seed}}.{{split}}.tsv"
    wildcard_constraints:
        experiment=one_of(SCALE.experiments),
        split="train|dev",


rule index:
    """The first index of every corpus and what it finds."""
    input:
        [
            f"{ROOT}/{dataset}/retrieved/initial/retrieved.{split}.parquet"
            for dataset in RUN.datasets
            for split in records.SPLITS
        ],
