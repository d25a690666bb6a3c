# Config, paths and what depends on what; reads config.yaml and workflow/scales, writes nothing.
import os
import re
import shlex
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

WORKFLOW = Path(workflow.basedir) / "workflow"
sys.path.insert(0, str(WORKFLOW))
sys.executable = shlex.quote(
    sys.executable
)  # Snakemake writes it into shell commands, and a clone's path may have a space
os.environ.update(PYTHONPATH=os.pathsep.join(filter(None, [str(WORKFLOW), os.getenv("PYTHONPATH")])))

from attention_distillation import files, provenance, records, settings
from attention_distillation.data.origins import origins_of
from attention_distillation.data.table import read_sources
from attention_distillation.models import encoder_folder, weights
from attention_distillation.jobs.contents import Contents
from attention_distillation.jobs.fingerprint import code


def beside_snakefile(path):
    """A path of a scale file, which is beside the Snakefile, wherever Snakemake is called from."""
    own = Path(workflow.basedir) / path
    return os.path.relpath(own) if own.exists() and not Path(path).exists() else path


try:
    RUN = settings.load({key: config[key] for key in config})
    SOURCE_ROWS = read_sources(WORKFLOW / "reference" / "sources.csv")
    ORIGINS = origins_of(
        {place: beside_snakefile(path) for place, path in RUN.scale.models.given().items()}, SOURCE_ROWS
    )
    for place, origin in ORIGINS.items():
        if origin.kind == "directory":
            (encoder_folder.describe if place.startswith("retriever") else weights.require_weights)(origin.path)
except files.InputError as error:
    raise WorkflowError(str(error)) from None

if RUN.left_out and workflow.is_main_process:
    words = ", ".join(f"{name} (needs {' and '.join(kinds)})" for name, kinds in RUN.left_out.items())
    sys.stderr.write(f"left out, for want of models: {words}\n")

SCALE = RUN.scale
ROOT = f"results/{SCALE.name}"
LOGS = f"logs/{SCALE.name}"
SOURCES = "results/sources"
MODEL_ENV = "../../envs/gpu.yaml" if SCALE.compute.gpus else "../../envs/cpu.yaml"  # with --sdm conda
ONE_GPU = min(1, SCALE.compute.gpus)  # of rules that cannot share their work among more
NEVER = "(?!)"


wildcard_constraints:
    corpus="[^/]+",
    dataset="[^/]+",
    experiment="[^/]+",
    seed=r"\d+",
    split="train|dev|test",
    shard=r"\d+",


def one_of(names):
    """A wildcard constraint that lets these names through, and none where there is none."""
    return "|".join(map(re.escape, names)) or NEVER


def run_files(name, trained=False, experiments=RUN.experiments):
    """A file of every run that was asked for; with ``trained`` only of those that train something."""
    return [
        f"{ROOT}/{dataset}/{experiment}/seed{seed}/{name}"
        for dataset in RUN.datasets
        for experiment in experiments
        for seed in RUN.seeds
        if SCALE.experiments[experiment].train or not trained
    ]


CELLS = {cell.name: cell for cell in SCALE.comparison.cells()} if SCALE.comparison else {}
COMPARED = list(CELLS)
CONTROLLED = [
    name
    for name, experiment in SCALE.experiments.items()
    if name in RUN.experiments or (experiment.control and name not in COMPARED and not SCALE.lacks(name))
]


def plain(model):
    """Settings as plain values: what a rule's params hold, so that it reruns when one of them changes."""
    return model and model.model_dump()


# ---------------------------------------------------------------- what a user names is known by its content

CONTENTS = Contents()
GIVEN = {
    *(corpus.passages for corpus in SCALE.corpora.values() if corpus.passages),
    *(path for dataset in SCALE.datasets.values() for path in (dataset.questions or {}).values()),
    *(origin.path for origin in ORIGINS.values() if origin.path),
}


def given(path):
    """A user's file or folder as an input; its date does not count, for :func:`contents_of` says what is in it."""
    return ancient(path)


def contents_of(*paths):
    """What each path holds, for params; of what the workflow makes nothing, for its date says it."""
    each = [path for one in paths for path in ([one] if isinstance(one, str) else one)]
    try:
        return [CONTENTS.identity(path) for path in each if path in GIVEN and Path(path).exists()]
    except files.InputError as error:
        raise WorkflowError(str(error)) from None


# ---------------------------------------------------------------- data


def corpus_file(name):
    """A file of the corpus that a dataset's questions are asked of."""
    return lambda wildcards: f"{ROOT}/corpus/{SCALE.datasets[wildcards.dataset].corpus}/{name}"


def checked_prompts(wildcards):
    """The word of check_prompts that an experiment's reader takes its prompts."""
    return f"{ROOT}/{wildcards.dataset}/data/prompts.{SCALE.reader_kind(wildcards.experiment)}.json"


