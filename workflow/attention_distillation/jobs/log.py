"""A job's log: all that it and its children write, and the same on the screen with the job's name before each line.

Standard output and error become the log file itself, so what was written is in it, whatever then kills the job: by
Python, by a library in C, by the processes of torchrun, by ``faulthandler``. A second process reads the file as it
grows and shows it; it outlives a job that is killed by as long as it takes to show the rest.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import io
import os
import re
import select
import signal
import sys
from pathlib import Path

LOOK = 0.1
"""Seconds between two looks at the log."""


def redirect(path: str | Path, label: str, *, stdout: bool = True) -> None:
    """Send standard error, and with ``stdout`` standard output, to a new log and to the screen. Call it once, early.

    Args:
        label: stands before each line on the screen, where several jobs may write.
        stdout: False where standard output is what the job is for.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o666)
    screen, shown = os.dup(2), os.open(path, os.O_RDONLY)
    ended, end = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    if not (follower := os.fork()):
        os.close(end)
        _follow(shown, screen, ended, label)
    for descriptor in (shown, screen, ended):
        os.close(descriptor)
    os.dup2(log, 2)
    sys.stderr = _unbuffered(2)
    if stdout:
        os.dup2(log, 1)
        sys.stdout = _unbuffered(1)
    os.close(log)
    faulthandler.enable(2)
    atexit.register(_wait, follower, end, os.getpid())


def _unbuffered(descriptor: int) -> io.TextIOWrapper:
    """A text stream that keeps nothing back: a last line without an end is written too."""
    raw = io.FileIO(descriptor, "w", closefd=False)
    return io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", write_through=True)


def _wait(follower: int, end: int, job: int) -> None:
    """Let the rest be shown before the job ends; a process that the job forked does not."""
    if os.getpid() == job:
        with contextlib.suppress(OSError):
            os.write(end, b".")
            os.waitpid(follower, 0)


def _follow(log: int, screen: int, ended: int, label: str) -> None:
    """Show lines as they come, until the job ends or is gone. It never returns."""
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # they end the job, whose last words are to be shown
        signal.signal(name, signal.SIG_IGN)
    rest, over = b"", False
    try:
        while True:
            new = os.read(log, 1 << 16)
            *lines, rest = _lines(rest + new)
            if over and not new:
                _show(screen, label, [*lines, rest])
                return
            _show(screen, label, lines)
            if not new:
                over = bool(select.select([ended], [], [], LOOK)[0])
    finally:
        os._exit(0)


def _lines(text: bytes) -> list[bytes]:
    """Progress bars redraw after a carriage return; side by side they would draw over each other."""
    return re.split(rb"[\r\n]", text)


def _show(screen: int, label: str, lines: list[bytes]) -> None:
    text = b"".join(b"[%s] %s\n" % (label.encode(), line) for line in lines if line.strip())
    while text:
        text = text[os.write(screen, text) :]
