# reads a generated world's numbers or a user's files; writes corpus/*/passages.arrow, */data/questions.*.jsonl and of a
# user's files corpus/*/facts.json, lengths.json, */data/facts.json: what was taken for what, and what is worth a warning
WORLDS = [name for name, corpus in SCALE.corpora.items() if corpus.world]
OWN_CORPORA = [name for name, corpus in SCALE.corpora.items() if corpus.passages]
WORLD_DATASETS = [
    name for name, data in SCALE.datasets.items() if SCALE.corpora[data.corpus].world and not data.questions
]
OWN_DATASETS = [name for name, data in SCALE.datasets.items() if data.questions]


rule make_world_passages:
    """Tell the facts of a generated world, one passage each."""
    output:
        passages=f"{ROOT}/corpus/{{corpus}}/passages.arrow",
    log:
        f"{LOGS}/make_world_passages/{{corpus}}.log",
    benchmark:
        f"{LOGS}/make_world_passages/{{corpus}}.tsv"
    wildcard_constraints:
        corpus=one_of(WORLDS),
    conda:
        "../../envs/cpu.yaml"
    params:
        world=lambda wildcards: plain(SCALE.corpora[wildcards.corpus].world),
        code=code("make_world_passages"),
    script:
        "../scripts/make_world_passages.py"


rule make_world_questions:
    """Ask for the facts of a generated world in other words."""
    output:
        **{split: questions_file(split) for split in records.SPLITS},
    log:
        f"{LOGS}/make_world_questions/{{dataset}}.log",
    benchmark:
        f"{LOGS}/make_world_questions/{{dataset}}.tsv"
    wildcard_constraints:
        dataset=one_of(WORLD_DATASETS),
    conda:
        "../../envs/cpu.yaml"
    params:
        world=lambda wildcards: plain(SCALE.corpora[SCALE.datasets[wildcards.dataset].corpus].world),
        code=code("make_world_questions"),
    script:
        "../scripts/make_world_questions.py"


rule check_passages:
    """Read a user's passages, refuse what is malformed, and keep them memory-mapped."""
    input:
        lambda wildcards: given(SCALE.corpora[wildcards.corpus].passages),
    output:
        passages=f"{ROOT}/corpus/{{corpus}}/passages.arrow",
        facts=f"{ROOT}/corpus/{{corpus}}/facts.json",
    log:
        f"{LOGS}/check_passages/{{corpus}}.log",
    benchmark:
        f"{LOGS}/check_passages/{{corpus}}.tsv"
    wildcard_constraints:
        corpus=one_of(OWN_CORPORA),
    conda:
        "../../envs/cpu.yaml"
    params:
        k=SCALE.retrieval.k,
        contents=lambda wildcards: contents_of(SCALE.corpora[wildcards.corpus].passages),
        code=code("check_passages"),
    script:
        "../scripts/check_passages.py"


rule check_lengths:
    """Say how many of a user's passages are longer than what models read of them."""
    input:
        facts=f"{ROOT}/corpus/{{corpus}}/facts.json",
    output:
        lengths=f"{ROOT}/corpus/{{corpus}}/lengths.json",
    log:
        f"{LOGS}/check_lengths/{{corpus}}.log",
    benchmark:
        f"{LOGS}/check_lengths/{{corpus}}.tsv"
    wildcard_constraints:
        corpus=one_of(OWN_CORPORA),
    conda:
        "../../envs/cpu.yaml"
    params:
        limits={
            "prompt.passage_max_tokens": SCALE.prompt.passage_max_tokens,
            **({"retrieval.passage_max_tokens": limit} if (limit := SCALE.retrieval.passage_max_tokens) else {}),
        },
        code=code("check_lengths"),
    script:
        "../scripts/check_lengths.py"


rule check_questions:
    """Read a user's questions, refuse what is malformed, and count what is worth a warning."""
    input:
        **{
            split: lambda wildcards, split=split: given(SCALE.datasets[wildcards.dataset].questions[split])
            for split in records.SPLITS
        },
    output:
        **{split: questions_file(split) for split in records.SPLITS},
        facts=f"{ROOT}/{{dataset}}/data/facts.json",
    log:
        f"{LOGS}/check_questions/{{dataset}}.log",
    benchmark:
        f"{LOGS}/check_questions/{{dataset}}.tsv"
    wildcard_constraints:
        dataset=one_of(OWN_DATASETS),
    conda:
        "../../envs/cpu.yaml"
    params:
        contents=lambda wildcards: contents_of(*SCALE.datasets[wildcards.dataset].questions.values()),
        code=code("check_questions"),
    script:
        "../scripts/check_questions.py"


rule find_gold:
    """For each question the first passage that holds its answer, for the control that forces it in."""
    input:
        passages=corpus_file("passages.arrow"),
        questions=f"{ROOT}/{{dataset}}/data/questions.{{split}}.jsonl",
    output:
        gold=f"{ROOT}/{{dataset}}/data/gold.{{split}}.npy",
    log:
        f"{LOGS}/find_gold/{{dataset}}.{{split}}.log",
    benchmark:
        f"{LOGS}/find_gold/{{dataset}}.{{split}}.tsv"
    conda:
        "../../envs/cpu.yaml"
    params:
        code=code("find_gold"),
    script:
        "../scripts/find_gold.py"


rule data:
    """All passages and questions."""
    input:
        [f"{ROOT}/corpus/{SCALE.datasets[name].corpus}/passages.arrow" for name in RUN.datasets],
        [f"{ROOT}/{name}/data/questions.{split}.jsonl" for name in RUN.datasets for split in records.SPLITS],
        [f"{ROOT}/corpus/{name}/lengths.json" for name in OWN_CORPORA],
