"""GPUs of one machine, shared among the jobs that run on it: each has those that it asked for to itself.

A cluster's scheduler does this for its jobs. On one machine nothing would: Snakemake counts GPUs only where it is told
how many there are (``--resources gpu=4``), and never says which is whose.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from filelock import FileLock, Timeout

from ..files import InputError

DRIVER = Path("/proc/driver/nvidia/version")
WAIT = 5.0
"""Seconds between two looks for a GPU that is free."""
held: list[contextlib.ExitStack] = []
"""The locks of the GPUs that this process has claimed; they go with the process, however it ends."""


def visible() -> list[str]:
    """The GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them; none without NVIDIA's driver.

    Raises:
        InputError: the driver is there and fails.
    """
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name.strip() for name in chosen.split(",") if name.strip() and not name.strip().startswith("-")]
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        if not DRIVER.exists():
            return []
        raise InputError(f"nvidia-smi cannot name the GPUs ({error}); name them in CUDA_VISIBLE_DEVICES.") from None
    if done.returncode:
        said = " ".join((done.stdout + done.stderr).split())[:200]
        raise InputError(f"nvidia-smi -L fails ({said}); mend the driver, or name GPUs in CUDA_VISIBLE_DEVICES.")
    names: list[str] = []
    for kind, name in re.findall(r"UUID: ((?:GPU|MIG)-)([^)\s]+)", done.stdout):
        if kind == "MIG-" and names and names[-1].startswith("GPU-"):
            names.pop()  # a card that is cut into slices is listed before them
        names.append(kind + name)
    return names


def claim(count: int, folder: str | Path) -> None:
    """Take ``count`` GPUs for this process and those it starts, or wait until so many are free.

    Call it before CUDA is used. A lock in ``folder`` for each keeps them. Who asks for none sees none.

    Raises:
        InputError: the machine has GPUs, but not so many.
    """
    if not count:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        return
    names = visible()
    if not names:
        sys.stderr.write("there is no GPU here: runs on the CPU\n")
        return
    if len(names) < count:
        raise InputError(f"compute.gpus: {count} are asked for, and there are {len(names)}; lower it.")
    folder = Path(folder) / os.environ.get("SLURM_JOB_ID", "")  # what a scheduler gave to two jobs, they may share
    folder.mkdir(parents=True, exist_ok=True)
    taken = _try(names, count, folder)
    if not taken:
        sys.stderr.write(f"waits for {count} of {len(names)} GPUs; other jobs have them\n")
    while not taken:
        time.sleep(WAIT)
        taken = _try(names, count, folder)
    if len(taken) < len(names):
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(taken)


def _try(names: list[str], count: int, folder: Path) -> list[str]:
    """So many of ``names``, or none: who kept one while waiting for a second could wait for ever."""
    taken: list[str] = []
    with contextlib.ExitStack() as locks:
        for name in names:
            with contextlib.suppress(Timeout):
                locks.enter_context(FileLock(folder / f"{name.replace('/', '_')}.lock").acquire(timeout=0))
                taken.append(name)
            if len(taken) == count:
                held.append(locks.pop_all())
                return taken
    return []
