"""GPUs of one machine, shared among the jobs that run on it: each has those that it asked for to itself.

A cluster's scheduler does this for its jobs. On one machine nothing would: Snakemake counts GPUs only where it is given
their number (``--resources gpu=4``), and never says which is whose. A card is known by its UUID, whatever a user calls
it, and its lock lies where every clone and every user of the machine looks.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
import subprocess
import sys
import time
from pathlib import Path

from ..files import InputError

DRIVER = Path("/proc/driver/nvidia/version")
WAIT = 5.0
"""Seconds between two looks for a GPU that is free."""
PLACES = ("/run/lock", "/tmp")
"""Where locks may lie: not TMPDIR nor XDG_RUNTIME_DIR, which differ from user to user."""


# ------------------------------------------------------------------ which GPUs there are


def _listed() -> list[tuple[str, list[str]]]:
    """``(model, UUIDs)`` of each card in the order of ``nvidia-smi``; a card that is cut has its slices' UUIDs.

    Raises:
        InputError: the driver is there and fails.
    """
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        if not DRIVER.exists():
            return []
        raise InputError(f"nvidia-smi cannot name the GPUs ({error}); name them in CUDA_VISIBLE_DEVICES.") from None
    if done.returncode:
        said = " ".join((done.stdout + done.stderr).split())[:200]
        raise InputError(f"nvidia-smi -L fails ({said}); mend the driver, or name GPUs in CUDA_VISIBLE_DEVICES.")
    cards: list[tuple[str, list[str]]] = []
    for line in done.stdout.splitlines():
        if card := re.match(r"GPU \d+: (.*) \(UUID: (GPU-[^)\s]+)\)", line):
            cards.append((card[1], [card[2]]))
        elif (part := re.search(r"\(UUID: (MIG-[^)\s]+)\)", line)) and cards:
            whole = cards[-1][1]
            whole[:] = [*(uuid for uuid in whole if uuid.startswith("MIG-")), part[1]]
    return cards


def visible() -> list[str]:
    """UUIDs of the GPUs that this process may use; none without NVIDIA's driver.

    ``CUDA_VISIBLE_DEVICES`` counts, by number, by UUID or by its beginning. Where no ``nvidia-smi`` says what they
    mean, its names stay as they are.

    Raises:
        InputError: the driver fails, or the variable names a GPU that is not there.
    """
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return [uuid for _, uuids in _listed() for uuid in uuids]
    names: list[str] = []
    for name in map(str.strip, chosen.split(",")):
        if not name or name.startswith("-"):  # CUDA looks no further
            break
        names.append(name)
    try:
        cards = _listed() if names else []
    except InputError:
        cards = []
    return list(dict.fromkeys(_uuid(name, cards) for name in names)) if cards else names


def _uuid(name: str, cards: list[tuple[str, list[str]]]) -> str:
    if name.isdigit():
        if len({model for model, _ in cards}) > 1 and os.environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
            raise InputError(
                f"CUDA_VISIBLE_DEVICES: which card is number {name} depends on CUDA_DEVICE_ORDER, for they are of "
                "several models; set that to PCI_BUS_ID (the order of nvidia-smi), or name UUIDs."
            )
        if int(name) < len(cards):
            return cards[int(name)][1][0]
    meant = [uuid for _, uuids in cards for uuid in uuids if uuid.startswith(name)]
    if len(meant) != 1:
        every = ", ".join(uuid for _, uuids in cards for uuid in uuids)
        raise InputError(f"CUDA_VISIBLE_DEVICES: '{name}' is none of this machine's GPUs ({every}); correct it.")
    return meant[0]


# ------------------------------------------------------------------ whose they are


def claim(count: int, folder: str | Path | None = None) -> list[str]:
    """Take ``count`` GPUs for this process and those it starts, or wait until so many are free.

    Call it before CUDA is used. A lock in ``folder`` (default: the machine's, :func:`place`) keeps each until the
    process ends, however it ends. Who asks for none sees none.

    Raises:
        InputError: the machine has GPUs, but not so many.
    """
    if not count:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        return []
    names = visible()
    if not names:
        sys.stderr.write("there is no GPU here: runs on the CPU\n")
        return []
    if len(names) < count:
        raise InputError(f"compute.gpus: {count} are asked for, and there are {len(names)}; lower it.")
    folder = Path(folder) if folder else place()
    taken = _try(names, count, folder)
    if not taken:
        sys.stderr.write(f"waits for {count} of {len(names)} GPUs; other jobs have them\n")
    while not taken:
        time.sleep(WAIT)
        taken = _try(names, count, folder)
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(taken)
    return taken


def place() -> Path:
    """The folder of the locks: the first that all users may write to, so that all users find the same."""
    for path in map(Path, PLACES):
        if path.is_dir() and path.stat().st_mode & stat.S_IWOTH:
            return path
    raise InputError(f"none of {', '.join(PLACES)} can be written by every user; GPUs cannot be shared out.")


def _try(names: list[str], count: int, folder: Path) -> list[str]:
    """So many of ``names``, or none: who kept one while waiting for a second could wait for ever."""
    taken: dict[str, int] = {}
    for name in names:
        lock = _opened(folder / _lock_name(name))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            taken[name] = lock  # an open descriptor, and the lock with it, lasts as long as the process
        except BlockingIOError:
            os.close(lock)
        if len(taken) == count:
            return list(taken)
    for lock in taken.values():
        os.close(lock)
    return []


def _lock_name(name: str) -> str:
    """Of one scheduler's jobs: what it gave to two of them, they may share."""
    job = os.environ.get("SLURM_JOB_ID", "")
    return f"attention-distillation.{name.replace('/', '_')}{job and f'.job{job}'}.lock"


def _opened(path: Path) -> int:
    """A lock that another user may have made; it stays when nobody holds it.

    filelock opens with O_CREAT, which the kernel refuses on another user's file in a folder like /tmp
    (fs.protected_regular); for flock it is enough to read.

    Raises:
        InputError: it cannot be opened.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        try:
            return os.open(path, flags)
        except FileNotFoundError:
            try:
                lock = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o644)
            except FileExistsError:  # another job was faster
                return os.open(path, flags)
            os.fchmod(lock, 0o644)  # whatever the umask
            return lock
    except OSError as error:
        raise InputError(f"{path}: the lock of a GPU cannot be opened ({error.strerror}); remove it.") from None
