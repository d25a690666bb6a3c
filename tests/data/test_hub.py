"""Models from a small hub on this machine (:mod:`mirror`)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import mirror
import pytest

from attention_distillation.data.downloads import Source
from attention_distillation.data.hub import fetch_model
from attention_distillation.files import InputError, read_json

COMMIT = "79322c5" + "0" * 33
WEIGHTS = bytes(range(256)) * 500
CONFIG = json.dumps({"model_type": "falcon"}).encode()
FILES = {
    "model.safetensors": WEIGHTS,
    "config.json": CONFIG,
    "tokenizer.json": b"{}",
    "vocab.txt": b"a\nb\n",
    "pytorch_model.bin": b"pickle",
    "modeling_falcon.py": b"raise SystemExit",
    "onnx/model.safetensors": b"other",
}


@pytest.fixture
def hub():
    with mirror.running(mirror.Server({}, {"org/model": (COMMIT, FILES)})) as server:
        yield server


@pytest.fixture
def get(hub, tmp_path):
    def get(revision="refs/pr/7@79322c5", folder="model", **options):
        row = replace(Source("thing", "hub", "org/model"), revision=revision)
        place = {"cache": tmp_path / "cache", "endpoint": hub.endpoint, "sleep": lambda _: None}
        return fetch_model(row, tmp_path / folder, tmp_path / "lock.json", **{**place, **options})

    return get


def test_only_what_is_needed_and_safe_is_taken(get, tmp_path, hub):
    folder = get()
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "vocab.txt",
    ]
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS and not (folder / "model.safetensors").is_symlink()
    entry = read_json(tmp_path / "lock.json")["thing"]
    assert entry["commit"] == COMMIT and entry["revision"] == "refs/pr/7@79322c5"
    assert entry["files"]["model.safetensors"] == hashlib.sha256(WEIGHTS).hexdigest()
    assert entry["files"]["config.json"] == hashlib.sha256(CONFIG).hexdigest()
    assert not any("pytorch_model" in path or path.endswith(".py") for path in hub.seen)


def test_with_lock_and_cache_no_network_is_needed(get, hub):
    get()
    hub.seen.clear()
    assert (get(folder="again") / "model.safetensors").read_bytes() == WEIGHTS
    assert hub.seen == []


def test_a_whole_commit_is_a_pin(get):
    assert (get(COMMIT) / "config.json").exists()


def test_weights_that_would_be_unpickled_are_refused(get, hub, tmp_path):
    hub.repositories["org/model"] = COMMIT, {"pytorch_model.bin": b"pickle", "config.json": CONFIG}
    with pytest.raises(InputError, match=r"no safetensors, only pytorch_model\.bin.*refs/pr/N"):
        get()
    assert not (tmp_path / "model").exists()


def test_a_revision_that_moved_is_refused(get, hub):
    hub.repositories["org/model"] = "a" * 40, FILES
    with pytest.raises(InputError, match="is at commit a{40}, where the sources table has 79322c5"):
        get()


def test_a_ref_without_a_commit_is_locked_at_the_first_download(get, hub):
    get("main")
    hub.repositories["org/model"] = "b" * 40, {**FILES, "model.safetensors": b"changed"}
    assert (get("main", "again") / "model.safetensors").read_bytes() == WEIGHTS


def test_other_bytes_than_announced_are_refused(get, hub, tmp_path):
    hub.sent["model.safetensors"] = WEIGHTS[::-1]
    with pytest.raises(InputError, match=r"model\.safetensors: its sha256 is .* try again"):
        get()
    assert not (tmp_path / "model").exists() and not (tmp_path / "lock.json").exists()
    hub.sent.clear()
    assert (get() / "model.safetensors").read_bytes() == WEIGHTS


def test_other_bytes_than_locked_are_refused(get, hub, tmp_path):
    get()
    lock = json.loads((tmp_path / "lock.json").read_text())
    lock["thing"]["files"]["config.json"] = "0" * 64
    (tmp_path / "lock.json").write_text(json.dumps(lock))
    with pytest.raises(InputError, match=r"config\.json: its sha256 is .*, not 0{64}"):
        get(folder="again")


def test_passing_faults_are_tried_again(get, hub):
    hub.faults = 2
    assert (get() / "config.json").exists()


def test_no_such_revision_or_hub(get, hub):
    with pytest.raises(InputError, match="no such repository or revision"):
        get("refs/pr/99")
    with pytest.raises(InputError, match="cannot be had .* check the network or HF_ENDPOINT"):
        get(endpoint="http://127.0.0.1:1", tries=2)
