"""A job from files to files: on one process or two, alone, gone on with only as the run that it was."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import models
import numpy as np
import pytest
import tiny
import torch
from filelock import FileLock
from pydantic import ValidationError
from replica_runs import RETRIEVAL
from safetensors.torch import load_file

from attention_distillation import records
from attention_distillation.data import miniature
from attention_distillation.files import InputError, read_jsonl
from attention_distillation.jobs import room
from attention_distillation.settings import Distillation, Training
from attention_distillation.training.job import TrainJob, train_on
from attention_distillation.training.loop import Trainer
from attention_distillation.training.state import release

ROOT = Path(__file__).parents[2]
OUTPUTS = ["checkpoint", "finished", "log.jsonl", "retrieved.parquet"]


@pytest.fixture(scope="module", autouse=True)
def paths():
    """Where launched processes find the package and the helpers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "workflow"), str(ROOT / "tests" / "support")]))
        yield


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    """What the rules before training write."""
    folder = tmp_path_factory.mktemp("inputs")
    tiny.material(folder)
    for split in records.SPLITS:
        records.write_questions(folder / f"{split}.jsonl", miniature.questions(tiny.WORLD)[split])
    models.reader("falcon_alibi").save(folder / "reader")
    tiny.bert().save(folder / "retriever")
    return folder


def job(inputs: Path, run: Path, **changed) -> TrainJob:
    training = {"learning_rate": 5e-4, "steps": 4, "batch_size": 4, "refresh_every": 2, **changed.pop("training", {})}
    given = {
        "dataset": "nq", "experiment": "off_the_shelf", "seed": 0, "architecture": "decoder_only",
        "train": ["reader", "retriever"], "signal": "attention", "training": Training(**training),
        "distillation": Distillation(tau_gold=0.3), "retrieval": RETRIEVAL, "precision": "float32",
        "prompt": {"passage_max_tokens": 80, "answer_max_tokens": 6}, "origins": {}, "code": "abc",
        "save_seconds": 600,
    }  # fmt: skip
    names = (
        "tokens.npy",
        "offsets.npy",
        "passages.arrow",
        "train.jsonl",
        "dev.jsonl",
        "test.jsonl",
        "reader",
        "retriever",
    )
    return TrainJob(
        inputs={name.split(".")[0]: inputs / name for name in names} | {"shards": [inputs / "shard-0.npy"]},
        outputs={
            "checkpoint": run / "checkpoint", "log": run / "log.jsonl", "retrieved": run / "retrieved.parquet",
        },
        **{**given, **changed},
    )  # fmt: skip


