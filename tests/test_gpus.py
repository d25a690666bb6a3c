"""Jobs that share a machine's GPUs, with a driver that is a script."""

from __future__ import annotations

import subprocess
import sys

import pytest

from attention_distillation import gpus
from attention_distillation.records import InputError
from attention_distillation.settings import WORKFLOW

JOB = """
import os, sys, time
from attention_distillation import gpus
gpus.WAIT = 0.05
gpus.claim(int(sys.argv[1]), sys.argv[2])
print(os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
sys.stdin.read()
"""


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of so many GPUs."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def machine(count: int) -> None:
        driver = tmp_path / "bin" / "nvidia-smi"
        driver.parent.mkdir(exist_ok=True)
        driver.write_text("#!/bin/sh\n" + "".join(f"echo GPU-{number}\n" for number in range(count)))
        driver.chmod(0o755)
        monkeypatch.setenv("PATH", f"{driver.parent}:/usr/bin:/bin")

    return machine


@pytest.fixture
def job(tmp_path):
    """Start a job that claims so many and keeps them until its input is closed."""
    running = []

    def start(count: int) -> subprocess.Popen:
        command = [sys.executable, "-c", JOB, str(count), str(tmp_path / "locks")]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        running.append(subprocess.Popen(command, **pipes, text=True, cwd=WORKFLOW))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


def test_jobs_have_different_gpus_and_the_one_too_many_waits(machine, job):
    machine(3)
    assert job(1).stdout.readline() == "GPU-0\n"
    pair = job(2)
    assert pair.stdout.readline() == "GPU-1,GPU-2\n"
    late = job(1)
    assert late.stderr.readline() == "waits for 1 of 3 GPUs; other jobs have them\n" and late.poll() is None
    pair.kill()  # a killed job keeps nothing
    assert late.stdout.readline() == "GPU-1\n"


def test_who_cannot_have_all_that_it_wants_keeps_none(machine, job, tmp_path):
    machine(2)
    assert job(1).stdout.readline() == "GPU-0\n"
    assert gpus._try(["GPU-0", "GPU-1"], 2, tmp_path / "locks") == []
    assert job(1).stdout.readline() == "GPU-1\n"


@pytest.mark.parametrize(
    ("chosen", "seen"), [(None, "012"), ("2,0", "20"), ("GPU-1", "1"), ("", ""), ("-1", "")], ids=str
)
def test_only_what_the_user_lets_it_see(machine, monkeypatch, chosen, seen):
    machine(3)
    if chosen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert gpus.visible() == [f"GPU-{number}" for number in seen]


def test_too_few_are_told_and_none_are_no_matter(machine, monkeypatch, tmp_path):
    machine(1)
    with pytest.raises(InputError, match=r"compute\.gpus: 2 are asked for, and there are 1"):
        gpus.claim(2, tmp_path / "locks")
    gpus.claim(0, tmp_path / "locks")
    monkeypatch.setenv("PATH", "/nowhere")
    gpus.claim(2, tmp_path / "locks")  # CPUs do what GPUs would
    assert not (tmp_path / "locks").exists()
