"""The state of a run: whole or not there, of this run or set aside, and kept until its results are recorded."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest
import tiny
import torch
from runs import BOTH, IDENTITY, equal, masters, trainer, weights

from attention_distillation.training import state as states
from attention_distillation.training.state import Progress, State, differences, release


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    torch.set_num_threads(1)
    return tiny.material(tmp_path_factory.mktemp("material"))


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ------------------------------------------------------------------ whole or not there


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_moments_and_progress_come_back_as_they_were(material, tmp_path, dtype):
    made, other = (trainer(material, tmp_path, dtype=dtype) for _ in range(2))
    made.run()
    progress = Progress(5, [{"step": 0}], {"reader": 0.1}, 3, 1.5, 2.5)
    made.state.save(progress, made.modules, made.optimiser)
    assert other.state.load(other.modules, other.optimiser) == progress
    assert equal(masters(made), masters(other))
    assert all(equal(weights(made)[name], weights(other)[name]) for name in BOTH)
    for name in BOTH:
        one, two = (each.optimiser.moments(name) for each in (made, other))
        assert equal(one, two) and {key.rsplit(":", 1)[1] for key in one} == {"step", "exp_avg", "exp_avg_sq"}


def test_a_kill_between_the_two_renames_loses_nothing(material, tmp_path):
    made = trainer(material, tmp_path)
    made.run()
    (tmp_path / "state").rename(tmp_path / ".state.old")
    (tmp_path / ".state.part").mkdir()
    (tmp_path / ".state.part" / "reader.safetensors").write_bytes(b"half")
    other = trainer(material, tmp_path)
    assert other.state.load(other.modules, other.optimiser).step == 6
    assert equal(masters(made), masters(other))
    other.state.save(Progress(7), other.modules, other.optimiser)
    assert sorted(path.name for path in tmp_path.iterdir() if "state" in path.name) == ["state", "state.index"]


def test_a_half_written_state_is_not_taken(material, tmp_path, monkeypatch):
    made = trainer(material, tmp_path, steps=2)
    made.run()

    def full(*_args):
        raise OSError("no space left on device")

    monkeypatch.setattr(states, "write_json", full)
    with pytest.raises(OSError, match="no space"):
        made.state.save(Progress(4), made.modules, made.optimiser)
    assert made.state.load(made.modules, made.optimiser).step == 2


def test_nothing_is_pickled(material, tmp_path):
    trainer(material, tmp_path).run()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert set(Counter(path.suffix for path in files)) <= {".json", ".jsonl", ".npy", ".safetensors"}
    for path in files:
        assert path.read_bytes()[:2] not in (b"\x80\x02", b"\x80\x04", b"PK"), path
    assert json.loads((tmp_path / "state" / "state.json").read_text())["step"] == 6


# ------------------------------------------------------------------ whose it is


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"settings": "x", "code": "one"}, "settings"),
        ({"settings": "abc", "code": "two"}, "code"),
        ({"settings": "x", "code": "two"}, "code, settings"),
        ({"settings": "abc", "code": "one", "content of train": "z"}, "content of train"),
        ({"settings": "abc"}, "code"),
    ],
)
def test_a_state_of_another_run_is_set_aside_and_the_log_says_why(material, tmp_path, capsys, other, said):
    made = trainer(material, tmp_path)
    made.run()
    before = tree(tmp_path / "state")
    again = trainer(material, tmp_path, identity=other)
    start = masters(again)
    capsys.readouterr()  # what loading the models printed
    assert again.state.load(again.modules, again.optimiser) == Progress()
    assert equal(masters(again), start)
    error = capsys.readouterr().err
    assert f"of step 6 of another run ({said} differ); set aside in state.set_aside" in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "state").exists() and not (tmp_path / "state.index").exists()
    assert tree(tmp_path / "state.set_aside" / "state") == before
    assert (tmp_path / "state.set_aside" / "state.index" / "step.json").exists()


def test_only_one_is_kept_aside(material, tmp_path):
    for code in ("one", "two", "three"):
        made = trainer(material, tmp_path, identity={"code": code}, steps=2)
        made.run()
    kept = json.loads((tmp_path / "state.set_aside" / "state" / "state.json").read_text())
    assert kept["belongs_to"] == {"code": "two"}


def test_differences_are_named():
    assert differences(IDENTITY, IDENTITY) == ""
    assert differences({"a": "1", "b": "2"}, {"b": "3", "c": "4"}) == "a, b, c"


# ------------------------------------------------------------------ the end


@pytest.fixture
def ended(tmp_path) -> tuple[State, dict[str, Path]]:
    """A run that has ended: its outputs, and what was kept to go on from."""
    outputs = {name: tmp_path / name for name in ("checkpoint", "log.jsonl")}
    (outputs["checkpoint"] / "reader").mkdir(parents=True)
    (outputs["checkpoint"] / "reader" / "model.safetensors").write_bytes(b"weights")
    outputs["log.jsonl"].write_text("rows")
    for name in ("state", "state.index", "state.set_aside"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    state = State(tmp_path, IDENTITY)
    state.finish(outputs)
    return state, outputs


def test_an_ended_run_is_kept_by_links_alone(ended, tmp_path):
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint", "finished", "log.jsonl"]
    one, two = (folder / "reader" / "model.safetensors" for folder in (
        tmp_path / "checkpoint", tmp_path / "finished" / "checkpoint"))  # fmt: skip
    assert os.path.samefile(one, two)  # no room on the disk


def test_outputs_that_snakemake_deleted_come_back(ended, tmp_path):
    """As it does with those of a job whose success it had no time to record."""
    state, outputs = ended
    before = tree(tmp_path / "finished")
    (tmp_path / "checkpoint" / "reader" / "model.safetensors").unlink()
    outputs["log.jsonl"].unlink()
    assert state.restore(outputs)
    assert outputs["log.jsonl"].read_text() == "rows"
    assert (outputs["checkpoint"] / "reader" / "model.safetensors").read_bytes() == b"weights"
    assert tree(tmp_path / "finished") == before
    assert state.restore(outputs)  # killed once more


def test_what_another_run_ended_with_is_no_result_of_this(ended, tmp_path):
    _, outputs = ended
    assert not State(tmp_path, {**IDENTITY, "code": "two"}).restore(outputs)
    assert not (tmp_path / "finished").exists()


def test_a_kill_while_links_are_made_leaves_the_state(ended, tmp_path, monkeypatch):
    state, outputs = ended
    release(tmp_path)
    (tmp_path / "state").mkdir()

    def killed(*_given):
        raise KeyboardInterrupt

    monkeypatch.setattr(states, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        state.finish(outputs)
    assert (tmp_path / "state").exists() and not state.restore(outputs)


def test_where_the_disk_has_no_links_it_is_a_copy(ended, tmp_path, monkeypatch):
    state, outputs = ended

    def refuse(*_given):
        raise OSError("not supported")

    monkeypatch.setattr(os, "link", refuse)
    state.finish(outputs)
    assert (tmp_path / "finished" / "log.jsonl").read_text() == "rows"
    assert not os.path.samefile(tmp_path / "finished" / "log.jsonl", outputs["log.jsonl"])


def test_what_is_released_is_gone_and_the_results_stay(ended, tmp_path):
    release(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint", "log.jsonl"]
    release(tmp_path)  # of a run that trained nothing