def rows(run: Path) -> list[dict]:
    return [row for _, row in read_jsonl(run / "log.jsonl")]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class Steps:
    """The steps that runs take in this process, and the one before which they are killed."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.stop: int | None = None


@pytest.fixture
def steps(monkeypatch) -> Steps:
    seen, step = Steps(), Trainer.step

    def counted(self, batch, number, parts):
        if number == seen.stop:
            seen.stop = None
            seen.taken = []
            raise KeyboardInterrupt
        seen.taken.append(number)
        return step(self, batch, number, parts)

    monkeypatch.setattr(Trainer, "step", counted)
    return seen


# ------------------------------------------------------------------ the description


def test_a_job_is_the_same_after_json(inputs, tmp_path):
    made = job(inputs, tmp_path)
    again = TrainJob(**json.loads(json.dumps(made.model_dump(mode="json"))))
    assert again == made and again.identity() == made.identity()


@pytest.mark.parametrize(
    "changed", [{"signal": "attentoin"}, {"experment": "x"}, {"seed": "zero"}, {"train": ["index"]}]
)
def test_a_job_that_says_what_nobody_knows_is_refused(inputs, tmp_path, changed):
    with pytest.raises(ValidationError):
        job(inputs, tmp_path, **changed)


# ------------------------------------------------------------------ large readers


def test_a_reader_trained_by_lora_is_left_as_a_plain_directory_and_its_job_may_be_killed(inputs, tmp_path, steps):
    runs = {}
    for name, stop in (("whole", None), ("killed", 3)):
        made = job(inputs, tmp_path / name, train_adapter={"r": 2}, save_seconds=0)
        if stop:
            steps.stop = stop
            with pytest.raises(KeyboardInterrupt):
                train_on(0, made, 1)
        train_on(0, made, 1)
        runs[name] = tmp_path / name / "checkpoint" / "reader"
    weights = [load_file(runs[name] / "model.safetensors") for name in ("whole", "killed")]
    start = load_file(inputs / "reader" / "model.safetensors")
    assert weights[0].keys() == weights[1].keys() == start.keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in start)
    assert {name for name in start if not torch.equal(weights[0][name], start[name])}
    assert job(inputs, tmp_path).identity()["settings"] != made.identity()["settings"]


def test_a_reader_in_few_bits_teaches(inputs, tmp_path):
    models.reader("llama_grouped").save(tmp_path / "reader")
    logs = []
    for bits in (None, 4):
        made = job(inputs, tmp_path / str(bits), train=["retriever"], reader_bits=bits)
        made = made.model_copy(update={"inputs": made.inputs.model_copy(update={"reader": tmp_path / "reader"})})
        train_on(0, made, 1)
        logs.append(rows(tmp_path / str(bits))[-1]["retriever_loss"])
    assert logs[0] != logs[1] and 0.5 < logs[1] / logs[0] < 2  # what its attention is: tests/models/readers


# ------------------------------------------------------------------ what a state belongs to


def line_more(path: Path) -> None:
    path.write_text(path.read_text() + path.read_text().splitlines()[0] + "\n")


def bit_changed(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


CHANGES: dict[str, Callable[[Path], dict]] = {
    "content of train": lambda inputs: line_more(inputs / "train.jsonl") or {},
    "content of dev": lambda inputs: line_more(inputs / "dev.jsonl") or {},
    "content of passages": lambda inputs: bit_changed(inputs / "passages.arrow") or {},
    "content of tokens": lambda inputs: bit_changed(inputs / "tokens.npy") or {},
    "content of shards": lambda inputs: bit_changed(inputs / "shard-0.npy") or {},
    "content of reader": lambda inputs: bit_changed(inputs / "reader" / "model.safetensors") or {},
    "content of retriever": lambda inputs: bit_changed(inputs / "retriever" / "model.safetensors") or {},
    "settings": lambda _: {"training": {"learning_rate": 1e-4}},
    "settings of origins": lambda _: {"origins": {"step1": {"training": {"steps": 3}}}},
    "code": lambda _: {"code": "abd"},
}


@pytest.mark.parametrize("part", CHANGES)
def test_whatever_a_run_rests_on_is_part_of_its_identity(inputs, tmp_path, part):
    own = shutil.copytree(inputs, tmp_path / "inputs")
    before = job(own, tmp_path).identity()
    after = job(own, tmp_path, **CHANGES[part](own)).identity()
    assert before.keys() == after.keys()
    assert [name for name in before if before[name] != after[name]] == [part]


def test_dates_places_and_how_often_is_saved_are_not(inputs, tmp_path):
    own = shutil.copytree(inputs, tmp_path / "elsewhere")
    os.utime(own / "train.jsonl", (1, 1))
    assert job(own, tmp_path / "run", save_seconds=1).identity() == job(inputs, tmp_path).identity()


@pytest.mark.parametrize("part", ["content of train", "content of reader", "settings", "settings of origins", "code"])
def test_a_half_trained_run_is_not_gone_on_with_as_another(inputs, tmp_path, capsys, steps, part):
    """Killed with one reader, questions or rate, and started again with another: from step 0, and the log says why."""
    own, run = shutil.copytree(inputs, tmp_path / "inputs"), tmp_path / "run"
    steps.stop = 3
    with pytest.raises(KeyboardInterrupt):
        train_on(1, job(own, run), 1)
    assert (run / "state" / "state.json").exists()
    if part == "content of reader":  # step1 was trained again
        other = models.reader("falcon_alibi")
        models.randomise(other.model, 5)
        other.save(own / "reader")
    changed = {} if part == "content of reader" else CHANGES[part](own)
    train_on(1, job(own, run, **changed), 1)
    assert steps.taken == [0, 1, 2, 3]
    assert f"of step 2 of another run ({part} differ); set aside" in capsys.readouterr().err
    assert names(run) == OUTPUTS
    fresh = tmp_path / "fresh"
    train_on(1, job(own, fresh, **changed), 1)
    for name in ("checkpoint/reader/model.safetensors", "checkpoint/retriever/model.safetensors", "retrieved.parquet"):
        assert (run / name).read_bytes() == (fresh / name).read_bytes(), name


def test_a_killed_job_goes_on(inputs, tmp_path, steps):
    steps.stop = 3
    with pytest.raises(KeyboardInterrupt):
        train_on(1, job(inputs, tmp_path / "run"), 1)
    train_on(1, job(inputs, tmp_path / "run"), 1)
    assert steps.taken == [2, 3]


# ------------------------------------------------------------------ the end


def test_a_job_that_ended_unrecorded_does_nothing_twice(inputs, tmp_path, steps):
    """Snakemake was killed between the job's end and its record of it, and deletes what it takes for half made."""
    run = tmp_path / "run"
    train_on(1, job(inputs, run), 1)
    kept = {path: path.read_bytes() for path in (*(run / "checkpoint").rglob("*"), run / "log.jsonl") if path.is_file()}
    shutil.rmtree(run / "checkpoint")
    (run / "log.jsonl").unlink()
    (run / "retrieved.parquet").unlink()
    steps.taken = []
    train_on(1, job(inputs, run), 1)
    assert steps.taken == [] and names(run) == OUTPUTS
    assert all(path.read_bytes() == content for path, content in kept.items())
    release(run)  # evaluated: what is deleted now is to be made again
    train_on(1, job(inputs, run), 1)
    assert steps.taken == [0, 1, 2, 3]


