"""What a change makes again, and what not, by the plan of a dry run on a copy in which everything is there."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from finished import ROOT, finish, planned, working_copy

from attention_distillation.settings import merged

CONFIG = {"scale": "smoke", "datasets": ["nq"], "experiments": ["step2", "perplexity"]}
RUNS = ("step1", "step2", "perplexity")
TRAINED = {f"train_run {name} nq 0" for name in RUNS}
TABLES = {"make_tables", "draw_figures", "judge_claims", "compare_with_paper"}
AFTER = {"analyse_tokens", *TABLES}
"""What comes after an evaluation."""
EVALUATED = {f"evaluate_run {name} nq 0" for name in ("step2", "perplexity")}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return finish(working_copy(tmp_path_factory.mktemp("made")), config=CONFIG)


@pytest.fixture
def copy(made, tmp_path) -> Path:
    """Dates are kept, so nothing is new in it."""
    return shutil.copytree(made, tmp_path / "copy", symlinks=True)


def over(**values) -> dict:
    return {**CONFIG, "overrides": values}


def change(folder: Path, file: str, old: str, new: str) -> None:
    path = folder / "workflow" / file
    text = path.read_text("utf-8")
    assert text.count(old) >= 1, f"{file} no longer says {old}"
    path.write_text(text.replace(old, new), "utf-8")


def test_nothing_is_made_again_where_nothing_changed(made, copy):
    assert planned(made, config=CONFIG) == planned(copy, config=CONFIG) == set()


# ------------------------------------------------------------------ code


def test_a_changed_learning_rate_trains_again(copy):
    change(copy, "attention_distillation/settings/schema.py", "or self.learning_rate", "or self.learning_rate / 2")
    assert planned(copy, config=CONFIG) == TRAINED | EVALUATED | AFTER


def test_a_formula_of_the_analysis_is_of_the_tables_alone(copy):
    change(copy, "attention_distillation/analysis/statistics.py", "own, ddof=1", "own, ddof=0")
    assert planned(copy, config=CONFIG) == {"make_tables", "draw_figures", "judge_claims", "compare_with_paper"}


def test_how_code_reads_makes_nothing_again(copy):
    """Comments, docstrings, layout, an unused function, a local variable's name, an error's words, a caption."""
    package = copy / "workflow" / "attention_distillation"
    for path in [*package.rglob("*.py"), *(copy / "workflow" / "scripts").glob("*.py")]:
        head, *rest = path.read_text("utf-8").split("\n\n")
        text = "\n\n\n".join([head, "# a comment", *rest, "# another\n"])
        if path.parent != copy / "workflow" / "scripts":
            text += '\n\ndef not_used_by_anybody(value):\n    """Doc."""\n    return value + 1\n'
        path.write_text(text, "utf-8")
    change(copy, "attention_distillation/training/context.py", '    """T', '    """More: t')
    change(copy, "attention_distillation/models/weights.py", "raise InputError(", 'raise InputError("Look: "')
    change(copy, "attention_distillation/analysis/inference.py", "predictions:", "answered:")
    change(copy, "attention_distillation/analysis/inference.py", "predictions.", "answered.")
    change(copy, "attention_distillation/analysis/inference.py", "predictions[", "answered[")
    for caption in (copy / "workflow" / "report").glob("*.rst"):
        caption.write_text("Another caption.\n")
    assert planned(copy, config=CONFIG) == set()


# ------------------------------------------------------------------ settings


def test_settings_on_which_no_number_rests_make_nothing_again(copy):
    config = over(
        compute={
            **{"train_threads": 2, "embed_threads": 2, "evaluate_threads": 2},
            "batch_size": 7,  # of evaluation
            "precision": "bfloat16",  # without a GPU all is float32
        },
        retrieval={"lists": 7, "probes": 3, "code_bytes": 4},  # the index is exact
    )
    assert planned(copy, config=config) == set()


def test_titles_are_of_the_tables_alone(copy):
    config = over(experiments={"step2": {"title": "Another"}}, datasets={"nq": {"title": "Questions"}})
    assert planned(copy, config=config) == TABLES


def test_intervals_are_of_the_tables_alone(copy):
    jobs = planned(copy, config=over(analysis={"bootstrap": 60}))
    assert jobs <= TABLES and "make_tables" in jobs


def test_the_temperature_of_a_token_distribution_is_of_the_perplexity_experiment_alone(copy):
    jobs = planned(copy, config=over(analysis={"tau_token": 0.5}))
    assert jobs == {"evaluate_run perplexity nq 0", *AFTER}


def test_a_hyper_parameter_is_of_its_experiment_and_of_what_starts_from_it(copy):
    of_step1 = over(experiments={"step1": {"training": {"default": {"steps": 3}}}})
    assert planned(copy, config=of_step1) == {
        "train_run step1 nq 0", "train_run step2 nq 0", "evaluate_run step2 nq 0", *AFTER
    }  # fmt: skip
    of_step2 = over(experiments={"step2": {"training": {"default": {"steps": 3}}}})
    assert planned(copy, config=of_step2) == {"train_run step2 nq 0", "evaluate_run step2 nq 0", *AFTER}


def test_a_seed_more_is_its_own_jobs(copy):
    jobs = planned(copy, config={**CONFIG, "seeds": [0, 1]})
    assert jobs == {
        *(job.replace(" 0", " 1") for job in TRAINED | EVALUATED), *AFTER
    }  # fmt: skip


def test_a_dataset_more_is_its_own_jobs(copy):
    jobs = planned(copy, config={**CONFIG, "datasets": ["nq", "triviaqa"]})
    assert not {job for job in jobs if " nq " in job}
    assert {job.replace(" nq ", " triviaqa ") for job in TRAINED | EVALUATED} <= jobs


def test_the_number_of_passages_embeds_nothing_again(copy):
    jobs = planned(copy, config=over(retrieval={"k": 3}))
    assert not {"embed_corpus", "tokenise_corpus"} & jobs and jobs >= TRAINED


# ------------------------------------------------------------------ what a user names


OWN = {
    "scale": "custom",
    "custom": {
        "name": "own", "passages": "given/passages.jsonl", "nouns": "content_words",
        "questions": {split: f"given/{split}.jsonl" for split in ("train", "dev", "test")},
        **{kind: f"given/{kind}" for kind in ("reader", "encoder_decoder", "retriever")},
    },
    "experiments": ["step1"],
}  # fmt: skip
MODELS = {"reader": {"check_prompts", "train_run step1 own 0"}, "retriever": {"tokenise_corpus", "embed_corpus"}}


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Path:
    """A copy with a user's data and models, everything made from them."""
    folder = working_copy(tmp_path_factory.mktemp("own"))
    given = shutil.copytree(ROOT / "workflow" / "pretrained" / "miniature", folder / "given")
    (given / "passages.jsonl").write_text(json.dumps({"id": "1", "title": "t", "text": "x"}) + "\n")
    for split in ("train", "dev", "test"):
        (given / f"{split}.jsonl").write_text(json.dumps({"question": "q", "answers": ["x"]}) + "\n")
    return finish(folder, "train", config=OWN)


