"""A job's log: what Python, C and children write is in it and on the screen, whatever ends the job."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from attention_distillation.settings import WORKFLOW

JOB = """
import os, signal, subprocess, sys, time
from attention_distillation.jobs import log
log.redirect({log!r}, "rule nq")
{body}
"""


def run(path, body: str) -> subprocess.CompletedProcess:
    program = JOB.format(log=str(path), body=body)
    return subprocess.run(
        [sys.executable, "-c", program], cwd=WORKFLOW, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize(
    "body",
    [
        "sys.stderr.write('the words\\n')",
        "print('the words')",
        "sys.stderr.write('the words')",  # a last line without an end
        "os.write(2, b'the words\\n')",  # as C code does
        "subprocess.run(['sh', '-c', 'echo the words >&2'])",
        "sys.stderr.write('the words\\n'); os.kill(os.getpid(), signal.SIGKILL)",
        "sys.stderr.write('the words'); os._exit(1)",
    ],
)
def test_nothing_that_was_written_is_lost(tmp_path, body):
    done = run(tmp_path / "logs" / "job.log", body)
    assert (tmp_path / "logs" / "job.log").read_text().rstrip("\n") == "the words"
    assert done.stderr == "[rule nq] the words\n" and done.stdout == ""


def test_a_redrawn_bar_is_a_line_each_time_on_the_screen(tmp_path):
    done = run(tmp_path / "job.log", "sys.stderr.write('1 of 2\\r2 of 2\\n\\n')")
    assert done.stderr == "[rule nq] 1 of 2\n[rule nq] 2 of 2\n"


def test_a_crash_in_c_is_told_with_python_s_lines(tmp_path):
    done = run(tmp_path / "job.log", "import ctypes; ctypes.string_at(0)")
    assert done.returncode == -signal.SIGSEGV
    assert "Fatal Python error: Segmentation fault" in (tmp_path / "job.log").read_text()
    assert "Segmentation fault" in done.stderr


def test_long_output_arrives_whole(tmp_path):
    done = run(tmp_path / "job.log", "for n in range(20000): print(n)")
    lines = done.stderr.splitlines()
    assert len(lines) == 20000 and lines[-1] == "[rule nq] 19999"
