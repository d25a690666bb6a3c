# reads a generated world's numbers or a user's files; writes corpus/*/passages.arrow, */data/questions.*.jsonl
WORLDS = [name for name, corpus in SCALE.corpora.items() if corpus.world]
OWN_CORPORA = [name for name, corpus in SCALE.corpora.items() if corpus.passages]
WORLD_DATASETS = [
    name for name, data in SCALE.datasets.items() if SCALE.corpora[data.corpus].world and not data.questions
]
OWN_DATASETS = [name for name, data in SCALE.datasets.items() if data.questions]


rule make_world_passages:
    """Tell the facts of a generated world, one passage each."""
    output:
        passages=ROOT + "/corpus/{corpus}/passages.arrow",
    params:
        world=lambda wildcards: plain(SCALE.corpora[wildcards.corpus].world)[0],
        code=code("miniature"),
    log:
        LOGS + "/make_world_passages/{corpus}.log",
    benchmark:
        LOGS + "/make_world_passages/{corpus}.tsv"
    conda:
        "../../envs/cpu.yaml"
    wildcard_constraints:
        corpus=one_of(WORLDS),
    script:
        "../scripts/make_world_passages.py"


rule make_world_questions:
    """Ask for the facts of a generated world in other words."""
    output:
        **{split: questions_file(split) for split in records.SPLITS},
    params:
        world=lambda wildcards: plain(SCALE.corpora[SCALE.datasets[wildcards.dataset].corpus].world)[0],
        code=code("miniature"),
    log:
        LOGS + "/make_world_questions/{dataset}.log",
    benchmark:
        LOGS + "/make_world_questions/{dataset}.tsv"
    conda:
        "../../envs/cpu.yaml"
    wildcard_constraints:
        dataset=one_of(WORLD_DATASETS),
    script:
        "../scripts/make_world_questions.py"


rule check_passages:
    """Read a user's passages, refuse what is malformed, and keep them memory-mapped."""
    input:
        lambda wildcards: SCALE.corpora[wildcards.corpus].passages,
    output:
        passages=ROOT + "/corpus/{corpus}/passages.arrow",
    params:
        k=SCALE.retrieval.k,
    log:
        LOGS + "/check_passages/{corpus}.log",
    benchmark:
        LOGS + "/check_passages/{corpus}.tsv"
    conda:
        "../../envs/cpu.yaml"
    wildcard_constraints:
        corpus=one_of(OWN_CORPORA),
    script:
        "../scripts/check_passages.py"


rule check_questions:
    """Read a user's questions and refuse what is malformed."""
    input:
        **{
            split: lambda wildcards, split=split: SCALE.datasets[wildcards.dataset].questions[split]
            for split in records.SPLITS
        },
    output:
        **{split: questions_file(split) for split in records.SPLITS},
    log:
        LOGS + "/check_questions/{dataset}.log",
    benchmark:
        LOGS + "/check_questions/{dataset}.tsv"
    conda:
        "../../envs/cpu.yaml"
    wildcard_constraints:
        dataset=one_of(OWN_DATASETS),
    script:
        "../scripts/check_questions.py"


rule find_gold:
    """For each question the first passage that holds its answer, for the control that forces it in."""
    input:
        passages=corpus_file("passages.arrow"),
        questions=ROOT + "/{dataset}/data/questions.{split}.jsonl",
    output:
        gold=ROOT + "/{dataset}/data/gold.{split}.npy",
    params:
        code=code("evaluation", "context"),
    log:
        LOGS + "/find_gold/{dataset}.{split}.log",
    benchmark:
        LOGS + "/find_gold/{dataset}.{split}.tsv"
    conda:
        "../../envs/cpu.yaml"
    script:
        "../scripts/find_gold.py"


rule data:
    """All passages and questions."""
    input:
        [f"{ROOT}/corpus/{SCALE.datasets[name].corpus}/passages.arrow" for name in RUN.datasets],
        [
            f"{ROOT}/{name}/data/questions.{split}.jsonl"
            for name in RUN.datasets
            for split in records.SPLITS
        ],
