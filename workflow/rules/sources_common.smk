# What the rules of sources.smk look up.
# reads   workflow/reference/sources.csv
# writes  nothing

from pathlib import Path

from attention_distillation.data.downloads import as_row, model_row, read_sources, rows_for
from attention_distillation.settings import WORKFLOW
from attention_distillation.data.sources import split_sizes

SOURCE_ROWS = read_sources(WORKFLOW / "reference" / "sources.csv")
SOURCE_LOCK = f"{SOURCES}.lock.json"
SOURCE_FILES = {row.filename: row for row in SOURCE_ROWS if row.kind == "file"}
SOURCE_CORPORA = {
    name: rows_for(SOURCE_ROWS, corpus.source) for name, corpus in RUN.scale.corpora.items() if corpus.source
}
SOURCE_DATASETS = {name: dataset.source for name, dataset in RUN.scale.datasets.items() if dataset.source}
try:
    SOURCE_MODELS = {
        kind: model_row(SOURCE_ROWS, where)
        for kind, where in RUN.scale.models.given().items()
        if not Path(where).is_dir()
    }
except files.InputError as error:
    raise WorkflowError(str(error)) from None


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


def model_kind_row(wildcards) -> dict:
    return as_row(SOURCE_MODELS[wildcards.kind])
