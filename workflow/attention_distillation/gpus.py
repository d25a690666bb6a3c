"""GPUs of one machine, shared among the jobs that run on it: each has those that it asked for to itself.

A cluster's scheduler does this for its jobs. On one machine nothing would: Snakemake counts GPUs only where it is told
how many there are (``--resources gpu=4``), and never says which is whose.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from filelock import FileLock, Timeout

from .records import InputError

WAIT = 5.0
"""Seconds between two looks for a GPU that is free."""
_held: list[FileLock] = []  # until this process ends, however it does


def visible() -> list[str]:
    """The GPUs that this process may use, by their UUIDs; none without NVIDIA's driver."""
    command = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
    try:
        there = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return []
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return there
    names = [name.strip() for name in chosen.split(",") if name.strip() and not name.strip().startswith("-")]
    return [there[int(name)] if name.isdigit() and int(name) < len(there) else name for name in names]


def claim(count: int, folder: str | Path) -> None:
    """Take ``count`` GPUs for this process and those it starts, or wait until so many are free.

    Call it before CUDA is used. A lock in ``folder`` for each keeps them; it goes with the process.

    Raises:
        InputError: the machine has GPUs, but not so many.
    """
    names = visible() if count else []
    if not names:
        return
    if len(names) < count:
        raise InputError(f"compute.gpus: {count} are asked for, and there are {len(names)}; lower it.")
    Path(folder).mkdir(parents=True, exist_ok=True)
    waits = False
    while not (taken := _try(names, count, Path(folder))):
        if not waits:
            sys.stderr.write(f"waits for {count} of {len(names)} GPUs; other jobs have them\n")
        waits = True
        time.sleep(WAIT)
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(taken)


def _try(names: list[str], count: int, folder: Path) -> list[str]:
    """So many of ``names``, or none: who kept one while waiting for a second could wait for ever."""
    taken: dict[str, FileLock] = {}
    for name in names:
        lock = FileLock(folder / f"{name.replace('/', '_')}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        taken[name] = lock
        if len(taken) == count:
            _held.extend(taken.values())
            return list(taken)
    for lock in taken.values():
        lock.release()
    return []
