# reads passages and retrievers; writes corpus/*/tokens, embedding shards, retrieved.*.parquet
rule tokenise_corpus:
    """Tokenise the corpus for the retriever, once and for all."""
    input:
        passages=ROOT + "/corpus/{corpus}/passages.arrow",
        retriever=initial_model("retriever"),
    output:
        tokens=ROOT + "/corpus/{corpus}/tokens.npy",
        offsets=ROOT + "/corpus/{corpus}/offsets.npy",
    params:
        max_tokens=SCALE.retrieval.passage_max_tokens,
        code=code("retriever"),
    log:
        LOGS + "/tokenise_corpus/{corpus}.log",
    benchmark:
        LOGS + "/tokenise_corpus/{corpus}.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: SCALE.compute.embed_threads
    script:
        "../scripts/tokenise_corpus.py"


rule embed_corpus:
    """Embed a shard of the corpus with an untrained retriever."""
    input:
        tokens=ROOT + "/corpus/{corpus}/tokens.npy",
        offsets=ROOT + "/corpus/{corpus}/offsets.npy",
        retriever=lambda wildcards: model_folder(wildcards.origin, "retriever", None, None),
    output:
        shard=ROOT + "/corpus/{corpus}/index/{origin}/shard-{shard}.npy",
    params:
        retrieval=plain(SCALE.retrieval)[0],
        code=code("index", "retriever"),
    log:
        LOGS + "/embed_corpus/{corpus}.{origin}.{shard}.log",
    benchmark:
        LOGS + "/embed_corpus/{corpus}.{origin}.{shard}.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: SCALE.compute.embed_threads
    resources:
        gpu=SCALE.compute.gpus,
    wildcard_constraints:
        origin="|".join(UNTRAINED),
    script:
        "../scripts/embed_corpus.py"


use rule embed_corpus as embed_trained with:
    input:
        tokens=corpus_file("tokens.npy"),
        offsets=corpus_file("offsets.npy"),
        retriever=ROOT + "/{dataset}/{experiment}/seed{seed}/checkpoint",
    output:
        shard=temp(ROOT + "/{dataset}/{experiment}/seed{seed}/index/shard-{shard}.npy"),
    log:
        LOGS + "/embed_trained/{dataset}.{experiment}.seed{seed}.{shard}.log",
    benchmark:
        LOGS + "/embed_trained/{dataset}.{experiment}.seed{seed}.{shard}.tsv"
    wildcard_constraints:
        experiment=one_of(SCALE.experiments),


rule retrieve_passages:
    """Find the k nearest passages of every question with an untrained retriever."""
    input:
        passages=corpus_file("passages.arrow"),
        questions=ROOT + "/{dataset}/data/questions.{split}.jsonl",
        retriever=lambda wildcards: model_folder(wildcards.origin, "retriever", None, None),
        shards=lambda wildcards: shards_in(
            f"{ROOT}/corpus/{SCALE.datasets[wildcards.dataset].corpus}/index/{wildcards.origin}"
        ),
    output:
        retrieved=ROOT + "/{dataset}/retrieved/{origin}/retrieved.{split}.parquet",
    params:
        retrieval=plain(SCALE.retrieval)[0],
        code=code("index", "retriever"),
    log:
        LOGS + "/retrieve_passages/{dataset}.{origin}.{split}.log",
    benchmark:
        LOGS + "/retrieve_passages/{dataset}.{origin}.{split}.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: SCALE.compute.embed_threads
    resources:
        gpu=SCALE.compute.gpus,
    wildcard_constraints:
        origin="|".join(UNTRAINED),
    script:
        "../scripts/retrieve_passages.py"


use rule retrieve_passages as retrieve_trained with:
    input:
        passages=corpus_file("passages.arrow"),
        questions=ROOT + "/{dataset}/data/questions.{split}.jsonl",
        retriever=ROOT + "/{dataset}/{experiment}/seed{seed}/checkpoint",
        shards=shards_in(ROOT + "/{dataset}/{experiment}/seed{seed}/index"),
    output:
        retrieved=ROOT + "/{dataset}/{experiment}/seed{seed}/retrieved.{split}.parquet",
    log:
        LOGS + "/retrieve_trained/{dataset}.{experiment}.seed{seed}.{split}.log",
    benchmark:
        LOGS + "/retrieve_trained/{dataset}.{experiment}.seed{seed}.{split}.tsv"
    wildcard_constraints:
        experiment=one_of(SCALE.experiments),


rule index:
    """The first index of every corpus and what it finds."""
    input:
        [
            f"{ROOT}/{dataset}/retrieved/initial/retrieved.{split}.parquet"
            for dataset in RUN.datasets
            for split in records.SPLITS
        ],
