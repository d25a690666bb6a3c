"""Models from a small hub on this machine (:mod:`mirror`)."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace

import mirror
import pytest

from attention_distillation.data.hub import fetch_model, wanted
from attention_distillation.data.table import Source
from attention_distillation.files import InputError, read_json
from attention_distillation.settings import WORKFLOW

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
    "chat_template.jinja": b"{{ messages }}",
    "modules.json": b"[]",
    "1_Pooling/config.json": b"{}",
    "2_Dense/config.json": b"{}",
    "2_Dense/model.safetensors": b"dense",
    "2_Dense/pytorch_model.bin": b"pickle",
    "2_Dense/dense.py": b"raise SystemExit",
    "README.md": b"words",
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
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*.*")) == [
        "1_Pooling/config.json",
        "2_Dense/config.json",
        "2_Dense/model.safetensors",
        "chat_template.jinja",
        "config.json",
        "model.safetensors",
        "modules.json",
        "tokenizer.json",
        "vocab.txt",
    ]
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS and not (folder / "model.safetensors").is_symlink()
    entry = read_json(tmp_path / "lock.json")["thing"]
    assert entry["commit"] == COMMIT and entry["revision"] == "refs/pr/7@79322c5"
    assert entry["files"]["model.safetensors"] == hashlib.sha256(WEIGHTS).hexdigest()
    assert entry["files"]["config.json"] == hashlib.sha256(CONFIG).hexdigest()
    assert not any("pytorch_model" in path or path.endswith(".py") for path in hub.seen)


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("tokenizer.model", True),
        ("sentencepiece.bpe.model", True),
        ("preprocessor_config.json", True),
        ("config_sentence_transformers.json", True),
        ("sentence_bert_config.json", True),
        ("model-00001-of-00002.safetensors", True),
        ("model.safetensors-00001-of-00002.safetensors", True),
        ("0_Transformer/model.safetensors", True),
        ("query_0_Transformer/config.json", True),
        ("model.fp16.safetensors", False),
        ("consolidated.safetensors", False),
        ("training_args.bin", False),
        ("1_Pooling/pooling.py", False),
        ("openvino/config.json", False),
        ("../1_Pooling/config.json", False),
    ],
)
def test_which_files_are_a_model(name, taken):
    assert wanted(name) == taken


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


def test_a_module_with_pickled_weights_alone_is_refused(get, hub):
    hub.repositories["org/model"] = (
        COMMIT,
        {name: body for name, body in FILES.items() if name != "2_Dense/model.safetensors"},
    )
    with pytest.raises(InputError, match=r"no safetensors, only 2_Dense/pytorch_model\.bin"):
        get()


def test_a_repository_of_gguf_files_is_refused(get, hub):
    hub.repositories["org/model"] = COMMIT, {"model.Q4_0.gguf": b"GGUF", "config.json": CONFIG}
    with pytest.raises(InputError, match=r"only GGUF files.*a \.gguf file of it"):
        get()


def test_a_revision_that_moved_is_refused(get, hub):
    hub.repositories["org/model"] = "a" * 40, FILES
    with pytest.raises(InputError, match="is at commit a{40}, where 79322c5 was asked for"):
        get()


def test_a_branch_is_locked_at_the_first_download_and_said_to_have_moved(get, hub, tmp_path, capsys):
    get("main")
    assert f"commit {COMMIT}" in capsys.readouterr().err
    assert read_json(tmp_path / "lock.json")["thing"]["commit"] == COMMIT
    get("main", "still")
    assert "moved" not in capsys.readouterr().err
    hub.repositories["org/model"] = "b" * 40, {**FILES, "model.safetensors": b"changed"}
    assert (get("main", "again") / "model.safetensors").read_bytes() == WEIGHTS
    assert f"main has moved to commit {'b' * 40}; {COMMIT} is kept" in (said := capsys.readouterr().err)
    assert f"give org/model@{'b' * 40} as the model" in said
    assert (get("b" * 40, "moved on") / "model.safetensors").read_bytes() == b"changed"
    hub.repositories.clear()
    assert (get("b" * 40, "without a network") / "config.json").exists()


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


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (401, "", r"no such repository, or a private one \(HTTP 401\).*HF_TOKEN"),
        (404, "RepoNotFound", r"no such repository.*no such directory here.*config, or workflow/reference"),
        (403, "GatedRepo", "accepts its terms.*HF_TOKEN"),
        (404, "RevisionNotFound", "no such revision"),
    ],
)
def test_who_may_not_have_it_is_told_why_at_once(get, hub, status, code, said):
    hub.refusal = status, code
    with pytest.raises(InputError, match=said) as fault:
        get(tries=3)
    assert len(str(fault.value).splitlines()) == 1 and len(hub.seen) == 1


def test_no_such_revision_or_hub(get, hub):
    with pytest.raises(InputError, match="no such revision"):
        get("refs/pr/99")
    with pytest.raises(InputError, match="cannot be had .* check the network, HF_ENDPOINT"):
        get(endpoint="http://127.0.0.1:1", tries=2)


def test_no_environment_is_set_by_an_import():
    code = "import os; before = dict(os.environ); import attention_distillation.data.hub; assert os.environ == before"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(WORKFLOW)})