def questions_file(split):
    return f"{ROOT}/{{dataset}}/data/questions.{split}.jsonl"


# ---------------------------------------------------------------- models


def initial_model(kind):
    """Directory of a model as it starts: the user's, or one that a rule fetches, converts or makes; of a pair both."""
    parts = [part for part in ORIGINS if part.startswith(f"{kind}_")] or [kind]
    homes = [
        given(ORIGINS[part].path) if part in ORIGINS and ORIGINS[part].kind == "directory" else f"{ROOT}/models/{part}"
        for part in parts
    ]
    return homes if len(homes) > 1 else homes[0]


def model_folder(name, part, dataset, seed):
    """Directory of the reader or retriever of 'initial' or 'random', or the checkpoint that holds an experiment's."""
    if name == "random":
        return f"{ROOT}/models/random_{part}"
    if name == "initial":
        return initial_model(part)
    return f"{ROOT}/{dataset}/{name}/seed{seed}/checkpoint"


def adapters_of(wildcards):
    """How experiments train a reader of this kind by LoRA."""
    rows = (row for name, row in SCALE.experiments.items() if SCALE.reader_kind(name) == wildcards.kind)
    return [plain(row.train_adapter) for row in rows if row.train_adapter]


def pretraining_of(wildcards):
    """How a small model is made: what concerns the other kinds is left out, so that it reruns nothing here."""
    shape = plain(SCALE.models.pretraining)
    return shape | {
        key: {wildcards.kind: shape[key][wildcards.kind]} for key in ("steps", "batch_size", "learning_rate")
    }


def origin_folder(origin, part, wildcards):
    """The directory that holds what ``origin`` made of a reader or retriever, for the run of the wildcards."""
    kind = SCALE.reader_kind(wildcards.experiment) if part == "reader" and origin == "initial" else part
    return model_folder(origin, kind, wildcards.dataset, wildcards.seed)


def start_origin(experiment, part):
    """Whose reader or retriever an experiment starts training from."""
    return SCALE.origin(getattr(SCALE.experiments[experiment], part), part)


def start_of(part):
    """The directory that an experiment's reader or retriever starts training from."""
    return lambda wildcards: origin_folder(start_origin(wildcards.experiment, part), part, wildcards)


def end_of(part):
    """The directory of an experiment's reader or retriever after training."""
    return lambda wildcards: origin_folder(SCALE.origin(wildcards.experiment, part), part, wildcards)


def untrained_retriever(wildcards):
    """The directory of the retriever that an index of 'initial' or 'random' is made with."""
    return model_folder(wildcards.origin, "retriever", None, None)


# ---------------------------------------------------------------- index and retrieval


# what of the settings decides how a text becomes a vector
AS_READ = SCALE.retrieval.model_dump(
    exclude={"k", "index", "lists", "probes", "code_bytes", "shards", "dtype", "batch_tokens"}
)


def shards_in(folder):
    return [f"{folder}/shard-{shard}.npy" for shard in range(SCALE.retrieval.shards)]


def first_shards(wildcards):
    """The corpus as embedded by the retriever that an experiment starts from; none where it trains no retriever."""
    if "retriever" not in SCALE.experiments[wildcards.experiment].train:
        return []
    origin = start_origin(wildcards.experiment, "retriever")
    if origin in settings.UNTRAINED:
        return shards_in(f"{ROOT}/corpus/{SCALE.datasets[wildcards.dataset].corpus}/index/{origin}")
    return shards_in(f"{ROOT}/{wildcards.dataset}/{origin}/seed{wildcards.seed}/index")


def retrieved_by(origin, wildcards, split):
    if origin in settings.UNTRAINED:
        return f"{ROOT}/{wildcards.dataset}/retrieved/{origin}/retrieved.{split}.parquet"
    return f"{ROOT}/{wildcards.dataset}/{origin}/seed{wildcards.seed}/retrieved.{split}.parquet"


def training_retrieved(wildcards):
    """The passages that a fixed retriever finds for each split; none where the retriever is trained."""
    if "retriever" in SCALE.experiments[wildcards.experiment].train:
        return []
    origin = SCALE.origin(wildcards.experiment, "retriever")
    return [retrieved_by(origin, wildcards, split) for split in records.SPLITS]


def test_retrieved(wildcards):
    """The passages that an experiment's final retriever finds for the test questions."""
    trained = SCALE.experiments[wildcards.experiment].train
    origin = wildcards.experiment if trained else SCALE.origin(wildcards.experiment, "retriever")
    return retrieved_by(origin, wildcards, "test")


