"""Identities of files and folders: equal bytes are equal, other bytes never are, and a kept hash is never stale."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from concurrent.futures import ProcessPoolExecutor

import pytest

from attention_distillation.files import InputError
from attention_distillation.jobs import contents
from attention_distillation.jobs.contents import Contents, identity


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def reads(monkeypatch):
    """Paths that were read to the end."""
    paths = []
    original = contents._sha256
    monkeypatch.setattr(contents, "_sha256", lambda path, size: paths.append(path.name) or original(path, size))
    return paths


def settle(*paths):
    """The test's file is as old as a user's: its times are in the past, as far as a program can set them."""
    for path in paths:
        os.utime(path, (1e9, 1e9))


def test_a_file_is_its_hash_and_size(place):
    (place / "a").write_bytes(b"passages")
    assert identity("a") == f"{hashlib.sha256(b'passages').hexdigest()}-8"
    assert identity(place / "a") == identity("a")


def test_date_place_and_name_do_not_count(place):
    (place / "a").write_bytes(b"passages")
    shutil.copy2(place / "a", place / "b")
    before = identity("a")
    os.utime(place / "a", (5, 5))
    assert identity("a") == before == identity("b")


@pytest.mark.parametrize("older", [True, False])
def test_other_bytes_moved_into_place_are_seen_whatever_their_date(place, monkeypatch, older):
    monkeypatch.setattr(contents, "SETTLED", -1e9)  # everything is kept
    (place / "a").write_bytes(b"wrong")
    settle(place / "a")
    before = identity("a")
    assert contents.CACHE.exists()
    (place / "b").write_bytes(b"right")  # of the same size
    os.utime(place / "b", (9e8, 9e8) if older else (1e9, 1e9))
    os.replace(place / "b", place / "a")
    assert identity("a") == f"{hashlib.sha256(b'right').hexdigest()}-5" != before


def test_bytes_overwritten_in_place_with_their_date_put_back_are_seen(place, monkeypatch):
    monkeypatch.setattr(contents, "SETTLED", -1e9)
    (place / "model").mkdir()
    weights = place / "model" / "model.safetensors"
    weights.write_bytes(b"0" * 100)
    settle(weights)
    before = identity("model")
    time.sleep(0.02)  # a tick of the clock behind ctime
    with open(weights, "r+b") as file:
        file.write(b"1")
    settle(weights)
    assert identity("model") != before


def test_what_was_just_written_is_hashed_again_by_the_next_call(place, reads):
    """Within one tick of the clock a second change would leave size and times as they were."""
    (place / "a").write_bytes(b"one")
    identity("a")
    assert not contents.CACHE.exists()
    identity("a")
    assert reads == ["a", "a"]


def test_what_has_settled_is_hashed_once(place, reads, monkeypatch):
    (place / "a").write_bytes(b"one")
    later = time.time() + contents.SETTLED + 1
    monkeypatch.setattr(contents.time, "time", lambda: later)
    first = identity("a")
    assert identity("a") == first and reads == ["a"]
    shutil.rmtree(contents.CACHE.parent)
    assert identity("a") == first and reads == ["a", "a"]


def test_a_clock_that_is_ahead_is_not_trusted(place, reads):
    (place / "a").write_bytes(b"one")
    os.utime(place / "a", (time.time() + 3600, time.time() + 3600))
    identity("a")
    assert not contents.CACHE.exists()


def test_one_start_hashes_a_young_file_once(place, reads):
    (place / "a").write_bytes(b"one")
    known = Contents()
    assert known.identity("a") == known.identity("a") and reads == ["a"]
    (place / "a").write_bytes(b"other")
    known.identity("a")
    assert reads == ["a", "a"]


def test_names_within_a_folder_count_and_notes_of_tools_do_not(place):
    for name in ("one", "two"):
        (place / name / "sub").mkdir(parents=True)
        (place / name / "sub" / "x").write_bytes(b"x")
        (place / name / "y").write_bytes(b"y")
    before = identity("one")
    assert identity("two") == before
    (place / "one" / ".git").mkdir()
    (place / "one" / ".git" / "index").write_bytes(b"z")
    (place / "one" / ".snakemake_timestamp").touch()
    assert identity("one") == before
    (place / "one" / "y").rename(place / "one" / "z")
    assert identity("one") != before


def test_links_are_followed_and_a_circle_ends(place):
    (place / "blob").write_bytes(b"weights")
    (place / "snapshot").mkdir()
    (place / "snapshot" / "model").symlink_to(place / "blob")
    (place / "snapshot" / "round").symlink_to(place / "snapshot")
    (place / "plain").mkdir()
    (place / "plain" / "model").write_bytes(b"weights")
    assert identity("snapshot") == identity("plain")


@pytest.mark.parametrize("text", ["", "[]", '{"a":', '{"HERE": 3}', '{"HERE": []}'])
def test_a_cache_that_is_spoilt_costs_time_alone(place, text):
    contents.CACHE.parent.mkdir()
    contents.CACHE.write_text(text.replace("HERE", str((place / "a").resolve())))
    (place / "a").write_bytes(b"one")
    assert identity("a") == f"{hashlib.sha256(b'one').hexdigest()}-3"


def test_a_folder_that_cannot_be_written_costs_time_alone(place, monkeypatch):
    monkeypatch.setattr(contents, "SETTLED", -1e9)
    (place / ".snakemake").write_text("a file, where the cache's folder should be")
    (place / "a").write_bytes(b"one")
    assert identity("a") == f"{hashlib.sha256(b'one').hexdigest()}-3"


def _hash(name):
    return identity(name)


def test_jobs_that_hash_side_by_side_leave_a_whole_cache(place, monkeypatch):
    names = [f"file{number}" for number in range(12)]
    for name in names:
        (place / name).write_text(name)
    monkeypatch.setattr(contents, "SETTLED", -1e9)
    with ProcessPoolExecutor(4) as pool:
        said = list(pool.map(_hash, names * 3))
    assert said == [f"{hashlib.sha256(name.encode()).hexdigest()}-{len(name)}" for name in names] * 3
    assert set(json.loads(contents.CACHE.read_text())) <= {str(place / name) for name in names}


def test_what_is_not_there_is_named(place):
    with pytest.raises(InputError, match=r"nowhere\.jsonl: no such file; check the path"):
        identity("nowhere.jsonl")
