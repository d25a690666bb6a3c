# reads a corpus or nothing; writes models/{reader,encoder_decoder,retriever} pretrained here, random_retriever, tagger
PRETRAINED = [kind for kind in settings.MODEL_KINDS if getattr(SCALE.models, kind) is None]
MADE = (PRETRAINED or settings.MODEL_KINDS) if SCALE.models.pretraining else []
NEEDED = SCALE.kinds_of(RUN.experiments)
OWN_TEXT = next(iter(OWN_CORPORA), None)
TAGGER_ROWS = [row for row in SOURCE_ROWS if row.name == SCALE.analysis.nouns]
PRETRAIN_HOME = f"{ROOT}/pretrained" if SCALE.models.pretraining and not PRETRAINED else f"{ROOT}/models"


rule pretrain_model:
    """Make a small model of the true class: a language model, or a retriever by contrastive cropping."""
    input:
        passages=f"{ROOT}/corpus/{OWN_TEXT}/passages.arrow" if OWN_TEXT else [],
        checked=[f"{ROOT}/{name}/data/questions.train.jsonl" for name in OWN_DATASETS],
    output:
        model=directory(f"{PRETRAIN_HOME}/{{kind}}"),
    log:
        f"{LOGS}/pretrain_model/{{kind}}.log",
    benchmark:
        f"{LOGS}/pretrain_model/{{kind}}.tsv"
    wildcard_constraints:
        kind=one_of(MADE),
    conda:
        MODEL_ENV
    threads: SCALE.compute.train_threads
    resources:
        gpu=ONE_GPU,
    params:
        pretraining=pretraining_of,
        code=code("pretrain_model"),
    script:
        "../scripts/pretrain_model.py"


rule randomise_retriever:
    """The retriever's architecture with random weights, for the control that knows nothing."""
    input:
        retriever=initial_model("retriever"),
    output:
        model=directory(f"{ROOT}/models/random_retriever"),
    log:
        f"{LOGS}/randomise_retriever.log",
    benchmark:
        f"{LOGS}/randomise_retriever.tsv"
    conda:
        "../../envs/cpu.yaml"
    params:
        retrieval=AS_READ,
        contents=lambda wildcards: contents_of(initial_model("retriever")),
        code=code("randomise_retriever"),
    script:
        "../scripts/randomise_retriever.py"


rule unpack_tagger:
    """Unpack the tagger that the sources table names from its wheel."""
    input:
        wheel=[f"{SOURCES}/{row.filename}" for row in TAGGER_ROWS],
    output:
        tagger=directory(f"{ROOT}/models/tagger"),
    log:
        f"{LOGS}/unpack_tagger.log",
    benchmark:
        f"{LOGS}/unpack_tagger.tsv"
    conda:
        "../../envs/cpu.yaml"
    params:
        members=[row.members for row in TAGGER_ROWS],
        code=code("unpack_tagger"),
    script:
        "../scripts/unpack_tagger.py"


rule train_tagger:
    """Train spaCy's tagger on a generated world's own part-of-speech labels."""
    output:
        tagger=directory(f"{ROOT}/models/tagger"),
    log:
        f"{LOGS}/train_tagger.log",
    benchmark:
        f"{LOGS}/train_tagger.tsv"
    conda:
        "../../envs/cpu.yaml"
    params:
        code=code("train_tagger"),
    script:
        "../scripts/train_tagger.py"


rule check_reader:
    """See that a reader's model is a causal one, read alike with and without padding, and recorded in all its layers."""
    input:
        reader=lambda wildcards: initial_model(wildcards.kind),
    output:
        facts=f"{ROOT}/models/checked.{{kind}}.json",
    log:
        f"{LOGS}/check_reader/{{kind}}.log",
    benchmark:
        f"{LOGS}/check_reader/{{kind}}.tsv"
    wildcard_constraints:
        kind="reader|encoder_decoder",
    conda:
        MODEL_ENV
    threads: SCALE.compute.evaluate_threads
    resources:
        gpu=ONE_GPU,
    params:
        prompt=plain(SCALE.prompt),
        adapters=adapters_of,
        bits=SCALE.models.reader_bits,
        contents=lambda wildcards: contents_of(initial_model(wildcards.kind)),
        code=code("check_reader"),
    script:
        "../scripts/check_reader.py"


rule check_prompts:
    """See that a reader takes prompts as long as they may become, and count the questions that they cut."""
    input:
        reader=lambda wildcards: initial_model(wildcards.kind),
        checked=f"{ROOT}/models/checked.{{kind}}.json",
        questions=[questions_file(split) for split in records.SPLITS],
        lengths=checked_lengths,
    output:
        facts=f"{ROOT}/{{dataset}}/data/prompts.{{kind}}.json",
    log:
        f"{LOGS}/check_prompts/{{dataset}}.{{kind}}.log",
    benchmark:
        f"{LOGS}/check_prompts/{{dataset}}.{{kind}}.tsv"
    conda:
        "../../envs/cpu.yaml"
    params:
        prompt=plain(SCALE.prompt),
        k=SCALE.retrieval.k,
        contents=lambda wildcards: contents_of(initial_model(wildcards.kind)),
        code=code("check_prompts"),
    script:
        "../scripts/check_prompts.py"


rule check_retriever:
    """See that a retriever's vectors are those that its makers' library gives, before anything is embedded."""
    input:
        retriever=initial_model("retriever"),
    output:
        facts=f"{ROOT}/models/retriever.json",
    log:
        f"{LOGS}/check_retriever.log",
    benchmark:
        f"{LOGS}/check_retriever.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: SCALE.compute.embed_threads
    params:
        retrieval=AS_READ,
        contents=lambda wildcards: contents_of(initial_model("retriever")),
        code=code("check_retriever"),
    script:
        "../scripts/check_retriever.py"


rule pretrain:
    """The small models that the experiments need, made anew from their seed."""
    input:
        [f"{PRETRAIN_HOME}/{kind}" for kind in MADE if kind in NEEDED],


rule models:
    """What the experiments need before anything is trained: readers, retriever and tagger, fetched, converted or made."""
    input:
        [initial_model(kind) for kind in NEEDED],
        tagger(None),


if SCALE.analysis.nouns == "world":

    ruleorder: train_tagger > unpack_tagger

else:

    ruleorder: unpack_tagger > train_tagger