def test_provenance_says_what_the_run_rested_on(inputs, tmp_path):
    made = job(inputs, tmp_path)
    train_on(1, made, 1)
    facts = json.loads((tmp_path / "checkpoint" / "provenance.json").read_text())
    assert facts["belongs_to"] == made.identity()
    about = facts["retriever"]
    assert about["similarity"] == "dot" and about["modules"][1] == "Pooling mean"
    assert about["temperature"] == math.sqrt(about["size"]) * made.distillation.theta


def test_a_job_on_two_is_the_job_on_one(inputs, tmp_path):
    """By the way that the rule takes."""
    logs, retrieved = [], []
    for processes in (1, 2):
        run = tmp_path / f"on{processes}"
        train_on(processes, job(inputs, run), 2)
        logs.append(rows(run))
        assert names(run) == OUTPUTS
        assert names(run / "checkpoint") == ["provenance.json", "reader", "retriever"]
        retrieved.append(records.read_retrieved(run / "retrieved.parquet", 10**6))
    assert retrieved[0].shape == (len(miniature.questions(tiny.WORLD)["test"]), RETRIEVAL.k)
    assert np.mean(retrieved[0] == retrieved[1]) > 0.95
    for loss in ("reader_loss", "retriever_loss"):
        assert logs[1][-1][loss] == pytest.approx(logs[0][-1][loss], abs=1e-5)


def test_a_run_that_another_job_trains_is_left_alone(inputs, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    with FileLock(run / ".busy"), pytest.raises(InputError, match=r"run: another job trains this run; wait"):
        train_on(1, job(inputs, run), 1)
    assert list(run.iterdir()) in ([], [run / ".busy"])


def test_what_is_set_aside_is_not_counted_as_room(inputs, tmp_path, monkeypatch):
    """A killed run's state is written over; one of another run stays until this one ends."""
    asked = []
    monkeypatch.setattr(room, "check_disk", lambda _path, needed: asked.append(needed))
    for name in ("state", "state.set_aside"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"x" * 1000)
        parts = {part: inputs / part for part in ("reader", "retriever")}
        room.check_training(tmp_path, parts, ["reader"], [], on_gpu=False)
    assert asked[0] == asked[1]
