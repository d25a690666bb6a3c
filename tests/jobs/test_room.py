"""Work that the machine has no room for is refused before it begins, in one line that says what to do."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from attention_distillation.files import InputError
from attention_distillation.jobs import room
from attention_distillation.settings import WORKFLOW, Adapter

MODELS = {part: WORKFLOW / "pretrained" / "miniature" / part for part in ("reader", "retriever")}


@pytest.fixture
def machine(monkeypatch):
    """Call it to say how much disk and memory is free, in GB."""

    def free(disk: float = 1000, memory: float = 1000) -> None:
        monkeypatch.setattr(room.shutil, "disk_usage", lambda _: SimpleNamespace(free=disk * 1e9))
        monkeypatch.setattr(room.psutil, "virtual_memory", lambda: SimpleNamespace(available=memory * 1e9))

    return free


def test_disk_and_memory_are_told_with_what_to_do(machine, tmp_path):
    machine(disk=2, memory=3)
    room.check_disk(tmp_path, 2e9)
    room.check_memory("training", 3e9)
    with pytest.raises(InputError, match=r"needs 2\.5 GB and 2\.0 GB are free; make room, or link 'results'"):
        room.check_disk(tmp_path / "not" / "there", 2.5e9)
    with pytest.raises(InputError, match=r"training: needs about 3\.5 GB of memory and 3\.0 GB are free; end other"):
        room.check_memory("training", 3.5e9)


def test_tokenising_asks_for_the_size_of_the_tokens(machine, tmp_path):
    (tmp_path / "p.arrow").write_bytes(b"x" * 9_000_000)
    machine(disk=0.005)
    room.check_tokenising(tmp_path / "t.npy", tmp_path / "p.arrow", 30_000)  # 2 million tokens of 2 bytes
    with pytest.raises(InputError, match=r"t\.npy: needs"):
        room.check_tokenising(tmp_path / "t.npy", tmp_path / "p.arrow", 100_000)


@pytest.mark.parametrize(("dtype", "enough"), [("float16", True), ("float32", False)])
def test_embedding_asks_for_the_size_of_the_shard(machine, tmp_path, dtype, enough):
    """3 million vectors of 128: 0.77 GB in half precision, 1.54 GB in full."""
    machine(disk=1)
    call = (tmp_path / "s.npy", 3_000_000, 128, MODELS["retriever"], dtype)
    if enough:
        room.check_embedding(*call, on_gpu=False)
    else:
        with pytest.raises(InputError, match=r"s\.npy: needs 1\.5 GB"):
            room.check_embedding(*call, on_gpu=False)


def test_embedding_asks_for_memory(machine, tmp_path):
    machine(memory=0.5)
    with pytest.raises(InputError, match=r"embedding: needs about 0\.6 GB of memory"):
        room.check_embedding(tmp_path / "s.npy", 10, 128, MODELS["retriever"], "float32", on_gpu=False)
    machine(memory=1)
    room.check_embedding(tmp_path / "s.npy", 10, 128, MODELS["retriever"], "float32", on_gpu=False)
    with pytest.raises(InputError, match=r"needs about 2\.6 GB"):
        room.check_embedding(tmp_path / "s.npy", 10, 128, MODELS["retriever"], "float32", on_gpu=True)


def test_training_asks_for_state_checkpoint_and_index(machine, tmp_path):
    """28 bytes for each of the 998 thousand weights, and the shards."""
    np.save(tmp_path / "shard.npy", np.zeros(10_000_000, np.uint8))
    run = tmp_path / "run"
    run.mkdir()

    def check(trained, shards=()):
        room.check_training(run, MODELS, trained, shards, on_gpu=False)

    machine(disk=0.0285)
    check(["reader", "retriever"])
    with pytest.raises(InputError, match="needs 0.0 GB and 0.0 GB are free"):
        check(["reader", "retriever"], [tmp_path / "shard.npy"])
    check(["retriever"], [tmp_path / "shard.npy"])
    (run / "state.index").mkdir()  # a killed run's files: they are there already
    (run / "state.index" / "shard-0.npy").write_bytes(b"x" * 10_000_000)
    check(["reader", "retriever"], [tmp_path / "shard.npy"])


def test_training_asks_for_memory(machine, tmp_path):
    machine(memory=0.61)
    with pytest.raises(InputError, match="training: needs about"):
        room.check_training(tmp_path, MODELS, ["reader", "retriever"], [], on_gpu=False)
    room.check_training(tmp_path, MODELS, [], [], on_gpu=False)


def test_a_reader_trained_by_lora_asks_for_its_adapters_state_and_a_whole_checkpoint(machine, tmp_path):
    adapter = Adapter(r=1, targets=["dense"])
    heads, width = room._tensors(MODELS["reader"]), 128
    dense = sum(sum(shape) for name, shape in heads if name.endswith(".dense.weight"))
    assert room.adapter_weights(MODELS["reader"], adapter) == dense == 2 * (width + width)
    whole = room.weights(MODELS["reader"])
    every = sum(sum(shape) for _, shape in room._tensors(MODELS["reader"]) if len(shape) == 2)
    assert room.adapter_weights(MODELS["reader"], Adapter(r=3)) == 3 * every

    def check(adapter):
        room.check_training(tmp_path / "run", MODELS, ["reader"], [], on_gpu=False, adapter=adapter)

    machine(disk=(4 * whole + 24 * dense) / 1e9)
    check(adapter)
    with pytest.raises(InputError, match="GB are free"):
        check(None)
    machine(disk=(4 * whole + 24 * dense - 1) / 1e9)
    with pytest.raises(InputError, match="GB are free"):
        check(adapter)


def test_weights_are_counted_over_all_files_of_a_model(tmp_path):
    from safetensors.numpy import save_file

    save_file({"a": np.zeros((3, 4), np.float16), "b": np.zeros(5, np.float32)}, tmp_path / "x.safetensors")
    save_file({"c": np.zeros((), np.float32)}, tmp_path / "y.safetensors", metadata={"format": "np"})
    assert room.weights(tmp_path) == 18


def test_asking_costs_no_torch():
    """Checks run in every job; planning runs on a cluster's login node."""
    rooms = "from attention_distillation.jobs import room; from attention_distillation.planning import planner"
    code = f"import sys; {rooms}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(WORKFLOW)})