def gold_file(*splits):
    """Answer-bearing passages, where the experiment forces them in."""

    def files(wildcards):
        if SCALE.distillation_of(wildcards.experiment).context != "gold":
            return []
        return [f"{ROOT}/{wildcards.dataset}/data/gold.{split}.npy" for split in splits]

    return files


def tagger(wildcards):
    """The tagger of a world, or the pinned one of the sources table."""
    return [] if SCALE.analysis.nouns == "content_words" else [f"{ROOT}/models/tagger"]


# ---------------------------------------------------------------- what single stages look up


def checked_lengths(wildcards):
    """The word of check_lengths on a user's corpus; a generated or public one has none."""
    corpus = SCALE.datasets[wildcards.dataset].corpus
    return [f"{ROOT}/corpus/{corpus}/lengths.json"] if corpus in OWN_CORPORA else []


def measured_coverage(wildcards):
    """The word of measure_coverage on a user's corpus; passages of worlds and public corpora are made to fit."""
    if SCALE.datasets[wildcards.dataset].corpus not in OWN_CORPORA:
        return []
    return f"{ROOT}/{wildcards.dataset}/data/coverage.{SCALE.reader_kind(wildcards.experiment)}.json"


def settings_of_run(wildcards):
    """What a run's weights rest on, as training.job.TrainJob takes it."""
    name, dataset = wildcards.experiment, wildcards.dataset
    experiment = SCALE.experiments[name]
    runs = SCALE.runs_behind(name, dataset)
    for row in runs.values():
        del row["analysis"]  # of what is done with a run afterwards
    return {
        **{key: getattr(experiment, key) for key in ("architecture", "train", "signal")},
        "train_adapter": plain(experiment.train_adapter),
        "reader_bits": None if "reader" in experiment.train else SCALE.models.reader_bits,
        "training": plain(SCALE.training_of(name, dataset)),
        "distillation": plain(SCALE.distillation_of(name)),
        "retrieval": plain(SCALE.retrieval.in_use()),
        "prompt": plain(SCALE.prompt),
        "precision": SCALE.compute.precision_in_use,
        "origins": {origin: row for origin, row in runs.items() if origin != name},
    }


# ---------------------------------------------------------------- the comparison of signals


def compared_worlds(wildcards):
    """The runs of this scale's comparison, where it has one, and those of other worlds that were kept."""
    kept = [path for path in sorted(Path("results/cached/signals").glob("*.csv")) if path.stem != SCALE.name]
    if not kept and not COMPARED:
        raise WorkflowError(
            f"the scale '{SCALE.name}' compares no signals: give it 'comparison' (overrides, docs/method.md), or take "
            "one that has it: --config scale=signals_11"
        )
    return [*([f"{ROOT}/analysis/signals.csv"] if COMPARED else []), *map(str, kept)]


def teacher_of(cell):
    """The file name of a run's teacher; of a signal that needs no reader, that of the first."""
    return cell.teacher if cell.teacher in SCALE.comparison.teachers else next(iter(SCALE.comparison.teachers))


def teacher_folder(wildcards):
    """The directory of a teacher's reader."""
    name = SCALE.comparison.teachers[wildcards.teacher]
    return model_folder(SCALE.origin(name, "reader"), "reader", wildcards.dataset, wildcards.seed)


def compared_distillation():
    """The choices that all compared runs have."""
    return plain(SCALE.distillation_of(COMPARED[0])) | {"skip": "none"} if COMPARED else {}


def indicator_file(dataset, teacher, seed):
    """What is measured of one teacher's signals."""
    return f"{ROOT}/{dataset}/signals/{teacher}.seed{seed}.json"


def indicator_files(wildcards):
    """The same of every teacher."""
    return [
        indicator_file(dataset, teacher, seed)
        for dataset in RUN.datasets
        for teacher in (SCALE.comparison.teachers if COMPARED else [])
        for seed in RUN.seeds
    ]


def compared_runs():
    """Of each dataset where its files are, and of each compared run what it is and where its files are."""
    return {
        dataset: {
            "title": SCALE.datasets[dataset].title,
            "passages": f"{ROOT}/corpus/{SCALE.datasets[dataset].corpus}/passages.arrow",
            "test": f"{ROOT}/{dataset}/data/questions.test.jsonl",
            "before": f"{ROOT}/{dataset}/retrieved/initial/retrieved.test.parquet",
            "runs": [
                {
                    **cell._asdict(),
                    "seed": seed,
                    "config_hash": provenance.digest(SCALE.behind(name, dataset)),
                    "indicators": indicator_file(dataset, teacher_of(cell), seed),
                    "retrieved": f"{ROOT}/{dataset}/{name}/seed{seed}/retrieved.test.parquet",
                }
                for name, cell in CELLS.items()
                for seed in RUN.seeds
            ],
        }
        for dataset in (RUN.datasets if COMPARED else [])
    }
