"""Archives that are whole, broken or that reach out of their folder."""

from __future__ import annotations

import gzip
import tarfile
import zipfile

import pytest
from mirror import tar_of

from attention_distillation.data.archives import unpack
from attention_distillation.files import InputError


def link(name: str, to: str, kind=tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, to
    return info


def test_unpack_tar_zip_and_gz(tmp_path):
    archive = tar_of(tmp_path / "a.tar.gz", {"in/one.txt": b"one", "two.txt": b"two"})
    assert (unpack(archive, tmp_path / "tar") / "in" / "one.txt").read_bytes() == b"one"
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as file:
        file.writestr("in/one.txt", "one")
    assert (unpack(tmp_path / "a.whl", tmp_path / "zip") / "in" / "one.txt").read_bytes() == b"one"
    (tmp_path / "one.txt.gz").write_bytes(gzip.compress(b"one"))
    assert (unpack(tmp_path / "one.txt.gz", tmp_path / "gz") / "one.txt").read_bytes() == b"one"
    with pytest.raises(InputError, match="no archive"):
        unpack(tmp_path / "a.rar", tmp_path)


@pytest.mark.parametrize(
    "member",
    [
        {"../out.txt": b"x"},
        {"in/../../out.txt": b"x"},
        {"/tmp/out.txt": b"x"},
        {"link": link("link", "/etc/passwd")},
        {"link": link("link", "../out.txt")},
        {"hard": link("hard", "../out.txt", tarfile.LNKTYPE)},
        {"fifo": link("fifo", "", tarfile.FIFOTYPE)},
        {"door": link("door", ".."), "door/out.txt": b"x"},
    ],
)
def test_a_tar_that_reaches_out_is_refused(tmp_path, member):
    archive = tar_of(tmp_path / "bad.tar.gz", member)
    with pytest.raises(InputError, match=r"bad\.tar\.gz.*do not trust it"):
        unpack(archive, tmp_path / "folder")
    assert not (tmp_path / "out.txt").exists()


@pytest.mark.parametrize("name", ["../out.txt", "/tmp/out.txt", "..\\out.txt"])
def test_a_zip_that_reaches_out_is_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as file:
        file.writestr(name, "x")
    with pytest.raises(InputError, match="leaves the folder"):
        unpack(tmp_path / "bad.zip", tmp_path / "folder")
    assert not (tmp_path / "out.txt").exists()


def test_broken_archives_are_named(tmp_path):
    whole = tar_of(tmp_path / "a.tar.gz", {"one.txt": bytes(range(256)) * 99}).read_bytes()
    (tmp_path / "a.tar.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "b.tar.gz").write_bytes(b"<html>not found</html>")
    (tmp_path / "c.gz").write_bytes(gzip.compress(b"one" * 99)[:-9])
    (tmp_path / "d.zip").write_bytes(b"PK")
    for name in ("a.tar.gz", "b.tar.gz", "c.gz", "d.zip"):
        with pytest.raises(InputError, match=f"{name}: broken .*delete it"):
            unpack(tmp_path / name, tmp_path / "folder")
