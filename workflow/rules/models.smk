# reads a corpus or nothing; writes models/{reader,encoder_decoder,retriever} pretrained here, random_retriever, tagger
PRETRAINED = [kind for kind in settings.MODEL_KINDS if getattr(SCALE.models, kind) is None]
OWN_TEXT = next(iter(OWN_CORPORA), None)
PRETRAIN_HOME = f"{ROOT}/pretrained" if SCALE.models.pretraining and not PRETRAINED else f"{ROOT}/models"


rule pretrain_model:
    """Make a small model of the true class: a language model, or a retriever by contrastive cropping."""
    input:
        passages=f"{ROOT}/corpus/{OWN_TEXT}/passages.arrow" if OWN_TEXT else [],
    output:
        model=directory(PRETRAIN_HOME + "/{kind}"),
    params:
        pretraining=plain(SCALE.models.pretraining)[0] if SCALE.models.pretraining else None,
        code=code("pretraining"),
    log:
        "logs/pretrain_model/" + SCALE.name + "/{kind}.log",
    benchmark:
        ROOT + "/benchmarks/pretrain_model/{kind}.tsv"
    conda:
        "../../envs/cpu.yaml"
    threads: SCALE.compute.train_threads
    resources:
        gpu=SCALE.compute.gpus,
    wildcard_constraints:
        kind="|".join(settings.MODEL_KINDS),
    script:
        "../scripts/pretrain_model.py"


rule randomise_retriever:
    """The retriever's architecture with random weights, for the control that knows nothing."""
    input:
        retriever=initial_model("retriever"),
    output:
        model=directory(f"{ROOT}/models/random_retriever"),
    log:
        f"logs/randomise_retriever/{SCALE.name}.log",
    benchmark:
        ROOT + "/benchmarks/randomise_retriever.tsv"
    conda:
        "../../envs/cpu.yaml"
    script:
        "../scripts/randomise_retriever.py"


rule train_tagger:
    """Train spaCy's tagger on a generated world's own part-of-speech labels."""
    output:
        tagger=directory(f"{ROOT}/models/tagger"),
    params:
        code=code("miniature"),
    log:
        f"logs/train_tagger/{SCALE.name}.log",
    benchmark:
        ROOT + "/benchmarks/train_tagger.tsv"
    conda:
        "../../envs/cpu.yaml"
    script:
        "../scripts/train_tagger.py"


rule pretrain:
    """All small models, made anew from their seed."""
    input:
        expand(PRETRAIN_HOME + "/{kind}", kind=settings.MODEL_KINDS) if SCALE.models.pretraining else [],