@pytest.fixture
def own_copy(own, tmp_path) -> Path:
    return shutil.copytree(own, tmp_path / "own")


@pytest.mark.parametrize("file", ["passages.jsonl", "train.jsonl"])
def test_a_corrected_file_of_an_older_date_is_taken(own_copy, file):
    place = own_copy / "given" / file
    corrected = own_copy / "corrected"
    corrected.write_text(place.read_text("utf-8").replace("x", "y"), "utf-8")  # of the same size
    os.utime(corrected, (1e9, 1e9))
    os.replace(corrected, place)
    jobs = planned(own_copy, "train", config=OWN)
    assert {"train_run step1 own 0", "check_passages" if file == "passages.jsonl" else "check_questions"} <= jobs


@pytest.mark.parametrize("kind", MODELS)
def test_weights_overwritten_in_place_are_taken(own_copy, kind):
    weights = own_copy / "given" / kind / "model.safetensors"
    status = weights.stat()
    with open(weights, "r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))
    os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert MODELS[kind] <= planned(own_copy, "train", config=OWN)


def test_the_same_bytes_with_a_new_date_make_nothing_again(own_copy):
    for path in [*(own_copy / "given").rglob("*"), own_copy / "given"]:
        os.utime(path)
    assert planned(own_copy, "train", config=OWN) == set()


def test_what_a_user_corrects_is_still_known_by_content_when_overrides_name_it(own_copy):
    """A model named under 'overrides' is a user's too."""
    shutil.copytree(own_copy / "given" / "reader", own_copy / "other")
    config = merged(OWN, {"overrides": {"models": {"reader": "other"}}})
    assert "train_run step1 own 0" in planned(own_copy, "train", config=config)
